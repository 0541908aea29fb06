"""Metrics do not change with the order of rows, the block, the ranks or the threads.

Two kinds of features: small integers, full of ties, whose products are exact; and random unit
vectors with copies among them, as duplicate images of a gallery are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.embed import embed
from bench.gather import ALONE, OtherRankError, dealt
from bench.ranking import Found, NotFiniteError, rank, search
from bench.train import Engine
from data_recipes.core.model import Candidate, Query, RetrievalTask
from methods.core.contract import Batch
from tests.ranks import on_ranks

NAMES = ("recall@1", "recall@5", "map@5", "recall_subset@1", "recall_subset@2")
World = tuple[RetrievalTask, Tensor, Tensor]  # task, query and candidate features (by row)


def world(seed: int, exact: bool, queries: int = 40, candidates: int = 60, dim: int = 6) -> World:
    """A task with everything in it: several relevant, credits, exclusions, galleries, subsets."""
    rng = np.random.default_rng(seed)
    names = [f"c{n}" for n in range(candidates)]
    rows = []
    for number in range(queries):
        drawn = [names[n] for n in rng.permutation(candidates)]
        several = int(rng.integers(1, 5))
        rows.append(
            Query(
                id=f"q{number}",
                image=f"q{number}",
                relevant=tuple(drawn[:several]),
                credit=tuple(rng.choice([0.2, 0.5, 1.0], several)) if number % 2 else (),
                excluded=tuple(drawn[several : several + int(rng.integers(0, 4))]),
                gallery=tuple(drawn[: int(rng.integers(10, 30))]) if number % 3 == 0 else None,
                subset=tuple(drawn[: int(rng.integers(5, 9))]),
            )
        )
    if exact:
        features = torch.from_numpy(rng.integers(-2, 3, (queries + candidates, dim))).float()
    else:
        features = torch.nn.functional.normalize(
            torch.from_numpy(rng.standard_normal((queries + candidates, dim))).float(), dim=-1
        )
        copies = rng.integers(queries, queries + candidates, (2, candidates // 3))
        features[copies[0]] = features[copies[1]]
    gallery = tuple(Candidate(id=name, image=name) for name in names)
    return RetrievalTask("p", tuple(rows), gallery), features[:queries], features[queries:]


def metrics(world: World, block_values: int = 1_000) -> dict[str, dict[str, float]]:
    """Every metric of every query, by query id."""
    task, queries, candidates = world
    rankings = rank(task, queries, candidates, block_values)
    values = {name: rankings.per_query(name) for name in NAMES}
    return {
        query.id: {
            **{name: float(value[row]) for name, value in values.items()},
            "gallery": float(rankings.gallery[row]),
            "tied": float(rankings.tied[row]),
        }
        for row, query in enumerate(task.queries)
    }


seeds = st.integers(0, 2**32 - 1)


@given(seeds, seeds, st.booleans())
def test_the_order_of_queries(seed: int, shuffle: int, exact: bool) -> None:
    task, queries, candidates = world(seed, exact)
    order = np.random.default_rng(shuffle).permutation(len(queries))
    shuffled = replace(task, queries=tuple(task.queries[n] for n in order))
    assert metrics((shuffled, queries[order], candidates)) == metrics((task, queries, candidates))


@given(seeds, seeds, st.booleans())
def test_the_order_of_candidates_and_of_what_queries_name(
    seed: int, shuffle: int, exact: bool
) -> None:
    task, queries, candidates = world(seed, exact)
    rng = np.random.default_rng(shuffle)
    order = rng.permutation(len(candidates))

    def turned(query: Query) -> Query:
        new = rng.permutation(len(query.relevant))
        return replace(
            query,
            relevant=tuple(query.relevant[n] for n in new),
            credit=tuple(query.credit[n] for n in new) if query.credit else (),
            excluded=query.excluded[::-1],
            gallery=query.gallery[::-1] if query.gallery else None,
            subset=query.subset[::-1] if query.subset else None,
        )

    shuffled = RetrievalTask(
        "p",
        tuple(turned(query) for query in task.queries),
        tuple(task.candidates[n] for n in order),
    )
    assert metrics((shuffled, queries, candidates[order])) == metrics((task, queries, candidates))


@given(seeds, st.integers(1, 3_000), st.booleans())
def test_the_size_of_a_block(seed: int, block_values: int, exact: bool) -> None:
    made = world(seed, exact)
    assert metrics(made, block_values) == metrics(made, 10**6)


def twins(queries: int, candidates: int, dim: int) -> World:
    """Every candidate but the first third has twins, at odd places and in the last rows."""
    rng = np.random.default_rng(candidates)
    features = torch.nn.functional.normalize(
        torch.from_numpy(rng.standard_normal((queries + candidates, dim))).float(), dim=-1
    )
    order = rng.permutation(candidates)
    first = order[: candidates // 3]
    copied = np.concatenate([first, rng.choice(first, candidates - len(first))])
    gallery = features[queries:][copied][np.argsort(order)].contiguous()
    names = [f"c{n}" for n in range(candidates)]
    rows = [
        Query(f"q{n}", text="x", relevant=(names[-1 - n % 3], names[order[n % candidates]]))
        for n in range(queries)
    ]
    task = RetrievalTask("p", tuple(rows), tuple(Candidate(name, text="x") for name in names))
    return task, features[:queries], gallery


@pytest.mark.parametrize("dim", [6, 64, 512, 1024])
@pytest.mark.parametrize(("queries", "candidates"), [(1, 1_501), (3, 4_999), (270, 2_049)])
def test_equal_candidates_tie_in_tiles_of_any_size(queries: int, candidates: int, dim: int) -> None:
    """Bit for bit, wherever they stand: a product's kernel must not depend on the place."""
    task, asked, gallery = twins(queries, candidates, dim)
    similarity = (asked.double() @ gallery.double().T).numpy()
    kinds = np.unique(gallery.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
    for block_values in (1, 70_000, 200_000, None):
        found = search(task, asked, gallery, k=20, block_values=block_values)
        assert found is not None and found.first is not None
        compared = 0
        for row, query in enumerate(task.queries):
            own = [task.position[c] for c in query.relevant]
            first = max(own, key=lambda c: similarity[row, c])
            others = (kinds == kinds[first]).sum() - sum(kinds[c] == kinds[first] for c in own)
            gap = similarity[row] - similarity[row, first]
            if (np.abs(gap[kinds != kinds[first]]) < 1e-6).any():
                continue  # two kinds as near as rounding: either may be first
            above, compared = (gap > 1e-6).sum(), compared + 1
            assert found.rankings.ranks[row, 0] == above + others + 1
            assert found.rankings.tied[row] == (others > 0)
            listed = found.first[row]
            by_kind = {kind: np.flatnonzero(kinds == kind) for kind in set(kinds[listed])}
            for kind, members in by_kind.items():  # the earlier of equals first
                there = listed[kinds[listed] == kind]
                assert there.tolist() == members[: len(there)].tolist()
        assert compared > 0.8 * queries


@given(seeds, st.integers(1, 7), st.integers(1, 50), st.booleans())
def test_the_number_of_ranks(seed: int, ranks: int, size: int, exact: bool) -> None:
    """Dealt as to real ranks, each rank's batches computed and put together by hand."""
    task, queries, candidates = world(seed, exact)
    together = []
    for features in (queries, candidates):
        shares = [
            [features[part] for part in dealt(len(features), size, Engine(rank, ranks))]
            for rank in range(ranks)
        ]
        together.append(torch.cat([part for share in shares for part in share])[: len(features)])
    assert metrics((task, together[0], together[1])) == metrics((task, queries, candidates))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("exact", [True, False])
def test_the_number_of_threads(exact: bool) -> None:
    made = world(5, exact, queries=300, candidates=2_000, dim=64)
    found = []
    for count in (1, 2, 4):
        with threads(count):
            found.append(metrics(made, 200_000))
    assert found[0] == found[1] == found[2]


def on_rank(engine: Engine, seeds: dict[int, bool]) -> list[dict[str, dict[str, float]]]:
    """Metrics of embeddings that the ranks make together; on rank 0."""
    found = [embedded(engine, seed, exact) for seed, exact in seeds.items()]
    return [one for one in found if one is not None]


def embedded(engine: Engine, seed: int, exact: bool) -> dict[str, dict[str, float]] | None:
    task, queries, candidates = world(seed, exact)
    table = {row.id: f for row, f in zip(task.queries, queries, strict=True)}
    table |= {row.id: f for row, f in zip(task.candidates, candidates, strict=True)}

    def encode(batch: Batch) -> Tensor:
        assert batch.images is not None
        return batch.images

    def images(ids: list[str]) -> Tensor:
        return torch.stack([table[i] for i in ids])

    first = embed(encode, task.queries, images, 16, engine)
    second = embed(encode, task.candidates, images, 16, engine)
    return metrics((task, first, second)) if engine.rank == 0 else None


@pytest.mark.slow
def test_two_real_ranks(tmp_path: Path) -> None:
    seeds = {11: True, 12: False, 13: False}
    alone = on_rank(ALONE, seeds)
    assert len(alone) == 3
    assert on_ranks(on_rank, 2, tmp_path, seeds) == [alone, []]


def crooked(queries: Tensor, candidates: Tensor) -> Tensor:
    """A similarity of a method's own."""
    return queries @ candidates.T - (queries[:, :1] - candidates[:, 0]).abs()


def searched(engine: Engine, seed: int) -> list[Found | None]:
    """Searches that the ranks share, by the inner product and by another similarity."""
    task, queries, candidates = world(seed, False)
    large = twins(700, 3_000, 64)
    return [
        search(task, queries, candidates, k=7, subset_k=2, favoured=True, engine=engine),
        search(task, queries, candidates, k=7, block_values=300, similarity=crooked, engine=engine),
        search(*large, k=50, engine=engine),
    ]


@pytest.mark.slow
def test_two_real_ranks_search_like_one(tmp_path: Path) -> None:
    alone = searched(ALONE, 3)
    together, others = on_ranks(searched, 2, tmp_path, 3)
    assert others == [None] * 3
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_equal(asdict(other), asdict(one))


def broken(engine: Engine) -> str:
    """The second rank's share has a query without an order."""
    task, queries, candidates = world(4, True)
    queries[-1, 0] = float("nan")
    try:
        search(task, queries, candidates, engine=engine)
    except (NotFiniteError, OtherRankError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.slow
def test_a_rank_that_finds_no_order_stops_all(tmp_path: Path) -> None:
    first, second = on_ranks(broken, 2, tmp_path)
    own, other = sorted((first, second), key=lambda error: error.startswith("OtherRankError"))
    assert own.startswith("NotFiniteError: query 'q39'")
    assert other in (own, *(f"OtherRankError: rank {rank}: {own}" for rank in (0, 1)))


def test_a_change_is_seen() -> None:
    """The comparison can fail: other features give other metrics."""
    task, queries, candidates = world(0, True)
    assert metrics((task, queries, candidates.flip(0))) != metrics((task, queries, candidates))
