"""The leaderboard as data: means over seeds, and the cells that are absent. No I/O.

`markdown.py` and `console.py` only lay out what is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.absent import Absence, absent_cells, restrict
from results.frames import REPLICATE, SERIES, TABLE, chance_level, label_of, remarks
from results.statistics import collapsed, summary

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
    "collapsed_seeds",
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

    facts = {
        group: _facts(cells)
        for group, cells in frame.groupby([*SERIES, "shots", "metric"], sort=True)
    }
    # Every record has its headline metric, but another one may be left out of some (with a
    # note): the headline's rows count the records.
    n_records = frame[frame["headline"]].groupby([*SERIES, "shots"]).size().to_dict()
    rows: list[dict[str, Any]] = []
    for row in summary(frame).to_dict("records"):
        group = tuple(row[column] for column in (*SERIES, "shots", "metric"))
        missing = reasons.get(_position(row), [])
        lost = [row["seeds"][i] for i in collapsed(row["values"], facts[group]["n_queries_min"])]
        rows.append(
            {
                **{str(name): value for name, value in row.items()},
                **facts[group],
                "n_expected": n_records[_position(row)] + len(missing),
                # Only the headline is watched: other metrics may be near zero by nature.
                "collapsed_seeds": tuple(lost) if row["headline"] else (),
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
class Row:
    """One method (or ablation variant) of a table, with its board row per shot count."""

    label: str
    trains: bool
    by_shots: dict[int, dict[str, Any]]


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

    def best(self, shots: int) -> float:
        """Highest mean of a column; NaN where nothing was measured."""
        means = [row.by_shots[shots]["mean"] for row in self.rows if shots in row.by_shots]
        return max((mean for mean in means if not math.isnan(mean)), default=math.nan)

    @property
    def chance(self) -> float | None:
        """The headline's chance level, where a record states it."""
        known = self.board["chance"].dropna()
        return None if known.empty else float(known.iloc[0])


def grids(board: pd.DataFrame) -> list[Grid]:
    """Split a board into its tables. Protocols and backbones never share one."""
    return [
        _grid([str(name) for name in group], rows)
        for group, rows in board.groupby(list(TABLE), sort=True)
    ]


def cell_text(entry: Mapping[str, Any]) -> str:
    """`45.1 ± 1.2 (3)` in percent; `(2 of 3)` where cells are absent; else why it is empty."""
    if entry["n"] == 0:
        return empty_text(entry["absent"])
    text = f"{100 * entry['mean']:.1f}"
    if not math.isnan(entry["half_width"]):
        text += f" ± {100 * entry['half_width']:.1f}"
    complete = entry["n"] == entry["n_expected"]
    count = f"({entry['n']})" if complete else f"({entry['n']} of {entry['n_expected']})"
    return f"{text} {count}" + (" †" if entry["collapsed_seeds"] else "")


def empty_text(absent: Sequence[Absence]) -> str:
    """What stands in a cell none of whose seeds has a record."""
    return "failed" if any(absence.status == "failed" for absence in absent) else "missing"


def leaderboard_csv(board: pd.DataFrame) -> str:
    """The whole board as CSV: fractions, every seed's value, absent cells with reasons."""
    flat = board.copy()
    for column in ("mean", "half_width"):
        flat[column] = [_decimal(value) for value in board[column]]
    for column in ("seeds", "values", "collapsed_seeds"):
        flat[column] = [";".join(repr(entry) for entry in entries) for entries in board[column]]
    flat["absent"] = ["; ".join(str(absence) for absence in entry) for entry in board["absent"]]
    flat["notes"] = board["notes"].str.replace("\n", " | ")
    return flat.to_csv(index=False, lineterminator="\n")


def _decimal(value: float) -> str:
    """Six decimals: beyond them scipy's quantile may differ between versions."""
    return "" if math.isnan(value) else f"{value:.6f}"


def _grid(table: list[str], board: pd.DataFrame) -> Grid:
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
        series = (bool(entry["trains"]), label_of(entry))
        by_series.setdefault(series, {})[int(entry["shots"])] = entry
    rows = [Row(label, trains, by_shots) for (trains, label), by_shots in by_series.items()]
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


def _facts(cells: pd.DataFrame) -> dict[str, Any]:
    """What a group's records say beside the metric itself."""
    chance = chance_level(cells["notes"])
    return {
        "n_queries_min": int(cells["n_queries"].min()),
        "n_queries_max": int(cells["n_queries"].max()),
        "tie_rate": float(cells["tie_rate"].max()),
        "trainable_parameters": int(cells["trainable_parameters"].max()),
        "chance": math.nan if chance is None else chance,
        "notes": "\n".join(remarks(cells["notes"])),
    }


def _position(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in (*SERIES, "shots"))


def _absent_by_group(absent: pd.DataFrame) -> dict[tuple[Any, ...], list[Absence]]:
    found: dict[tuple[Any, ...], list[Absence]] = {}
    for row in absent.to_dict("records"):
        absence = Absence(row["seed"], row["status"], row["reason"])
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
        "collapsed_seeds": (),
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
