"""Average ranks over datasets and their critical difference: an overview, never a test of one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from results.frames import TABLE, label_of

OVERVIEW_COLUMNS = (
    "backbone",
    "shots",
    "label",
    "average_rank",
    "datasets",
    "critical_difference",
)
ALPHA = 0.05


def average_ranks(board: pd.DataFrame) -> pd.DataFrame:
    """`OVERVIEW_COLUMNS`, sorted by average rank, where methods meet on at least 2 datasets.

    For each backbone and shot count: the methods are ranked on each dataset by the mean of the
    headline, ties share their mean rank. Training-free methods stand at every shot count; what
    was chosen on the scored split, or learned on another dataset, stands nowhere. Ranks among
    different methods are no ranks: of the blocks of methods that share all of their datasets the
    one with the most (method, dataset) counts, and the others are left out.

    critical_difference: Nemenyi's, q(0.05; k, inf) / sqrt(2) * sqrt(k (k + 1) / (6 N)) (Demsar,
    Journal of Machine Learning Research 7, 2006, section 3.2.2).
    """
    wanted = (
        board["headline"]
        & (board["n"] > 0)
        & (board["ablation_of"] == "")
        & (board["trained_on"] == "")
        & (board["oracle"] == "")
    )
    measured = board[wanted].copy()
    measured["label"] = [label_of(row) for row in measured.to_dict("records")]
    rows: list[dict[str, Any]] = []
    versions = measured.groupby("backbone")["backbone_version"].nunique().to_dict()
    for (name, version), group in measured.groupby(["backbone", "backbone_version"]):
        backbone = name if versions[name] == 1 else f"{name} {version}"
        free, trained = group[~group["trains"]], group[group["trains"]]
        counts = sorted({int(shots) for shots in trained["shots"]} | ({0} if len(free) else set()))
        for shots in counts:
            column = pd.concat([free, trained[trained["shots"] == shots]])
            rows += [{"backbone": backbone, "shots": shots, **row} for row in _ranked(column)]
    return pd.DataFrame(rows, columns=list(OVERVIEW_COLUMNS))


def critical_difference(methods: int, datasets: int) -> float:
    """Smallest significant difference of two average ranks (Nemenyi, alpha 0.05)."""
    if methods < 2:
        return math.nan
    quantile = float(stats.studentized_range.ppf(1 - ALPHA, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))


def _ranked(column: pd.DataFrame) -> list[dict[str, Any]]:
    table = column.pivot_table(index=list(TABLE), columns="label", values="mean", dropna=False)
    block = _block(table.to_numpy(np.float64).T)
    if block is None:
        return []
    members, places = block
    values = table.to_numpy(np.float64)[np.ix_(places, members)]
    datasets, methods = values.shape
    ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    found = sorted(zip(ranks, table.columns[members], strict=True))
    distance = critical_difference(methods, datasets)
    return [
        {
            "label": label,
            "average_rank": float(rank),
            "datasets": datasets,
            "critical_difference": distance,
        }
        for rank, label in found
    ]


def _block(
    means: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """Methods and datasets of the largest complete block of (methods, datasets), 2 x 2 or more."""
    known = ~np.isnan(means)
    blocks = []
    for own in np.unique(known, axis=0):
        members = np.flatnonzero(known[:, own].all(axis=1))
        places = np.flatnonzero(own)
        if min(len(members), len(places)) >= 2:
            blocks.append((members, places))
    return max(blocks, key=lambda b: (len(b[0]) * len(b[1]), len(b[1])), default=None)
