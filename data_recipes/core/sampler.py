"""The few-shot samplers: pure functions of (manifest digest, seed), or of CoOp's seed.

Each group's (class's, kind's) queries get one fixed random order per seed; K shots are its first
K. So the 1-shot set lies inside the 2-shot set, a group's draw does not depend on other groups,
and the same dataset gives the same subset on every machine and Python version.

CoOp's own sets are not nested: each K is a fresh draw from one random stream (`coop_few_shot`).
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from data_recipes.core.model import Query

Draw = Literal["nested", "coop"]
COOP_VALIDATION = 4  # at most so many validation queries of a class


def few_shot_order(queries: Sequence[Query], seed: int, digest: str) -> dict[str, list[str]]:
    """Group -> ids of its queries in the order in which shots are drawn.

    digest: the manifest digest. Groups come in order of first appearance.
    """
    return {
        group: sorted((q.id for q in own), key=lambda name: _draw(digest, seed, group, name))
        for group, own in _groups(queries).items()
    }


def few_shot(queries: Sequence[Query], shots: int, seed: int, digest: str) -> list[Query]:
    """`shots` queries of each group, in the queries' own order.

    A group with fewer than `shots` queries contributes all of them (Dassl's rule since e3a15da).

    Raises:
        ValueError: shots is negative.
    """
    return few_shot_of(few_shot_order(queries, seed, digest), queries, shots)


def few_shot_of(
    order: Mapping[str, Sequence[str]], queries: Sequence[Query], shots: int
) -> list[Query]:
    """`few_shot` where the order is known."""
    if shots < 0:
        raise ValueError(f"shots must not be negative, got {shots}")
    drawn = {(group, query_id) for group, ids in order.items() for query_id in ids[:shots]}
    return [query for query in queries if (query.group, query.id) in drawn]


def coop_few_shot(
    queries: Sequence[Query], shots: int, seed: int, validation: Sequence[Query] = ()
) -> tuple[list[Query], list[Query]]:
    """The training and validation shots that CoOp's code draws, in its order.

    Python's generator is seeded once; then each class, in the order in which the split names it,
    gives `random.sample` of its queries, first for training, then min(shots, 4) for validation
    (`generate_fewshot_dataset` in KaiyangZhou/Dassl.pytorch, `datasets/` in KaiyangZhou/CoOp). A
    class with fewer gives all of them, undrawn. CoOp takes base classes out of the draw over all
    classes: the same shots where the split names the base classes first.

    Raises:
        ValueError: shots is negative.
    """
    if shots < 0:
        raise ValueError(f"shots must not be negative, got {shots}")
    stream = random.Random(seed)

    def drawn(part: Sequence[Query], count: int) -> list[Query]:
        found: list[Query] = []
        for own in _groups(part).values():
            found += stream.sample(own, count) if len(own) >= count else own
        return found

    return drawn(queries, shots), drawn(validation, min(shots, COOP_VALIDATION))


def short_groups(queries: Sequence[Query], shots: int) -> dict[str, int]:
    """Groups that have fewer than `shots` queries, with the number they have."""
    return {group: len(own) for group, own in _groups(queries).items() if len(own) < shots}


def _groups(queries: Sequence[Query]) -> dict[str, list[Query]]:
    groups: dict[str, list[Query]] = defaultdict(list)
    for query in queries:
        groups[query.group].append(query)
    return groups


def _draw(digest: str, seed: int, group: str, query_id: str) -> bytes:
    return hashlib.sha256("\x1f".join((digest, str(seed), group, query_id)).encode()).digest()
