"""The records of a run in a notebook: tidy frames, comparisons, plots (`promptgrid.load`)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from results.answers import Answers, Expected, Source, answers
from results.board_section import main_table
from results.document import Block, Heading, Paragraph
from results.frames import TABLE
from results.html import html_part
from results.planned import planned_cells
from results.plots import KINDS, drawings
from results.shipped import INDEX, ShippedRecords
from results.store import RecordStore
from results.table_files import answer_grids
from results.tables import titles
from results.wording import counted

LEADERBOARD_COLUMNS = (
    *TABLE,
    "label",
    "shots",
    "metric",
    "mean",
    "half_width",
    "n",
    "n_expected",
    "tied",
    "rank_low",
    "rank_high",
    "trainable_parameters",
)


def load(folder: str | Path) -> Results:
    """The records below a run's folder, or in a folder of shipped records.

    Where a study was run into the folder, its cells alone are taken, and those without a record
    are named in `absent`, as `promptgrid report` does.

    >>> run = load("runs/demo")
    >>> len(run.records) > 0
    True

    Raises:
        FileNotFoundError: the folder holds no records.
    """
    root = Path(folder)
    if not (root / "records").is_dir():
        raise FileNotFoundError(
            f"{root}: no records there; give the folder of a run, such as runs/demo"
        )
    if (root / INDEX).is_file():
        return Results(ShippedRecords(root), str(folder))
    return Results(RecordStore(root), str(folder), planned_cells(root))


class Results:
    """What the records of a run say. Frames are computed once, when first asked for.

    All numbers are fractions, differences too.
    """

    def __init__(self, source: Source, name: str = "", expected: Expected | None = None) -> None:
        """Nothing is read yet. expected: see `answers.answers`."""
        self._source, self._name, self._expected = source, name, expected

    @cached_property
    def answers(self) -> Answers:
        """Everything that a report says, as frames."""
        return answers(self._source, self._expected)

    @property
    def records(self) -> pd.DataFrame:
        """One row per record and metric.

        >>> run = load("runs/demo")
        >>> heads = run.records[run.records["headline"]]
        >>> bool(heads.groupby(["dataset", "method", "shots"])["value"].mean().between(0, 1).all())
        True
        """
        return self.answers.frame

    def leaderboard(self, dataset: str | None = None, shots: int | None = None) -> pd.DataFrame:
        """`LEADERBOARD_COLUMNS`: the headline of every method in every column it stands in.

        Methods that train nothing stand in the columns of all shot counts. `tied` is true where a
        method is not significantly below the best of its column. A cell without a record has
        n = 0 and no mean.

        >>> run = load("runs/demo")
        >>> best = run.leaderboard("roles", shots=4).query("tied")
        >>> bool((best["rank_low"] == 1).any())
        True
        """
        rows = [
            {
                **dict(zip(TABLE, grid.table, strict=True)),
                **entry,
                "label": row.label,
                "shots": column,
                "tied": standing is not None and standing.tied,
                "rank_low": None if standing is None else standing.low,
                "rank_high": None if standing is None else standing.high,
            }
            for grid in answer_grids(self.answers)
            for column in grid.columns
            for row in grid.rows
            if (entry := row.at(column)) is not None
            for standing in [row.standings.get(column)]
        ]
        board = pd.DataFrame(rows, columns=list(LEADERBOARD_COLUMNS))
        board = board.astype({"rank_low": "Int64", "rank_high": "Int64"})
        board = _of_dataset(board, dataset)
        if shots is not None:
            board = board[board["shots"] == _one_of(shots, board["shots"], "shot count")]
        return board.reset_index(drop=True)

    @property
    def comparisons(self) -> pd.DataFrame:
        """All pairs of methods that stand in one column, Holm-adjusted over the column.

        >>> run = load("runs/demo")
        >>> set(run.comparisons.columns) >= {"first", "second", "difference", "low", "high"}
        True
        """
        return self.answers.comparisons

    def compare(
        self, first: str, second: str, dataset: str | None = None, shots: int | None = None
    ) -> pd.Series[Any]:
        """First minus second, as in `comparisons`, whichever of the two stands first there.

        first, second: labels as in the leaderboard. dataset: `name` or `name/task`, needed where
        the run has several. shots: needed where the two stand in several columns.

        >>> run = load("runs/demo")
        >>> found = run.compare("coop", "zero-shot", dataset="roles", shots=4)
        >>> bool(found.low < found.difference < found.high)
        True

        Raises:
            ValueError: there is no such pair, or more than one that could be meant.
        """
        pairs = _of_dataset(self.comparisons, dataset)
        tables = pairs[list(TABLE)].drop_duplicates()
        if len(tables) > 1:
            kinds = [" ".join(part for part in row if part) for row in tables.itertuples(False)]
            raise ValueError(f"several tables could be meant: {'; '.join(kinds)}; give `dataset`")
        for label in (first, second):
            _one_of(label, [*pairs["first"], *pairs["second"]], "method")
        as_asked = (pairs["first"] == first) & (pairs["second"] == second)
        turned = (pairs["first"] == second) & (pairs["second"] == first)
        found = pairs[as_asked | turned]
        if shots is not None:
            found = found[found["shots"] == _one_of(shots, found["shots"], "shot count")]
        if len(found) != 1:
            known = ", ".join(map(str, sorted(found["shots"]))) or "none"
            raise ValueError(
                f"{first} and {second} share several columns, or none; give `shots`: {known}"
            )
        pair = found.iloc[0].copy()
        if pair["first"] != first:
            was = pair.copy()
            pair["first"], pair["second"] = first, second
            pair["difference"], pair["effect"] = -was["difference"], -was["effect"]
            pair["low"], pair["high"] = -was["high"], -was["low"]
            pair["won"], pair["lost"] = was["lost"], was["won"]
        return pair

    def queries(self, key: str) -> pd.DataFrame:
        """Outcome of every query of a record: query_id, part, rank (from 1), value and more.

        key: a record's key or the beginning of it.

        >>> run = load("runs/demo")
        >>> bool(run.queries(run.records["key"].iloc[0])["value"].between(0, 1).all())
        True
        """
        found = sorted({known for known in self.records["key"] if known.startswith(key)})
        if len(found) != 1:
            raise KeyError(
                f"{len(found)} records have a key that begins with {key!r}; "
                "`records` has the keys in the column `key`"
            )
        ranks = self._source.read_ranks(found[0])
        if ranks is None:
            raise KeyError(f"record {found[0]} has no outcomes of queries")
        return ranks

    @property
    def absent(self) -> pd.DataFrame:
        """Cells of the study that are missing or failed, with the reason.

        >>> run = load("runs/demo")
        >>> run.absent[["method", "dataset", "shots", "seed", "status"]].empty
        True
        """
        return self.answers.absent

    @property
    def ablations(self) -> pd.DataFrame:
        """Differences of ablations against their base, with paired intervals.

        >>> run = load("runs/demo")
        >>> set(run.ablations.columns) >= {"base", "option", "difference", "low", "high"}
        True
        """
        return self.answers.ablations

    def plot(self, kind: str = "shots", dataset: str | None = None) -> Figure:
        """One of the report's plots as a matplotlib figure.

        kind: one of `plots.KINDS`: shots, ranks, losses, costs, scores, average-ranks, ablation.
        dataset: `name` or `name/task`, needed where there are several such plots.

        >>> run = load("runs/demo")
        >>> figure = run.plot("shots", dataset="roles")
        >>> figure.savefig("shots.png")
        """
        _one_of(kind, KINDS, "kind of plot")
        every = [one for one in drawings(self.answers) if one.kind == kind]
        found = [
            one for one in every if dataset is None or dataset in (one.about, _name(one.about))
        ]
        if len(found) != 1:
            known = ", ".join(sorted({one.about for one in every})) or "none"
            raise ValueError(f"{len(found)} plots {kind!r} of {dataset or 'any dataset'}: {known}")
        with matplotlib.style.context("default"):
            return found[0].draw()

    def __repr__(self) -> str:
        """`Results of runs/demo: 88 records, ...`."""
        return f"Results of {self._name}: {self._counts()}"

    def _repr_html_(self) -> str:
        """The leaderboard's tables, for notebooks."""
        tables = answer_grids(self.answers)
        blocks: list[Block] = [Heading(self._name, 3), Paragraph((self._counts(),))]
        for grid, title in zip(tables, titles(tables), strict=True):
            blocks += [Heading(title, 4), main_table(grid, title)]
        return html_part(blocks)

    def _counts(self) -> str:
        found = self.answers
        parts = [counted(found.frame["key"].nunique(), "record")]
        for status in ("missing", "failed"):
            number = int((found.absent["status"] == status).sum())
            parts += [f"{number} {status}"] if number else []
        parts += [f"{len(found.withheld)} withheld"] if len(found.withheld) else []
        return ", ".join(parts)


def _of_dataset(frame: pd.DataFrame, dataset: str | None) -> pd.DataFrame:
    """The rows of `name` or `name/task`."""
    if dataset is None:
        return frame
    names = frame["dataset"] + "/" + frame["task"]
    if dataset in set(names):
        return frame.loc[names == dataset]
    known: str = _one_of(dataset, [*frame["dataset"], *names], "dataset")
    return frame.loc[frame["dataset"] == known]


def _name(about: str) -> str:
    return about.split("/")[0]


def _one_of(wanted: Any, known: Iterable[Any], what: str) -> Any:
    """`wanted`, if it is known. Raises ValueError with what is known otherwise."""
    names = sorted(set(known))
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(str(wanted), map(str, names), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(f"unknown {what} {wanted!r}.{hint} Known: {', '.join(map(str, names))}")
