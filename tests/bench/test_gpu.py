"""On a GPU: the numbers of the CPU within rounding, the same pixels, and no waiting in a step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bench.cell import run_cell
from bench.pixels import Pixels
from bench.prefetch import prefetched
from bench.preprocess import preprocess
from bench.ranking import search
from bench.train import Engine
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import TaskKind
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.device import moved
from tests.bench.test_invariance import world as ranked_world
from tests.cells import run_on_ranks, tiny_cells
from tests.conform import TRAINED, World, open_world
from tests.syncs import STEPS, steps_of

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
    task, queries, candidates = ranked_world(seed, True, queries=400, candidates=3_000)
    found = [
        search(task, queries.to(device), candidates.to(device), k=50, subset_k=3, favoured=True)
        for device in ("cpu", "cuda")
    ]
    assert found[0] is not None and found[1] is not None
    np.testing.assert_equal(asdict(found[1]), asdict(found[0]))


def test_pixels_have_the_bits_of_the_cpu(tiny_dataset: Dataset, tiny_backbone: Backbone) -> None:
    halves = preprocess(tiny_backbone.transform)
    values = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256).permute(1, 2, 0)[None]
    found = halves.pixels(values.contiguous(), "cuda")
    assert found.is_cuda and torch.equal(found.cpu(), halves.pixels(values, "cpu"))
    ids = list(tiny_dataset.reader.index)
    on_gpu = Pixels(tiny_dataset, tiny_backbone.transform, "cuda").at(ids)
    assert torch.equal(on_gpu.cpu(), Pixels(tiny_dataset, tiny_backbone.transform, "cpu").at(ids))


def test_batches_made_ahead_are_there_when_their_step_is() -> None:
    def make(number: int) -> torch.Tensor:
        return moved(torch.full((1 << 20,), float(number)), "cuda") * 2

    busy = torch.randn(4096, 4096, device="cuda")
    with closing(prefetched(make, range(30), "cuda", True)) as made:
        for number, batch in made:
            busy = torch.nn.functional.normalize(busy @ busy)
            assert torch.equal(batch, torch.full_like(batch, 2.0 * number))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_frozen_encoding_is_close_to_the_cpus(precision: str) -> None:
    spec = BackboneSpec.model_validate({"precision": precision})
    on_cpu, on_gpu = load_backbone(BackboneSpec()), load_backbone(spec, "cuda")
    pixels, texts = torch.randn(16, 3, 64, 64), ["a farmer", "a woman farmer", "a red car"]
    exact = on_cpu.encode_pixels(pixels), on_cpu.text.encode_texts(texts)
    found = on_gpu.encode_pixels(pixels), on_gpu.text.encode_texts(texts)
    least = 0.9999 if precision == "fp32" else 0.99
    for first, second in zip(exact, found, strict=True):
        assert second.is_cuda and second.dtype == torch.float32
        assert float((first * second.cpu()).sum(dim=1).min()) > least


def test_compiled_encoding_is_close_to_the_eager_one() -> None:
    plain, compiled = load_backbone(BackboneSpec(), "cuda"), load_backbone(BackboneSpec(), "cuda")
    compiled.compile()
    pixels = torch.randn(16, 3, 64, 64)
    for count in (16, 16, 5):
        first, second = plain.encode_pixels(pixels[:count]), compiled.encode_pixels(pixels[:count])
        assert float((first * second).sum(dim=1).min()) > 0.9999


@pytest.fixture(scope="module")
def world(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tiny_data, tmp_path_factory.mktemp("gpu"), engine=Engine(device="cuda"))


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_no_step_waits(name: str, kind: TaskKind, world: World) -> None:
    """The driver's own check, on the last step; `tests.syncs` sees the same without a GPU."""

    def around(number: int, step: Callable[[], None]) -> None:
        torch.cuda.set_sync_debug_mode("error" if number == STEPS - 1 else "default")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    steps_of(world, name, kind, around)
