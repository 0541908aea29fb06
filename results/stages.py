"""Stages: trainings on a source that come before a method's own. They stand in no leaderboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.absent import restrict
from results.frames import is_stage, label_of

STAGE_COLUMNS = (
    "dataset",
    "task",
    "protocol",
    "backbone",
    "method",
    "variant",
    "trained_on",
    "metric",
    "value",
    "steps",
    "trainable_parameters",
    "study",
    "key",
)
HEADER = ["method", "source", "score in %", "steps", "trained parameters"]
ABOUT = (
    "Trained once on a source, before each method's own training; scored on the source's "
    "evaluated part."
)


def stage_cells(
    records: Iterable[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """`STAGE_COLUMNS` of the study's recorded stages, sorted.

    value: of the headline metric, a fraction; None where the targets are withheld.
    expected: the study's cells (see `absent.absent_cells`); None takes all records.
    """
    rows = [
        {
            **{name: record["cell"][name] for name in ("dataset", "task", "protocol", "backbone")},
            "method": record["cell"]["method"],
            "variant": record["cell"]["variant"] or "",
            "trained_on": "",  # the source, which has a column of its own
            "metric": record["headline"],
            "value": record["metrics"].get(record["headline"]),
            "steps": _steps(record["loss_curve"]),
            "trainable_parameters": record["trainable_parameters"],
            "study": record["cell"]["study"],
            "key": record["key"],
        }
        for record in records
        if is_stage(record)
    ]
    frame = restrict(pd.DataFrame(rows, columns=list(STAGE_COLUMNS)), expected)
    order = ["dataset", "task", "backbone", "method", "variant", "key"]
    return frame.sort_values(order, ignore_index=True)


def stage_lines(stages: pd.DataFrame) -> list[list[str]]:
    """The table below `HEADER`, as text."""
    return [
        [
            label_of(row),
            f"{row['dataset']}/{row['task']}",
            _score(row["metric"], row["value"]),
            f"{row['steps']:,}",
            f"{row['trainable_parameters']:,}",
        ]
        for row in stages.to_dict("records")
    ]


def _steps(curve: Sequence[Sequence[float]]) -> int:
    """Steps are numbered from 0; a shipped curve lacks points in between."""
    return int(curve[-1][0]) + 1 if curve else 0


def _score(metric: str, value: float | None) -> str:
    return "withheld" if value is None or pd.isna(value) else f"{metric} {100 * value:.1f}"
