"""Records as one tidy table: one row per record and metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from results.store import RecordStore

TABLE = (
    "dataset",
    "task",
    "protocol",
    "backbone",
    "data_version",
    "backbone_version",
    "oracle",
)
"""Numbers are comparable only where all of these agree: one table, one figure for each."""

SERIES = (*TABLE, "method", "variant", "trained_on", "ablation_of", "trains")
"""One row of a table, one line of a plot."""

REPLICATE = ("draw", "seed")
"""What the runs of one row at one shot count differ in; draw is -1 where the seed draws too."""

COLUMNS = (
    *SERIES,
    "shots",
    "draw",
    "seed",
    "metric",
    "value",
    "headline",
    "n_queries",
    "tie_rate",
    "trainable_parameters",
    "notes",
    "study",
    "key",
)

_ORDER = [name for name in SERIES if name != "trains"] + ["shots", *REPLICATE]
_OPTIONAL = ("variant", "trained_on", "data_version", "backbone_version", "ablation_of")
_CHANCE = re.compile(r"chance(?: level)?\s*[:=]\s*([0-9.]+(?:[eE]-?[0-9]+)?)")


def load(root: Path) -> pd.DataFrame:
    """All records below `root`; see `from_records`."""
    return from_records(RecordStore(root).read_all())


def from_records(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Tidy frame with `COLUMNS`, sorted, so that the order of the records does not matter.

    `value` is a fraction; `headline` marks the rows of each record's headline metric;
    `variant` and the like are "" where a cell has none (group keys must not be missing); `notes`
    are joined by newlines. Stages are left out (see `stages.stage_cells`).
    """
    rows = [
        {
            **place(record["cell"]),
            "study": record["cell"]["study"],
            "metric": metric,
            "value": float(value),
            "headline": metric == record["headline"],
            "n_queries": record["n_queries"],
            "tie_rate": float(record["tie_rate"]),
            "trainable_parameters": record["trainable_parameters"],
            "notes": "\n".join(record["notes"]),
            "key": record["key"],
        }
        for record in records
        if not is_stage(record)
        for metric, value in record["metrics"].items()
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # Without rows pandas cannot know that these are masks.
    frame = _joined(frame.astype({"headline": bool, "trains": bool}))
    return frame.sort_values([*_ORDER, "key", "metric"], kind="stable", ignore_index=True)


def _joined(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that state no versions (somebody else's predictions) join the one table they fit.

    Where there are several versions of a dataset or backbone they stay apart.
    """
    tables = frame[[*TABLE]].drop_duplicates()
    known = tables[tables["data_version"] != ""]
    named, rest = list(TABLE[:4]), list(TABLE[4:])
    only = known[~known.duplicated(named, keep=False)].set_index(named)[rest]
    lost = frame["data_version"] == ""
    if only.empty or not lost.any():
        return frame
    found = frame.loc[lost, named].join(only, on=named).dropna()
    frame.loc[found.index, rest] = found[rest]
    return frame


def place(cell: Mapping[str, Any], unknown: str = "?") -> dict[str, Any]:
    """Where a record's or failure's `cell` stands: `SERIES`, shots and `REPLICATE`.

    `oracle` is "oracle" where options were chosen on the scored split, else "". What a failure
    does not state is `unknown`, -1 for shots and seed.
    """
    named = {
        name: str(cell.get(name) or ("" if name in _OPTIONAL else unknown))
        for name in SERIES
        if name not in ("oracle", "trains")
    }
    shots, seed, draw = (cell.get(name) for name in ("shots", "seed", "draw"))
    return {
        **named,
        "oracle": "oracle" if cell.get("selection") == "oracle" else "",
        "trains": bool(cell.get("trains", shots != 0)),
        # -1 keeps the columns integers and sorts unknown cells first.
        "shots": -1 if shots is None else int(shots),
        "draw": -1 if draw is None else int(draw),
        "seed": -1 if seed is None else int(seed),
    }


def is_stage(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a stage; older records do not say, and are not."""
    return bool(record["cell"].get("stage"))


def series_label(method: str, variant: str, trained_on: str = "") -> str:
    """What tables and plots call a row: its variant's label, and where it learned elsewhere."""
    return (variant or method) + (f" (from {trained_on})" if trained_on else "")


def label_of(row: Mapping[Any, Any]) -> str:
    """`series_label` of a frame's or board's row."""
    return series_label(row["method"], row["variant"], row["trained_on"])


def chance_level(notes: Iterable[str]) -> float | None:
    """The chance level that any of these notes states, as a fraction."""
    for note in notes:
        for line in note.splitlines():
            if match := _CHANCE.fullmatch(line.strip()):
                return float(match.group(1))
    return None


def remarks(notes: Iterable[str]) -> list[str]:
    """All distinct note lines, sorted, without the chance level."""
    lines = {line.strip() for note in notes for line in note.splitlines()}
    return sorted(line for line in lines if line and not _CHANCE.fullmatch(line))
