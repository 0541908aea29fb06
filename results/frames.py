"""Records as one tidy table: one row per record and metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from results.store import RecordStore

TABLE = ("dataset", "task", "protocol", "backbone")
"""Numbers are comparable only where all of these agree: one table, one figure for each."""

SERIES = (*TABLE, "method", "variant", "trained_on", "trains")
"""One row of a table, one line of a plot."""

COLUMNS = (
    *SERIES,
    "shots",
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

_ORDER = [
    "dataset",
    "task",
    "protocol",
    "backbone",
    "method",
    "variant",
    "trained_on",
    "shots",
    "seed",
]
_CHANCE = re.compile(r"chance(?: level)?\s*[:=]\s*([0-9.]+(?:[eE]-?[0-9]+)?)")


def load(root: Path) -> pd.DataFrame:
    """All records below `root`; see `from_records`."""
    return from_records(RecordStore(root).read_all())


def from_records(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Tidy frame with `COLUMNS`, sorted, so that the order of the records does not matter.

    `value` is a fraction; `headline` marks the rows of each record's headline metric;
    `variant` is "" where a cell has none (group keys must not be missing); `notes` are joined
    by newlines. Stages are left out (see `stages.stage_cells`).
    """
    rows = [
        {
            **record["cell"],
            "variant": record["cell"]["variant"] or "",
            "trained_on": record["cell"].get("trained_on") or "",
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
    frame = frame.astype({"headline": bool, "trains": bool})
    return frame.sort_values([*_ORDER, "key", "metric"], kind="stable", ignore_index=True)


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
