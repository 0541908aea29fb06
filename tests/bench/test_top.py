"""The first candidates of every query against a plain sort."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.lists import rank_lists
from bench.ranking import NotFiniteError, rank
from bench.top import TopLists, lists_table, top_lists
from data_recipes.core.model import Candidate, Query, RetrievalTask
from tests.bench.test_ranking import Case, cases, gallery_of, scores_of


def brute_force(task: RetrievalTask, query: Query, features: tuple[Tensor, Tensor]) -> list[str]:
    """The whole gallery, sorted by score, then by place among the candidates."""
    scores = scores_of(task, features[0], features[1])
    gallery = gallery_of(task, query)
    return sorted(gallery, key=lambda c: (-scores[c], task.position[c]))


@given(cases(), st.integers(1, 10), st.integers(0, 4), st.integers(1, 40))
def test_the_lists_are_the_head_of_a_sorted_gallery(
    case: Case, k: int, subset_k: int, block_values: int
) -> None:
    """Small whole numbers: many ties, and the same sums in blocks of any size."""
    task, queries, candidates = case
    found = top_lists(task, queries, candidates, k, subset_k, block_values)
    assert (found.subset is None) == (task.queries[0].subset is None or not subset_k)
    for row, query in enumerate(task.queries):
        expected = brute_force(task, query, (queries[row], candidates))
        assert found.candidates[row] == expected[:k]
        if found.subset is not None and query.subset is not None:
            members = replace(query, gallery=query.subset, excluded=())
            expected = brute_force(task, members, (queries[row], candidates))
            assert found.subset[row] == expected[:subset_k]


@given(cases(), st.integers(1, 4), st.integers(1, 4))
def test_the_subset_keeps_the_order_of_the_gallery(case: Case, k: int, subset_k: int) -> None:
    task, queries, candidates = case
    found = top_lists(task, queries, candidates, 9, subset_k)
    for whole, subset in zip(found.candidates, found.subset or [], strict=False):
        assert [c for c in whole if c in subset] == [c for c in subset if c in whole]


def task_of(n: int, *, relevant: bool = True) -> RetrievalTask:
    queries = tuple(
        Query(f"q{i}", text="x", relevant=(f"c{i % n}",) if relevant else ()) for i in range(4)
    )
    return RetrievalTask("p", queries, tuple(Candidate(f"c{i}", text="y") for i in range(n)))


def test_a_constant_scorer_gives_the_gallery_in_its_order() -> None:
    task = task_of(300, relevant=False)
    found = top_lists(task, torch.ones(4, 2), torch.ones(300, 2), 50, 3)
    assert found == TopLists([[f"c{i}" for i in range(50)]] * 4, None)


def test_without_ties_the_lists_have_the_ranks_of_the_ranking_engine() -> None:
    generator = torch.Generator().manual_seed(0)
    task = task_of(80)
    queries = torch.randn(4, 8, generator=generator)
    candidates = torch.randn(80, 8, generator=generator)
    rankings = rank(task, queries, candidates)
    assert not rankings.tied.any()
    found = top_lists(task, queries, candidates, 80, 0)
    lists = dict(zip([q.id for q in task.queries], found.candidates, strict=True))
    assert rank_lists(task, lists).ranks.tolist() == rankings.ranks.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_similarities_that_are_not_finite_have_no_order(value: float) -> None:
    queries = torch.ones(4, 2)
    queries[2, 1] = value
    with pytest.raises(NotFiniteError, match="query 'q2': a similarity is not finite"):
        top_lists(task_of(3), queries, torch.ones(3, 2), 2, 0, block_values=3)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 query and 3 candidate features for 4 queries"):
        top_lists(task_of(3), torch.ones(3, 2), torch.ones(3, 2), 2, 0)


def test_the_table_has_a_row_for_each_query() -> None:
    task = task_of(3)
    top = top_lists(task, torch.ones(4, 2), torch.ones(3, 2), 2, 3)
    expected = pd.DataFrame(
        {
            "part": ["dress"] * 4,
            "query_id": ["q0", "q1", "q2", "q3"],
            "candidates": [["c0", "c1"]] * 4,
            "subset": [None] * 4,
        }
    )
    pd.testing.assert_frame_equal(lists_table("dress", task, top), expected)
    with_subset = replace(top, subset=[["c1"]] * 4)
    assert lists_table("p", task, with_subset)["subset"].tolist() == [["c1"]] * 4
