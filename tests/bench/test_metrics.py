"""Metrics from ranks, against values computed by hand and a loop over definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import average_precision, metric_k, per_query, recall

# Ranks of each query's relevant candidates: two at 1 and 3; one at 2; none in the gallery.
RANKS = np.array([[1, 3], [2, 0], [0, 0]])


def test_recall_by_hand() -> None:
    assert recall(RANKS, 1).tolist() == [1, 0, 0]
    assert recall(RANKS, 2).tolist() == [1, 1, 0]
    assert recall(np.array([[5, 9]]), 4).tolist() == [0]


def test_average_precision_by_hand() -> None:
    # At 3: (1/1 + 2/3) / min(3, 2); (1/2) / min(3, 1).
    assert average_precision(RANKS, 3) == pytest.approx([5 / 6, 1 / 2, 0])
    # At 2: the hit on rank 3 does not count, both relevant candidates do: (1/1) / min(2, 2).
    assert average_precision(RANKS, 2) == pytest.approx([1 / 2, 1 / 2, 0])
    # At 1: min(1, 2) = 1, so a hit on rank 1 is everything that could be reached.
    assert average_precision(RANKS, 1) == pytest.approx([1, 0, 0])


def test_circo_divides_by_k_where_more_than_k_are_relevant() -> None:
    """Baldrati et al. 2023, eq. 8: five relevant on the first five places is a perfect mAP@5."""
    ranks = np.arange(1, 21)[None]
    assert average_precision(ranks, 5).tolist() == [1.0]
    assert average_precision(ranks, 20).tolist() == [1.0]


QUERIES = st.lists(st.sets(st.integers(1, 30), max_size=6), min_size=1, max_size=5)


@given(QUERIES, st.integers(1, 35))
def test_metrics_follow_their_definitions(queries: list[set[int]], k: int) -> None:
    width = max(1, *map(len, queries)) + 1
    ranks = np.array([sorted(q) + [0] * (width - len(q)) for q in queries])
    for row, relevant in enumerate(queries):
        hits = [rank for rank in range(1, k + 1) if rank in relevant]
        precisions = [sum(h <= hit for h in hits) / hit for hit in hits]
        expected = sum(precisions) / min(k, len(relevant)) if relevant else 0.0
        assert average_precision(ranks, k)[row] == pytest.approx(expected)
        assert recall(ranks, k)[row] == float(bool(hits))


def test_names_lead_to_the_metrics() -> None:
    subset = np.array([[2, 3], [1, 0], [0, 0]])
    assert per_query("accuracy", RANKS, None).tolist() == [1, 0, 0]
    assert per_query("recall@2", RANKS, subset).tolist() == [1, 1, 0]
    assert per_query("map@3", RANKS, None) == pytest.approx([5 / 6, 1 / 2, 0])
    assert per_query("recall_subset@1", RANKS, subset).tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["recall", "recall@0", "recall@-1", "recal@1", "MAP@5", "map@5 "])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown metric"):
        per_query(name, RANKS, None)


def test_a_subset_metric_needs_subsets() -> None:
    with pytest.raises(ValueError, match="recall_subset@1: the queries of this task have no sub"):
        per_query("recall_subset@1", RANKS, None)


def test_the_k_of_a_name() -> None:
    names = ("accuracy", "recall@10", "map@50", "recall_subset@3")
    assert [metric_k(name) for name in names] == [1, 10, 50, 3]
