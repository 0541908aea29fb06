"""The nested few-shot sampler: a pure function of (manifest digest, seed).

Each group's (class's, kind's) queries get one fixed random order per seed; K shots are its first
K. So the 1-shot set lies inside the 2-shot set, a group's draw does not depend on other groups,
and the same dataset gives the same subset on every machine and Python version. (CoOp's own sets
are not nested: each K is a fresh draw from one random stream.)
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from data_recipes.core.model import Query


def few_shot_order(queries: Sequence[Query], seed: int, digest: str) -> dict[str, list[str]]:
    """Group -> ids of its queries in the order in which shots are drawn.

    digest: the manifest digest. Groups come in order of first appearance.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for query in queries:
        groups[query.group].append(query.id)
    return {
        group: sorted(ids, key=lambda query_id: _draw(digest, seed, group, query_id))
        for group, ids in groups.items()
    }


def few_shot(queries: Sequence[Query], shots: int, seed: int, digest: str) -> list[Query]:
    """`shots` queries of each group, in the queries' own order.

    A group with fewer than `shots` queries contributes all of them (Dassl's rule since e3a15da).

    Raises:
        ValueError: shots is negative.
    """
    if shots < 0:
        raise ValueError(f"shots must not be negative, got {shots}")
    order = few_shot_order(queries, seed, digest)
    drawn = {(group, query_id) for group, ids in order.items() for query_id in ids[:shots]}
    return [query for query in queries if (query.group, query.id) in drawn]


def short_groups(queries: Sequence[Query], shots: int) -> dict[str, int]:
    """Groups that have fewer than `shots` queries, with the number they have."""
    sizes: dict[str, int] = defaultdict(int)
    for query in queries:
        sizes[query.group] += 1
    return {group: size for group, size in sizes.items() if size < shots}


def _draw(digest: str, seed: int, group: str, query_id: str) -> bytes:
    return hashlib.sha256("\x1f".join((digest, str(seed), group, query_id)).encode()).digest()
