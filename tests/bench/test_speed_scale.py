"""The benchmarks' baselines give what ours give, ties included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import speed_scale
from bench.ranking import rank
from bench.speed_scale import shard_reading, sorted_whole
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


def test_both_ways_read_the_same_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_scale, "PHOTOS", 25)
    monkeypatch.setattr(speed_scale, "PER_SHARD", 10)
    monkeypatch.setattr(speed_scale, "DECODED", 10)
    for (bare, ours), count in zip(shard_reading(tmp_path), (25, 10), strict=True):
        assert bare() == ours() and len(ours()) == count
    assert 40_000 < len(shard_reading(tmp_path)[0][1]()[0]) < 60_000
