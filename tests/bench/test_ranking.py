"""The ranking engine against a naive reference, one query at a time in plain Python.

Features are small integers wherever ties matter: their products are exact in float32, whatever
the shape of the block that computes them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.metrics import per_query
from bench.ranking import NotFiniteError, Rankings, rank, rank_blocks, settle
from data_recipes.core.model import Candidate, Query, RetrievalTask


def naive_ranks(query: Query, scores: dict[str, float], gallery: set[str]) -> list[int]:
    """Sort the gallery; among equal scores the candidates that are not relevant come first."""
    order = sorted(gallery, key=lambda c: (-scores[c], c in query.relevant))
    return [place for place, c in enumerate(order, 1) if c in query.relevant]


def gallery_of(task: RetrievalTask, query: Query) -> set[str]:
    everything = {c.id for c in task.candidates}
    return (everything if query.gallery is None else set(query.gallery)) - set(query.excluded)


def scores_of(task: RetrievalTask, query: Tensor, candidates: Tensor) -> dict[str, float]:
    values = (candidates.double() @ query.double()).tolist()
    return {c.id: value for c, value in zip(task.candidates, values, strict=True)}


Case = tuple[RetrievalTask, Tensor, Tensor]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tasks with ties, exclusions, galleries, subsets and several or no relevant candidates."""
    n, q, d = draw(st.integers(1, 9)), draw(st.integers(1, 7)), draw(st.integers(1, 3))
    names = [f"c{i}" for i in range(n)]
    some = st.lists(st.sampled_from(names), unique=True).map(tuple)
    subsets, queries = draw(st.booleans()), []
    for number in range(q):
        relevant = draw(some)
        excluded = tuple(c for c in draw(some) if c not in relevant)
        queries.append(
            Query(
                id=f"q{number}",
                text="x",
                relevant=relevant,
                excluded=excluded,
                gallery=draw(st.none() | some),
                subset=draw(some) if subsets else None,
            )
        )
    numbers = st.integers(-2, 2)
    rows = [[draw(numbers) for _ in range(d)] for _ in range(q + n)]
    features = torch.tensor(rows, dtype=torch.float32)
    task = RetrievalTask("p", tuple(queries), tuple(Candidate(id=c, text=c) for c in names))
    return task, features[:q], features[q:]


def without_padding(ranks: np.ndarray) -> list[list[int]]:
    return [[int(r) for r in row if r > 0] for row in ranks]


def equal(one: Rankings, other: Rankings) -> bool:
    assert (one.subset_ranks is None) == (other.subset_ranks is None)
    return (
        np.array_equal(one.ranks, other.ranks)
        and np.array_equal(one.gallery, other.gallery)
        and np.array_equal(one.tied, other.tied)
        and (
            one.subset_ranks is None
            or other.subset_ranks is None
            or np.array_equal(one.subset_ranks, other.subset_ranks)
        )
    )


@given(cases())
def test_ranks_equal_the_naive_reference(case: Case) -> None:
    task, queries, candidates = case
    found = rank(task, queries, candidates)
    for row, query in enumerate(task.queries):
        scores = scores_of(task, queries[row], candidates)
        gallery = gallery_of(task, query)
        expected = naive_ranks(query, scores, gallery)
        assert without_padding(found.ranks)[row] == expected
        assert found.gallery[row] == len(gallery)
        best = max((scores[c] for c in query.relevant if c in gallery), default=None)
        others = [scores[c] for c in gallery if c not in query.relevant]
        assert found.tied[row] == (best is not None and best in others)
        if query.subset is not None:
            assert found.subset_ranks is not None
            expected = naive_ranks(query, scores, set(query.subset))
            assert without_padding(found.subset_ranks)[row] == expected


