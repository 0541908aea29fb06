"""The benchmarks' baselines give what ours give, ties included."""

from __future__ import annotations

import torch

from bench.ranking import rank
from bench.speed_ranking import sorted_whole
from data_recipes.core.model import Candidate, Query, RetrievalTask


def test_the_sorted_matrix_gives_the_same_ranks() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (
        torch.randint(-2, 3, (n, 3), generator=generator).float() for n in (50, 200)
    )
    target = torch.randint(200, (50,), generator=generator)
    task = RetrievalTask(
        "bench",
        tuple(Query(str(n), text="q", relevant=(str(int(t)),)) for n, t in enumerate(target)),
        tuple(Candidate(str(n), text="c") for n in range(200)),
    )
    found = rank(task, queries, candidates)
    assert found.tied.mean() > 0.5
    expected = sorted_whole(queries, candidates, target)
    assert found.ranks[:, 0].tolist() == expected.tolist()
