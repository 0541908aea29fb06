"""The leaderboard as data: means over seeds, and the cells that are absent. No I/O.

`Grid` and `Row` know no layout: tables in all formats, the terminal and the plots share them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from results.absent import Absence, absent_cells, restrict
from results.frames import REPLICATE, SERIES, TABLE, chance_level, label_of, remarks
from results.statistics import summary

BOARD_COLUMNS = (
    *SERIES,
    "shots",
    "metric",
    "headline",
    "mean",
    "half_width",
    "n",
    "n_expected",
    "seeds",
    "values",
    "draws",
    "absent",
    "n_queries_min",
    "n_queries_max",
    "tie_rate",
    "trainable_parameters",
    "chance",
    "notes",
)


def leaderboard(
    frame: pd.DataFrame,
    expected: Sequence[Mapping[str, Any]] | None = None,
    failures: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Long form: one row per (`frames.SERIES`, shots, metric).

    `frame` comes from `frames.load`; `expected` are the study's cells (see `absent_cells`), and
    records outside it are left out; `failures` comes from `RecordStore.failures`. A group all of
    whose cells are absent has one row with n = 0 and the reasons in `absent`.
    """
    frame = restrict(frame, expected)
    _refuse_ambiguity(frame)
    absent = absent_cells(frame, expected, failures)
    reasons = _absent_by_group(absent[~absent["stage"]])

    facts = _facts(frame)
    # Every record has its headline metric, but another one may be left out of some (with a
    # note): the headline's rows count the records.
    n_records = frame[frame["headline"]].groupby([*SERIES, "shots"]).size().to_dict()
    rows: list[dict[str, Any]] = []
    for row in summary(frame).to_dict("records"):
        group = tuple(row[column] for column in (*SERIES, "shots", "metric"))
        missing = reasons.get(_position(row), [])
        rows.append(
            {
                **{str(name): value for name, value in row.items()},
                **facts[group],
                "n_expected": n_records[_position(row)] + len(missing),
                "absent": tuple(missing),
            }
        )
    rows += [
        _empty_row(position, missing)
        for position, missing in reasons.items()
        if position not in n_records
    ]
    board = pd.DataFrame(rows, columns=list(BOARD_COLUMNS))
    order = [*TABLE, "trains", "method", "variant", "trained_on", "ablation_of", "shots", "metric"]
    return board.sort_values(order, kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Standing:
    """Where a method stands in one column, as far as paired comparisons tell."""

    tied: bool
    """Not significantly below the best of the column; the best itself is tied with itself."""
    low: int
    """Best possible rank: 1 + the number of methods that are significantly better."""
    high: int
    """Worst possible rank: all methods less those that are significantly worse."""

    @property
    def ranks(self) -> str:
        """`2-4`, or `2`."""
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True)
class Row:
    """One method (or variant) of a table, with its board row per shot count."""

    label: str
    trains: bool
    by_shots: dict[int, dict[str, Any]]
    """What was measured; a training-free method is measured once, at shots 0."""
    standings: dict[int, Standing] = field(default_factory=dict)
    """By column; empty where nothing could be compared."""

    def at(self, shots: int) -> dict[str, Any] | None:
        """The board row that stands in a column: training-free methods stand in every one."""
        return self.by_shots.get(shots if self.trains else 0)


@dataclass(frozen=True)
class Grid:
    """One table: all methods on one dataset under one protocol and backbone, headline metric."""

    dataset: str
    task: str
    protocol: str
    backbone: str
    data_version: str
    backbone_version: str
    oracle: bool
    """Options were chosen on the scored split."""
    headline: str
    shots: list[int]
    rows: list[Row]
    board: pd.DataFrame
    """The board's rows of this table, all metrics."""

    @property
    def title(self) -> str:
        """What is learned: `dataset/task`."""
        return f"{self.dataset}/{self.task}"

    @property
    def table(self) -> tuple[str, ...]:
        """Its values of `frames.TABLE`."""
        versions = (self.data_version, self.backbone_version, "oracle" if self.oracle else "")
        return (self.dataset, self.task, self.protocol, self.backbone, *versions)

    @property
    def columns(self) -> list[int]:
        """The shot counts that are compared.

        Training-free methods stand in all of them; 0 is one where a method that trains has
        cells there (it learned elsewhere), or where there is nothing else.
        """
        trained = sorted({shots for row in self.rows if row.trains for shots in row.by_shots})
        return trained or self.shots

    @property
    def chance(self) -> float | None:
        """The headline's chance level, where a record states it."""
        known = self.board["chance"].dropna()
        return None if known.empty else float(known.iloc[0])


def grids(
    board: pd.DataFrame,
    standings: pd.DataFrame | None = None,
    flags: pd.DataFrame | None = None,
) -> list[Grid]:
    """Split a board into its tables. Protocols, backbones and versions never share one.

    standings, flags: from `standings.standings` and `collapse.flags`; without them nothing is
    marked as tied or flagged. Ablations are in no table here (see `ablations.py`).
    """
    places: dict[tuple[str, ...], dict[tuple[int, str], Standing]] = {}
    for row in [] if standings is None else standings.to_dict("records"):
        standing = Standing(bool(row["tied"]), int(row["rank_low"]), int(row["rank_high"]))
        where = tuple(str(row[name]) for name in TABLE)
        places.setdefault(where, {})[int(row["shots"]), str(row["label"])] = standing
    flagged: Counter[tuple[Any, ...]] = Counter()
    for row in [] if flags is None else flags.to_dict("records"):
        flagged[_position(row)] += 1
    main = board[board["ablation_of"] == ""]
    tables = []
    for group, rows in main.groupby(list(TABLE), sort=True):
        table = tuple(str(name) for name in group)
        tables.append(_grid(table, rows, places.get(table, {}), flagged))
    return tables