@given(cases(), st.integers(1, 40))
def test_the_size_of_a_block_never_changes_a_rank(case: Case, block_values: int) -> None:
    assert equal(rank(*case, block_values=block_values), rank(*case))


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_changes_a_rank(case: Case, shuffle: object) -> None:
    task, queries, candidates = case
    generator = np.random.default_rng(shuffle.getrandbits(32))  # type: ignore[attr-defined]
    q_order = generator.permutation(len(task.queries))
    c_order = generator.permutation(len(task.candidates))
    shuffled = RetrievalTask(
        "p",
        tuple(replace(task.queries[i], relevant=task.queries[i].relevant[::-1]) for i in q_order),
        tuple(task.candidates[i] for i in c_order),
    )
    before = rank(task, queries, candidates)
    after = rank(shuffled, queries[q_order], candidates[c_order])
    assert np.array_equal(after.ranks, before.ranks[q_order])
    assert np.array_equal(after.gallery, before.gallery[q_order])
    assert np.array_equal(after.tied, before.tied[q_order])
    if before.subset_ranks is not None:
        assert after.subset_ranks is not None
        assert np.array_equal(after.subset_ranks, before.subset_ranks[q_order])


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 29), st.integers(1, 35))
def test_a_constant_scorer_is_last(n: int, several: int, first: int, k: int) -> None:
    """It never scores above K / gallery in the mean, and 0 until K reaches the last place."""
    relevant = tuple(f"c{i}" for i in range(min(first, n - 1), min(first + several, n)))
    task = RetrievalTask(
        "p",
        (Query(id="q", text="x", relevant=relevant),),
        tuple(Candidate(id=f"c{i}", text="x") for i in range(n)),
    )
    found = rank(task, torch.ones(1, 4), torch.ones(n, 4))
    assert without_padding(found.ranks)[0] == list(range(n - len(relevant) + 1, n + 1))
    assert found.tied.tolist() == [len(relevant) < n]
    recall = per_query(f"recall@{k}", found.ranks, None)[0]
    assert recall == float(k > n - len(relevant))
    if len(relevant) == 1:
        assert recall <= k / n


def toy(**changes: object) -> RetrievalTask:
    """One query over five candidates a to e; their scores are the second argument of `ranked`."""
    query = Query(id="q", text="x", relevant=("c",))
    return RetrievalTask(
        "p",
        (replace(query, **changes),),  # type: ignore[arg-type]
        tuple(Candidate(id=c, text=c) for c in "abcde"),
    )


def ranked(task: RetrievalTask, scores: list[float]) -> Rankings:
    return rank(task, torch.ones(1, 1), torch.tensor(scores)[:, None])


@pytest.mark.parametrize(
    ("changes", "scores", "ranks", "gallery", "tied"),
    [
        ({}, [5, 4, 3, 2, 1], [3], 5, False),
        ({}, [5, 4, 4, 4, 1], [4], 5, True),  # two equals stand above
        ({"excluded": ("a",)}, [5, 4, 3, 2, 1], [2], 4, False),
        ({"excluded": ("b",)}, [5, 3, 3, 2, 1], [2], 4, False),  # an excluded equal is no tie
        ({"gallery": ("c", "d")}, [5, 4, 3, 2, 1], [1], 2, False),
        ({"gallery": ("a", "c", "d"), "excluded": ("a",)}, [5, 4, 3, 2, 1], [1], 2, False),
        ({"gallery": ("a", "b")}, [5, 4, 3, 2, 1], [], 2, False),  # the target is not there
        ({"relevant": ("a", "e")}, [5, 4, 3, 2, 1], [1, 5], 5, False),
        ({"relevant": ("a", "b")}, [4, 4, 4, 2, 1], [2, 3], 5, True),
        ({"relevant": ("c", "e"), "gallery": ("a", "e")}, [5, 4, 3, 2, 1], [2], 2, False),
        ({"relevant": ()}, [5, 4, 3, 2, 1], [], 5, False),  # labels withheld
    ],
)
def test_toy_rankings(
    changes: dict[str, object], scores: list[float], ranks: list[int], gallery: int, tied: bool
) -> None:
    found = ranked(toy(**changes), scores)
    assert without_padding(found.ranks)[0] == ranks
    assert found.gallery.tolist() == [gallery]
    assert found.tied.tolist() == [tied]


def test_a_subset_is_ranked_on_its_own() -> None:
    found = ranked(toy(subset=("c", "d", "b")), [5, 4, 3, 3, 1])
    assert found.ranks.tolist() == [[4]]
    assert found.subset_ranks is not None
    assert found.subset_ranks.tolist() == [[3]]
    assert ranked(toy(), [1, 2, 3, 4, 5]).subset_ranks is None


def test_credit_follows_its_candidate_and_the_lower_one_comes_first_in_a_tie() -> None:
    """Recall pays the best credit among the first K; a tie between relevant ones is pessimistic."""
    task = toy(relevant=("a", "b", "c"), credit=(0.2, 1.0, 0.5))
    found = ranked(task, [5, 3, 4, 2, 1])
    assert found.credit is not None
    assert (found.ranks.tolist(), found.credit.tolist()) == ([[1, 2, 3]], [[0.2, 0.5, 1.0]])
    assert [found.per_query(f"R@{k}").item() for k in (1, 2, 3)] == [0.2, 0.5, 1.0]
    assert found.per_query("mAP@3").item() == 1.0
    tied = ranked(task, [1, 5, 5, 2, 1])
    assert [tied.per_query(f"R@{k}").item() for k in (1, 2)] == [0.5, 1.0]


def test_credit_inside_a_subset() -> None:
    found = ranked(toy(relevant=("a", "c"), credit=(1.0, 0.5), subset=("c", "d")), [5, 4, 3, 2, 1])
    assert found.per_query("Recall_subset@1").item() == 0.5
    assert found.per_query("R@1").item() == 1.0


