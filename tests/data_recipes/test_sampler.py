"""The few-shot sampler: nested, deterministic, one group at a time, and fixed for ever."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.core.model import Query
from data_recipes.core.sampler import coop_few_shot, few_shot, few_shot_order, short_groups

DIGEST = "0" * 64


def queries_of(sizes: dict[str, int]) -> list[Query]:
    """Queries "group/number", groups interleaved."""
    longest = max(sizes.values(), default=0)
    return [
        Query(id=f"{group}/{number}", text="x", group=group)
        for number in range(longest)
        for group, size in sizes.items()
        if number < size
    ]


def ids(queries: list[Query]) -> list[str]:
    return [query.id for query in queries]


SIZES = st.dictionaries(st.text(max_size=5), st.integers(1, 20), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**32)


@given(SIZES, st.integers(0, 20), st.integers(0, 20), SEEDS)
def test_smaller_sets_lie_inside_larger_ones(
    sizes: dict[str, int], few: int, more: int, seed: int
) -> None:
    queries = queries_of(sizes)
    small = few_shot(queries, min(few, more), seed, DIGEST)
    large = few_shot(queries, max(few, more), seed, DIGEST)
    assert set(ids(small)) <= set(ids(large))


@given(SIZES, st.integers(0, 20), SEEDS)
def test_each_group_gives_its_shots_or_all_it_has(
    sizes: dict[str, int], shots: int, seed: int
) -> None:
    drawn = few_shot(queries_of(sizes), shots, seed, DIGEST)
    expected = {group: min(shots, size) for group, size in sizes.items() if shots}
    assert Counter(query.group for query in drawn) == expected


@given(SIZES, st.integers(1, 20), SEEDS)
def test_a_group_is_drawn_as_if_it_were_alone(sizes: dict[str, int], shots: int, seed: int) -> None:
    queries = queries_of(sizes)
    together = few_shot(queries, shots, seed, DIGEST)
    for group in sizes:
        alone = few_shot([q for q in queries if q.group == group], shots, seed, DIGEST)
        assert [q for q in together if q.group == group] == alone


@given(SIZES, st.integers(1, 20), SEEDS, st.randoms())
def test_the_order_of_the_queries_does_not_change_the_draw(
    sizes: dict[str, int], shots: int, seed: int, shuffle: random.Random
) -> None:
    queries = queries_of(sizes)
    shuffled = list(queries)
    shuffle.shuffle(shuffled)
    drawn = few_shot(shuffled, shots, seed, DIGEST)
    assert set(ids(drawn)) == set(ids(few_shot(queries, shots, seed, DIGEST)))
    assert drawn == [query for query in shuffled if query in drawn]  # the queries' own order


def test_seeds_and_digests_draw_differently() -> None:
    queries = queries_of({"a": 50, "b": 50})
    drawn = {
        (seed, digest): tuple(ids(few_shot(queries, 4, seed, digest)))
        for seed in (1, 2, 3)
        for digest in (DIGEST, "1" * 64)
    }
    assert len(set(drawn.values())) == 6
    assert ids(few_shot(queries, 4, 1, DIGEST)) == list(drawn[1, DIGEST])


def test_known_draw() -> None:
    """Published splits rest on this: a change here makes every recorded result another one."""
    queries = queries_of({"cat": 8, "dog": 6, "ibis": 1})
    assert few_shot_order(queries, 1, DIGEST) == {
        "cat": [f"cat/{n}" for n in (3, 4, 2, 7, 1, 0, 5, 6)],
        "dog": [f"dog/{n}" for n in (3, 2, 4, 0, 1, 5)],
        "ibis": ["ibis/0"],
    }
    assert ids(few_shot(queries, 2, 1, DIGEST)) == ["ibis/0", "dog/2", "cat/3", "dog/3", "cat/4"]


EUROSAT = (1500, 1500, 1500, 1250, 1250, 1000, 1250, 1500, 1250, 1500)  # CoOp's training split
EUROSAT_VAL = tuple(size * 2 // 5 for size in EUROSAT)
# Indices into CoOp's EuroSAT lists, published in linzhiqiu/cross_modal_adaptation
# (`indices/eurosat/shot_1-seed_1.json`, `shot_2-seed_2.json`): (shots, seed) -> train, val.
PUBLISHED = {
    (1, 1): (
        "275 2665 3129 5022 5991 7507 8920 10217 11527 12429",
        "96 1099 1229 2257 2727 2999 3421 3702 4656 5256",
    ),
    (2, 2): (
        "115 187 1673 2239 3346 4371 5131 5015 6990 6184 "
        "7621 7036 9190 8324 10132 10557 11555 11792 12761 13114",
        "455 514 874 636 1228 1572 2038 2277 2463 2764 "
        "2994 3016 3656 3652 4238 3868 4586 4390 5041 5036",
    ),
}


def in_order(sizes: Sequence[int]) -> list[Query]:
    """Queries named by their place, class after class, as a split file lists them."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    return [Query(id=str(n), text="x", group=str(label)) for n, label in enumerate(labels)]


@pytest.mark.parametrize(("shots", "seed"), PUBLISHED)
def test_coops_draw_is_the_published_one(shots: int, seed: int) -> None:
    train, val = coop_few_shot(in_order(EUROSAT), shots, seed, in_order(EUROSAT_VAL))
    assert (" ".join(ids(train)), " ".join(ids(val))) == PUBLISHED[shots, seed]


def test_coops_draw_is_not_nested_and_takes_at_most_four_for_validation() -> None:
    parts = in_order((30, 2, 30)), in_order((30, 3, 30))
    train, val = coop_few_shot(parts[0], 8, 1, parts[1])
    assert Counter(q.group for q in train) == {"0": 8, "1": 2, "2": 8}
    assert Counter(q.group for q in val) == {"0": 4, "1": 3, "2": 4}
    fewer, _ = coop_few_shot(parts[0], 4, 1, parts[1])
    assert not set(ids(fewer)) <= set(ids(train))
    assert coop_few_shot(parts[0], 8, 1)[0] == train  # validation is drawn after them
    with pytest.raises(ValueError, match="shots must not be negative, got -1"):
        coop_few_shot(parts[0], -1, 1)


@given(SIZES, st.integers(0, 20), SEEDS)
def test_coops_draw_gives_each_group_its_shots(
    sizes: dict[str, int], shots: int, seed: int
) -> None:
    drawn, _ = coop_few_shot(queries_of(sizes), shots, seed)
    expected = {group: min(shots, size) for group, size in sizes.items() if shots}
    assert Counter(query.group for query in drawn) == expected
    assert len(set(ids(drawn))) == len(drawn)


def test_short_groups_are_named_with_their_size() -> None:
    queries = queries_of({"cat": 8, "dog": 3, "ibis": 1})
    assert short_groups(queries, 3) == {"ibis": 1}
    assert short_groups(queries, 4) == {"dog": 3, "ibis": 1}
    assert short_groups(queries, 1) == {}


def test_negative_shots_are_refused() -> None:
    with pytest.raises(ValueError, match="shots must not be negative, got -1"):
        few_shot(queries_of({"a": 2}), -1, 1, DIGEST)


def test_every_query_of_a_group_is_drawn_equally_often() -> None:
    """Over many seeds, first place goes to each of 5 queries 1/5 of the time (4 sigma)."""
    queries = queries_of({"a": 5})
    first = Counter(few_shot(queries, 1, seed, DIGEST)[0].id for seed in range(2000))
    assert all(abs(first[query.id] - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5 for query in queries)