def titles(tables: Sequence[Grid]) -> list[str]:
    """`dataset/task · backbone` of each table, and what tells apart those that share that."""
    families: dict[tuple[str, str], list[Grid]] = {}
    for grid in tables:
        families.setdefault((grid.title, grid.backbone), []).append(grid)
    return [_title(grid, families[grid.title, grid.backbone]) for grid in tables]


def _title(grid: Grid, family: Sequence[Grid]) -> str:
    parts = [grid.title, grid.backbone]
    if len({other.protocol for other in family}) > 1:
        parts.append(f"protocol {grid.protocol}")
    if len({other.data_version for other in family}) > 1:
        parts.append(f"data {grid.data_version or 'of unknown version'}")
    if len({other.backbone_version for other in family}) > 1:
        parts.append(f"weights {grid.backbone_version or 'of unknown version'}")
    if grid.oracle:
        parts.append("options chosen on the scored split")
    return " · ".join(parts)


def _grid(
    table: tuple[str, ...],
    board: pd.DataFrame,
    places: Mapping[tuple[int, str], Standing],
    flagged: Mapping[tuple[Any, ...], int],
) -> Grid:
    dataset, task, protocol, backbone, data_version, backbone_version, oracle = table
    headlines = sorted(set(board.loc[board["headline"], "metric"]) - {""})
    if len(headlines) > 1:
        raise ValueError(
            f"{dataset}, protocol {protocol}: records disagree on the headline metric "
            f"({', '.join(headlines)}); they cannot share a table"
        )
    by_series: dict[tuple[bool, str], dict[int, dict[str, Any]]] = {}
    for row in board[board["headline"]].to_dict("records"):
        entry = {str(name): value for name, value in row.items()}
        entry["flagged"] = flagged.get(_position(entry), 0)
        series = (bool(entry["trains"]), label_of(entry))
        by_series.setdefault(series, {})[int(entry["shots"])] = entry
    rows = []
    for (trains, label), by_shots in by_series.items():
        stands = {shots: place for (shots, name), place in places.items() if name == label}
        rows.append(Row(label, trains, by_shots, stands))
    return Grid(
        dataset,
        task,
        protocol,
        backbone,
        data_version,
        backbone_version,
        oracle=bool(oracle),
        headline=headlines[0] if headlines else "",
        shots=sorted({shots for row in rows for shots in row.by_shots}),
        rows=sorted(rows, key=_standing),
        board=board,
    )


def _standing(row: Row) -> tuple[bool, float, str]:
    """Training-free methods first; then best first, by the highest shot count measured."""
    measured = [shots for shots, entry in row.by_shots.items() if entry["n"]]
    mean = row.by_shots[max(measured)]["mean"] if measured else -1.0
    return row.trains, -mean, row.label


def _facts(frame: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What the records of each (series, shots, metric) say beside the metric itself."""
    columns = [*SERIES, "shots", "metric"]
    grouped = frame.groupby(columns, sort=True)
    found = grouped.agg(
        n_queries_min=("n_queries", "min"),
        n_queries_max=("n_queries", "max"),
        tie_rate=("tie_rate", "max"),
        trainable_parameters=("trainable_parameters", "max"),
    )
    said = frame[[*columns, "notes"]].drop_duplicates()
    notes: dict[tuple[Any, ...], list[str]] = {}
    for said_of, text in zip(said[columns].itertuples(index=False), said["notes"], strict=True):
        notes.setdefault(tuple(said_of), []).append(text)
    facts: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in found.reset_index().to_dict("records"):
        group = tuple(row.pop(name) for name in columns)
        chance = chance_level(sorted(notes[group]))
        facts[group] = {
            **{str(name): value for name, value in row.items()},
            "chance": math.nan if chance is None else chance,
            "notes": "\n".join(remarks(notes[group])),
        }
    return facts


def _position(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in (*SERIES, "shots"))


def _absent_by_group(absent: pd.DataFrame) -> dict[tuple[Any, ...], list[Absence]]:
    found: dict[tuple[Any, ...], list[Absence]] = {}
    for row in absent.to_dict("records"):
        absence = Absence(row["seed"], row["status"], row["reason"], row["draw"])
        found.setdefault(_position(row), []).append(absence)
    return found


def _empty_row(position: tuple[Any, ...], missing: list[Absence]) -> dict[str, Any]:
    return {
        **dict(zip((*SERIES, "shots"), position, strict=True)),
        "metric": "",
        "headline": True,
        "mean": math.nan,
        "half_width": math.nan,
        "n": 0,
        "n_expected": len(missing),
        "seeds": (),
        "values": (),
        "draws": (),
        "absent": tuple(missing),
        "n_queries_min": 0,
        "n_queries_max": 0,
        "tie_rate": math.nan,
        "trainable_parameters": 0,
        "chance": math.nan,
        "notes": "",
    }


def _refuse_ambiguity(frame: pd.DataFrame) -> None:
    """Two records at one position (an older configuration's, say) must not be averaged."""
    heads = frame[frame["headline"]]
    position = [*SERIES, "shots", *REPLICATE]
    twice = heads[heads.duplicated(position, keep=False)]
    if not twice.empty:
        first = twice.iloc[0]
        same = twice[(twice[position] == first[position]).all(axis="columns")]
        raise ValueError(
            f"records {', '.join(sorted(same['key']))} are all {first['method']} on "
            f"{first['dataset']}, {first['shots']} shots, seed {first['seed']}, from different "
            "configurations; pass the study's cells as `expected`, or give them variants"
        )
