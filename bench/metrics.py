"""Metrics from ranks: small, vectorised, with one stated rule for every corner.

All functions take `ranks` (Q, R) int64: the 1-based ranks of each query's relevant candidates,
ascending, 0 where a query has fewer than R. All return one value per query, (Q,) float64.

A metric is known by the names that its datasets' official code prints: `recall@K`, `Recall@K`
(CIRR, CIRCO) and `R@K` (FashionIQ, GeneCIS, Karpathy) are one; so are `map@K` and `mAP@K`, and
`recall_subset@K` and `Recall_subset@K`.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_METRIC = re.compile(r"(recall|Recall|R|map|mAP|recall_subset|Recall_subset)@([1-9]\d*)")


def recall(ranks: Ints, k: int, credit: Floats | None = None) -> Floats:
    """1 where any relevant candidate is among the first k, else 0.

    credit: (Q, R) what each relevant candidate pays; the best one among the first k counts.
    """
    found = (ranks > 0) & (ranks <= k)
    if credit is None:
        return np.asarray(found.any(axis=1), dtype=np.float64)
    return np.asarray(np.where(found, credit, 0.0).max(axis=1), dtype=np.float64)


def average_precision(ranks: Ints, k: int) -> Floats:
    """AP@k = 1 / min(k, relevant) * sum over relevant ranks r <= k of (hits up to r) / r.

    CIRCO's definition (Baldrati et al. 2023, eq. 8). Dividing by all relevant candidates
    instead, as general retrieval packages do, punishes queries with more than k of them.
    A query without relevant candidates scores 0.
    """
    present = ranks > 0
    hits = np.cumsum(present, axis=1)
    counted = present & (ranks <= k)
    precision = np.where(counted, hits / np.maximum(ranks, 1), 0.0)
    limit = np.minimum(k, present.sum(axis=1))
    value: Floats = precision.sum(axis=1) / np.maximum(limit, 1)
    return value


def per_query(
    name: str,
    ranks: Ints,
    subset_ranks: Ints | None,
    credit: Floats | None = None,
    subset_credit: Floats | None = None,
) -> Floats:
    """The metric called `name` for every query.

    Raises:
        ValueError: unknown name, or a subset metric where queries have no subset.
    """
    if name == "accuracy":
        return recall(ranks, 1, credit)
    match = _METRIC.fullmatch(name)
    if match is None:
        raise ValueError(f"unknown metric {name!r}; known: accuracy, recall@K, map@K")
    kind, k = match[1].lower(), int(match[2])
    if kind == "map":
        return average_precision(ranks, k)
    if kind in ("recall", "r"):
        return recall(ranks, k, credit)
    if subset_ranks is None:
        raise ValueError(f"{name}: the queries of this task have no subset")
    return recall(subset_ranks, k, subset_credit)


def metric_k(name: str) -> int:
    """The K of a metric's name; 1 for accuracy."""
    match = _METRIC.fullmatch(name)
    return int(match[2]) if match else 1


def of_subset(name: str) -> bool:
    """Whether a metric ranks inside each query's subset."""
    return name.lower().startswith("recall_subset@")
