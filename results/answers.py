"""All that a report says, computed once from records; tables and plots only lay it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Protocol

import pandas as pd

from results.ablations import ablation_effects
from results.absent import absent_cells, restrict
from results.collapse import flags
from results.compare import comparisons
from results.costs import costs
from results.curves import Curves
from results.frames import from_records, is_stage
from results.gap import declared, gaps, options_of
from results.overview import average_ranks
from results.single import single_run_intervals
from results.stages import stage_cells
from results.standings import standings
from results.tables import leaderboard
from results.tuning import tuning_ledger
from results.variance import variance_split
from results.withheld import to_be_measured, withheld_cells

Expected = Sequence[Mapping[str, Any]]


class Source(Protocol):
    """A record store, or anything else that is read like one."""

    def records(self) -> Iterable[dict[str, Any]]:
        """All records."""

    def failures(self) -> Mapping[str, Mapping[str, Any]]:
        """Failures by key, of cells that have no record."""

    def read_ranks(self, key: str) -> pd.DataFrame | None:
        """Outcomes of a record's queries, or None where it has none."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Tidy frames, each sorted; empty with its columns where there is nothing to say."""

    frame: pd.DataFrame
    """One row per record and metric (`frames.COLUMNS`)."""
    board: pd.DataFrame
    """Means and intervals over seeds (`tables.BOARD_COLUMNS`)."""
    absent: pd.DataFrame
    """Missing and failed cells (`absent.ABSENT_COLUMNS`)."""
    withheld: pd.DataFrame
    """Records without public targets (`withheld.WITHHELD_COLUMNS`)."""
    stages: pd.DataFrame
    """Trainings before a method's own (`stages.STAGE_COLUMNS`)."""
    left_out: int
    """Stored records that are not the study's."""
    curves: pd.DataFrame
    """Loss curves at each row's highest shot count (`curves.CURVE_COLUMNS`)."""
    costs: pd.DataFrame
    """Seconds, parameters and scoring time of each method (`costs.COST_COLUMNS`)."""
    comparisons: pd.DataFrame
    """All pairs of every column (`compare.COMPARISON_COLUMNS`)."""
    standings: pd.DataFrame
    """Ties with the best and intervals of ranks (`standings.STANDINGS_COLUMNS`)."""
    singles: pd.DataFrame
    """Intervals of training-free methods over queries (`single.SINGLE_COLUMNS`)."""
    flags: pd.DataFrame
    """Runs that look collapsed; they stay in every mean (`collapse.FLAG_COLUMNS`)."""
    variance: pd.DataFrame
    """What the draw and the training seed vary, where crossed (`variance.VARIANCE_COLUMNS`)."""
    overview: pd.DataFrame
    """Average ranks over datasets (`overview.OVERVIEW_COLUMNS`)."""
    ablations: pd.DataFrame
    """Differences against the base (`ablations.ABLATION_COLUMNS`)."""
    gaps: pd.DataFrame
    """Published numbers beside ours (`gap.GAP_COLUMNS`)."""
    ledger: pd.DataFrame
    """Tries and seconds of all stored records, the study's or not (`tuning.LEDGER_COLUMNS`)."""


def answers(source: Source, expected: Expected | None = None) -> Answers:
    """Read a source once and compute everything that tables and plots show.

    expected: the study's cells (see `absent.absent_cells`); those without a record are named, and
    records outside the study are left out, with their count. None takes all records.

    Raises:
        RecordError: a record cannot be read.
        ValueError: records contradict one another, such as two at one position.
    """
    notes = _Notes(expected)
    every = from_records(notes.taken(source.records()))
    frame = restrict(every, expected)
    failures = source.failures()
    withheld = withheld_cells(notes.others, expected)
    stages = stage_cells(notes.others, expected)
    measured = to_be_measured(expected, withheld)
    board = leaderboard(frame, measured, failures)
    compared = comparisons(frame, source.read_ranks)
    return Answers(
        frame=frame,
        board=board,
        absent=absent_cells(frame, measured, failures),
        withheld=withheld,
        stages=stages,
        left_out=len(notes.light) - frame["key"].nunique() - len(withheld) - len(stages),
        curves=notes.curves.frame(),
        costs=costs(frame),
        comparisons=compared,
        standings=standings(board, compared),
        singles=single_run_intervals(frame, source.read_ranks),
        flags=flags(frame, failures),
        variance=variance_split(frame),
        overview=average_ranks(board),
        ablations=ablation_effects(frame, source.read_ranks),
        gaps=gaps(board, options_of(notes.light, expected), declared(expected)),
        ledger=tuning_ledger(notes.light),
    )


class _Notes:
    """What is kept of records that pass by, beside the frame."""

    def __init__(self, expected: Expected | None) -> None:
        self._mine = None if expected is None else {str(cell["key"]) for cell in expected}
        self._shared: dict[str, Any] = {}
        self.light: list[dict[str, Any]] = []
        """Every record without its results."""
        self.others: list[dict[str, Any]] = []
        """Stages and records of withheld targets, whole."""
        self.curves = Curves()

    def taken(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same records, noted."""
        for record in records:
            self.light.append(self._light(record))
            if is_stage(record) or record.get("withheld"):
                self.others.append(record)
            elif self._mine is None or record["key"] in self._mine:
                self.curves.add(record)
            yield record

    def _light(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Where a record stands, how it was configured and what it took.

        Configurations are shared between records: a hundred thousand would fill the memory.
        """
        identity = {k: v for k, v in record["identity"].items() if k not in ("seed", "shots")}
        return {
            "key": record["key"],
            "cell": {k: intern(v) if type(v) is str else v for k, v in record["cell"].items()},
            "identity": self._shared.setdefault(repr(identity), identity),
            "timings": record["timings"],
            "engine": self._shared.setdefault(repr(record["engine"]), record["engine"]),
        }
