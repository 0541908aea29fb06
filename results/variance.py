"""Where the spread of a method's runs comes from: the few-shot draw, the training seed, the rest.

Only where a study crosses them (`draws:`); otherwise one number sets both, and no record can tell
them apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from results.frames import SERIES

VARIANCE_COLUMNS = (*SERIES, "shots", "metric", "sd_draw", "sd_seed", "sd_rest", "draws", "seeds")


def variance_split(frame: pd.DataFrame) -> pd.DataFrame:
    """`VARIANCE_COLUMNS` of the headline metric: standard deviations, in fractions.

    One row for each series and shot count with at least 2 draws x 2 seeds. Draws and seeds are
    crossed random effects; the mean squares of the two-way table give the components (method of
    moments; Searle, Casella and McCulloch, Variance Components, 1992, section 4.3), negative ones
    are 0. sd_rest: their interaction and what no seed sets. Where runs are missing, the largest
    complete table counts: draws that lack a seed are left out, which `draws` shows.
    """
    heads = frame[frame["headline"] & (frame["draw"] >= 0)]
    rows: list[dict[str, Any]] = []
    for group, cells in heads.groupby([*SERIES, "shots", "metric"], sort=True):
        table = _complete(cells.pivot_table(index="draw", columns="seed", values="value"))
        if min(table.shape) < 2:
            continue
        place = dict(zip((*SERIES, "shots", "metric"), group, strict=True))
        draw, seed, rest = components(table)
        spread = {"sd_draw": draw, "sd_seed": seed, "sd_rest": rest}
        rows.append({**place, **spread, "draws": table.shape[0], "seeds": table.shape[1]})
    return pd.DataFrame(rows, columns=list(VARIANCE_COLUMNS))


def components(table: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    """Standard deviations of rows, columns and the rest of a complete (R, C) table, R, C >= 2."""
    rows, columns = table.shape
    by_row, by_column, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = table - by_row[:, None] - by_column + mean
    ms_rest = float(np.square(rest).sum()) / ((rows - 1) * (columns - 1))
    ms_row = columns * float(np.square(by_row - mean).sum()) / (rows - 1)
    ms_column = rows * float(np.square(by_column - mean).sum()) / (columns - 1)
    return (
        math.sqrt(max(0.0, ms_row - ms_rest) / columns),
        math.sqrt(max(0.0, ms_column - ms_rest) / rows),
        math.sqrt(ms_rest),
    )


def _complete(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The larger of the complete tables left by dropping incomplete rows, or columns."""
    by_rows, by_columns = table.dropna(axis=0), table.dropna(axis=1)
    best = by_rows if by_rows.size >= by_columns.size else by_columns
    return best.to_numpy(np.float64)
