"""What each method cost to train and to score. Pure functions of the frame of records."""

from __future__ import annotations

import pandas as pd

from results.frames import TABLE, label_of
from results.statistics import student_t_interval

COST_COLUMNS = (
    *TABLE,
    "label",
    "shots",
    "trains",
    "metric",
    "mean",
    "half_width",
    "gpu",
    "compute_seconds",
    "trainable_parameters",
    "query_ms",
)


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """`COST_COLUMNS`: a row for each method at each shot count, costs as medians over its runs.

    compute_seconds: training, times the ranks. query_ms: scoring (queries and gallery, loading
    left out) divided by the queries. NaN where records do not say.
    """
    heads = frame[frame["headline"] & (frame["ablation_of"] == "")].copy()
    heads["label"] = [label_of(row) for row in heads.to_dict("records")]
    heads["compute_seconds"] = heads["train_seconds"] * heads["world_size"]
    heads["query_ms"] = 1000 * heads["score_seconds"] / heads["n_queries"]
    rows = []
    names = [*TABLE, "label", "shots", "trains", "metric"]
    for group, cells in heads.groupby(names, sort=True):
        mean, half_width = student_t_interval(sorted(cells["value"]))
        rows.append(
            {
                **dict(zip(names, group, strict=True)),
                "mean": mean,
                "half_width": float("nan") if half_width is None else half_width,
                "gpu": bool(cells["gpu"].any()),
                **{
                    name: float(cells[name].median())
                    for name in ("compute_seconds", "trainable_parameters", "query_ms")
                },
            }
        )
    return pd.DataFrame(rows, columns=list(COST_COLUMNS))