@given(st.integers(2, 30), st.integers(1, 40), st.floats(0, 0.5))
def test_only_a_small_share_of_ties_is_settled_for_the_target(n: int, q: int, limit: float) -> None:
    """The rule of GeneCIS' code, without what it gives to a constant."""
    queries = tuple(Query(id=f"q{i}", text="x", relevant=("c0",)) for i in range(q))
    task = RetrievalTask("p", queries, tuple(Candidate(id=f"c{i}", text="x") for i in range(n)))
    similarity = torch.arange(float(n), 0, -1).repeat(q, 1)
    similarity[0, 1] = similarity[0, 0]

    def settled(values: torch.Tensor) -> Rankings:
        hard = rank_blocks(task, lambda rows: values[rows])
        return settle(
            hard, limit, lambda: rank_blocks(task, lambda rows: values[rows], target_first=True)
        )

    assert settled(similarity).ranks[0, 0] == (1 if 1 / q <= limit else 2)
    assert settled(torch.ones(q, n)).ranks.tolist() == [[n]] * q


def test_ranks_are_integers_padded_with_zeros() -> None:
    both = RetrievalTask(
        "p", (*toy(relevant=("a", "b", "c")).queries, *toy().queries), toy().candidates
    )
    found = rank(both, torch.ones(2, 1), torch.tensor([[5.0], [4], [3], [2], [1]]))
    assert found.ranks.dtype == np.int64
    assert found.ranks.tolist() == [[1, 2, 3], [3, 0, 0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("block_values", [1, 1000])
def test_numbers_that_are_not_finite_are_refused(value: float, block_values: int) -> None:
    task = RetrievalTask(
        "p", tuple(replace(toy().queries[0], id=f"q{i}") for i in range(4)), toy().candidates
    )
    queries = torch.ones(4, 2)
    queries[2, 1] = value
    with pytest.raises(NotFiniteError, match="query 'q2': a similarity is not finite"):
        rank(task, queries, torch.ones(5, 2), block_values)
    candidates = torch.ones(5, 2)
    candidates[4, 0] = value
    with pytest.raises(NotFiniteError, match="query 'q0'"):
        rank(task, torch.ones(4, 2), candidates, block_values)


def test_the_first_query_of_the_task_is_named_and_large_numbers_are_ranked() -> None:
    """Queries are ranked in another order, by their relevant candidates, and in several blocks."""
    several = [replace(toy().queries[0], id=f"q{i}") for i in range(1_100)]
    several[-1] = replace(several[-1], relevant=("a", "b", "c"))
    task = RetrievalTask("p", tuple(several), toy().candidates)
    queries, candidates = torch.ones(1_100, 1), torch.tensor([5.0, 4, 3, 2, 1])[:, None] * 1e30
    large = rank(task, queries * 1e7, candidates)  # above the bound, but finite
    assert equal(large, rank(task, queries, candidates))
    queries[[3, -1]] = float("nan")
    with pytest.raises(NotFiniteError, match="query 'q3'"):
        rank(task, queries, candidates)


@pytest.mark.parametrize(("q", "n"), [(2, 5), (1, 4), (0, 5)])
def test_rows_must_fit_the_task(q: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{q} query and {n} candidate features for 1 queries"):
        rank(toy(), torch.ones(q, 1), torch.ones(n, 1))


def test_half_precision_features_are_compared_in_float32() -> None:
    """1 + 2**-6 and 1 + 2**-7 are two numbers in bfloat16, their squares are one."""
    query = torch.tensor([[1 + 2.0**-7, 2.0**-7]], dtype=torch.bfloat16)
    candidates = torch.tensor([[1, 1], [1, 0], [1, 0.5], [0, 0], [0, 0]], dtype=torch.bfloat16)
    assert rank(toy(), query, candidates).ranks.tolist() == [[2]]


def test_a_large_random_task_equals_the_sort() -> None:
    """Thousands of candidates, several blocks; integer features make every product exact."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randint(-9, 10, (60, 8), generator=generator).float()
    candidates = torch.randint(-9, 10, (3000, 8), generator=generator).float()
    names = [f"c{i}" for i in range(3000)]
    task = RetrievalTask(
        "p",
        tuple(Query(id=f"q{i}", text="x", relevant=(names[i * 50],)) for i in range(60)),
        tuple(Candidate(id=c, text=c) for c in names),
    )
    similarity = queries @ candidates.T
    own = similarity[torch.arange(60), torch.arange(60) * 50][:, None]
    expected = (similarity >= own).sum(1)
    found = rank(task, queries, candidates, block_values=10_000)
    assert found.ranks[:, 0].tolist() == expected.tolist()
