"""A cell on a GPU: the same metrics as on the CPU, within rounding."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bench.cell import run_cell
from bench.ranking import search
from bench.train import Engine
from tests.bench.test_invariance import world
from tests.cells import run_on_ranks, tiny_cells

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_a_cell_on_the_gpu_learns_like_on_the_cpu(
    tiny_data: Path, tmp_path: Path, zero_stage: int
) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path, shots=[4])
    (on_cpu,) = run_on_ranks([cell], 1, 0, tmp_path)
    on_gpu = run_cell(cell, Engine(device="cuda", zero_stage=zero_stage))
    dist.destroy_process_group()
    assert on_gpu is not None
    for (_, first), (_, second) in zip(
        on_cpu["loss_curve"], on_gpu.record["loss_curve"], strict=True
    ):
        assert abs(first - second) < 1e-2
    assert on_gpu.record["engine"]["device"] == "cuda"
    assert on_gpu.record["memory"]["gpu_peak_bytes"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_lists_are_those_of_the_cpu(seed: int) -> None:
    """Whole numbers, whose products are exact on both."""
    task, queries, candidates = world(seed, True, queries=400, candidates=3_000)
    found = [
        search(task, queries.to(device), candidates.to(device), k=50, subset_k=3, favoured=True)
        for device in ("cpu", "cuda")
    ]
    assert found[0] is not None and found[1] is not None
    np.testing.assert_equal(asdict(found[1]), asdict(found[0]))
