"""The benchmark of photo shards reads the same both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import speed_shards
from bench.speed_shards import shard_reading, transformed


def test_both_ways_read_the_same_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_shards, "PHOTOS", 25)
    monkeypatch.setattr(speed_shards, "PER_SHARD", 10)
    monkeypatch.setattr(speed_shards, "DECODED", 10)
    for (bare, ours), count in zip(shard_reading(tmp_path), (25, 10), strict=True):
        assert bare() == ours() and len(ours()) == count
    bare_pixels, ours_pixels = transformed(tmp_path)
    assert torch.equal(bare_pixels(), ours_pixels()) and ours_pixels().shape == (10, 3, 224, 224)
    assert 40_000 < len(shard_reading(tmp_path)[0][1]()[0]) < 60_000
