"""Missing images: their queries are misses in every mean, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.available import available, with_misses
from bench.ranking import NEVER, rank
from data_recipes.core.model import Candidate, Query, RetrievalTask

IMAGES = tuple(f"i{n}" for n in range(9))


def part(subsets: bool) -> RetrievalTask:
    """Queries with one to three targets, exclusions, own galleries and perhaps subsets."""
    return RetrievalTask(
        "part",
        tuple(
            Query(
                id=f"q{n}",
                image=IMAGES[n],
                text="as",
                relevant=tuple(IMAGES[(n + step) % 9] for step in range(1, 2 + n % 3)),
                credit=tuple(1 / (1 + step) for step in range(1 + n % 3)) if n % 2 else (),
                excluded=(IMAGES[n],),
                gallery=tuple(i for i in IMAGES if i != IMAGES[(n + 5) % 9]) if n == 4 else None,
                subset=tuple(IMAGES[(n + step) % 9] for step in (1, 4, 6)) if subsets else None,
            )
            for n in range(9)
        ),
        tuple(Candidate(id=i, image=i) for i in IMAGES),
    )


@given(
    st.sets(st.sampled_from(IMAGES), max_size=6),
    st.booleans(),
    st.integers(min_value=0, max_value=9),
)
def test_every_metric_equals_the_count_by_hand(missing: set[str], subsets: bool, seed: int) -> None:
    """Without the missing images a query's hits are those among what is there, over all it has."""
    whole = part(subsets)
    torch.manual_seed(seed)
    queries, candidates = torch.randn(9, 4), torch.randn(9, 4)
    asked = available(whole, missing)
    rows = [int(q.id[1:]) for q in asked.queries]
    columns = [whole.position[c.id] for c in asked.candidates]
    found = with_misses(whole, asked, rank(asked, queries[rows], candidates[columns]))
    similarity = (queries @ candidates.T).numpy()
    for number, query in enumerate(whole.queries):
        pool = query.gallery or IMAGES
        pool = [i for i in pool if i not in missing and i not in query.excluded]
        order = sorted(pool, key=lambda i: -similarity[number, whole.position[i]])
        ranks = [order.index(c) + 1 for c in query.relevant if c in order]
        if query.image in missing:
            ranks = []
        ranks = sorted(ranks) + [NEVER] * (len(query.relevant) - len(ranks))
        assert found.ranks[number][found.ranks[number] > 0].tolist() == ranks
        hits = [sum(r <= other for r in ranks) / other for other in ranks if other <= 5]
        expected = sum(hits) / min(5, len(query.relevant))
        assert np.isclose(found.per_query("mAP@5")[number], expected)
        if not query.credit:
            assert found.per_query("R@2")[number] == any(r <= 2 for r in ranks)
        if query.subset is not None:
            inside = [i for i in order if i in query.subset] if query.image not in missing else []
            first = inside[:1]
            pays = dict(zip(query.relevant, query.credit or (1.0,) * 3, strict=False))
            value = max([pays.get(i, 0.0) for i in first], default=0.0)
            assert found.per_query("recall_subset@1")[number] == value


def test_nothing_missing_is_the_part_itself() -> None:
    whole = part(subsets=True)
    assert available(whole, frozenset()) is whole


def test_texts_are_never_missing() -> None:
    named = replace(part(subsets=False), candidates=tuple(Candidate(id=i, text=i) for i in IMAGES))
    asked = available(named, {"i0"})
    assert len(asked.queries) == 8 and asked.candidates == named.candidates
