"""Ranked lists against the ranking engine: a full list says what its similarities say."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.lists import rank_lists, together
from bench.ranking import NEVER, Rankings, rank_blocks
from data_recipes.core.model import Candidate, Query, RetrievalTask

NAMES = [f"c{i}" for i in range(8)]


@st.composite
def tasks(draw: st.DrawFn) -> tuple[RetrievalTask, list[list[str]]]:
    some = st.lists(st.sampled_from(NAMES), unique=True)
    queries, orders = [], []
    graded = draw(st.booleans())
    for number in range(draw(st.integers(1, 4))):
        relevant = tuple(draw(some))
        grades = st.sampled_from([0.0, 0.2, 0.5, 1.0])
        queries.append(
            Query(
                id=f"q{number}",
                text="x",
                relevant=relevant,
                credit=tuple(draw(grades) for _ in relevant) if graded else (),
                excluded=tuple(c for c in draw(some) if c not in relevant),
                gallery=draw(st.none() | some.map(tuple)),
                subset=tuple(draw(some)),
            )
        )
        orders.append(draw(st.permutations(NAMES)))
    return RetrievalTask("p", tuple(queries), tuple(Candidate(c, text=c) for c in NAMES)), orders


def same_metrics(one: Rankings, other: Rankings) -> None:
    for name in ("R@1", "R@2", "R@5", "R@8", "mAP@3", "mAP@8", "Recall_subset@1"):
        assert one.per_query(name).tolist() == other.per_query(name).tolist(), name


@given(tasks())
def test_a_full_list_equals_similarities_without_ties(
    case: tuple[RetrievalTask, list[list[str]]],
) -> None:
    task, orders = case
    values = torch.tensor([[-float(order.index(c)) for c in NAMES] for order in orders])
    lists = {q.id: order for q, order in zip(task.queries, orders, strict=True)}
    ranked = rank_lists(task, lists)
    similar = rank_blocks(task, lambda rows: values[rows])
    same_metrics(ranked, similar)
    assert ranked.gallery.tolist() == similar.gallery.tolist()


@given(tasks(), st.integers(0, 8))
def test_what_is_not_listed_is_not_retrieved(
    case: tuple[RetrievalTask, list[list[str]]], kept: int
) -> None:
    """A shorter list never gains, and loses nothing up to its own length."""
    task, orders = case
    whole = rank_lists(task, {q.id: o for q, o in zip(task.queries, orders, strict=True)})
    short = rank_lists(task, {q.id: o[:kept] for q, o in zip(task.queries, orders, strict=True)})
    for k in range(1, 9):
        assert (short.per_query(f"R@{k}") <= whole.per_query(f"R@{k}")).all()
        assert (short.per_query(f"mAP@{k}") <= whole.per_query(f"mAP@{k}") + 1e-12).all()


def test_average_precision_divides_by_all_relevant_candidates() -> None:
    query = Query(id="q", text="x", relevant=("c0", "c1"))
    task = RetrievalTask("p", (query,), tuple(Candidate(c, text=c) for c in NAMES))
    found = rank_lists(task, {"q": ["c0"]})
    assert found.ranks.tolist() == [[1, NEVER]]
    assert found.per_query("mAP@8").tolist() == [0.5]


def test_rankings_of_two_sets_of_queries_join() -> None:
    one = Query(id="a", text="x", relevant=("c0",), credit=(0.5,), subset=("c0", "c1"))
    other = Query(id="b", text="x", relevant=("c1", "c2"), subset=("c1",))
    candidates = tuple(Candidate(c, text=c) for c in NAMES)
    lists = {"a": ["c0"], "b": ["c2", "c1"]}
    halves = [rank_lists(RetrievalTask("p", (q,), candidates), lists) for q in (one, other)]
    joined = together(*halves)
    assert joined.ranks.tolist() == [[1, 0], [1, 2]]
    assert joined.per_query("R@1").tolist() == [0.5, 1.0]
    assert joined.per_query("Recall_subset@1").tolist() == [0.5, 1.0]
    assert np.array_equal(joined.gallery, np.array([8, 8]))
