"""Benchmarks on a GPU; none where there is no CUDA device.

Times are medians of synchronised runs after a warm-up. Two kinds of rows: against what one would
otherwise run on the same card, and against the card's own dense bf16 matrix product, measured in
the same run: there the baseline is the time that the counted operations take at that rate, and the
ratio is the share of it that is reached.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.ranking import rank
from bench.speed_rows import Row
from bench.speed_text import padded_text
from data_recipes.core.model import Candidate, Query, RetrievalTask
from data_recipes.core.registry import recipe
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import TaskInfo
from methods.core.device import autocast

REPEATS = 10
GEMM = 8192  # side of the square matrices of the card's rate
IMAGES = 512  # of one encoded batch
QUERIES, GALLERY, DIM = 800, 123_403, 512  # CIRCO's test queries and gallery
BF16_CLOSE = 0.02  # of the norm, between two ways that both round to bf16


def rows(_: Path) -> list[Row]:
    """All rows, or none without a GPU."""
    if not torch.cuda.is_available():
        print("gpu: no CUDA device here, so no rows")
        return []
    rate = matmul_rate()
    print(f"gpu: {torch.cuda.get_device_name()}, dense bf16 {rate / 1e12:.0f} TFLOP/s measured")
    found = []
    for model in ("ViT-B-32-quickgelu", "ViT-L-14-quickgelu"):
        backbone = load_backbone(BackboneSpec(model=model, random_seed=0, precision="bf16"), "cuda")
        found += [*prompt_step(backbone, rate), *encoding(backbone, rate)]
    return [*found, ranking()]


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median time of a run, until the GPU has done it."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_rate() -> float:
    """Operations a second of a dense bf16 product of two square matrices."""
    a, b = (torch.randn(GEMM, GEMM, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * GEMM**3 / seconds(lambda: a @ b)


def operations(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in a run, backward included."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def prompt_step(backbone: Backbone, rate: float) -> list[Row]:
    """CoOp's text side with 50 classes, forward and backward, bf16: against 77-token prompts."""
    names = recipe("openmoji-roles")().tasks()[0].training().candidates[:50]
    classes = tuple(c.text or "" for c in names)
    torch.manual_seed(0)
    method = CoOp(CoOpConfig(), backbone, TaskInfo("classification", classes)).to("cuda")
    weight = torch.randn(len(classes), backbone.dim, device="cuda")

    def gradient(encode: Callable[[], Tensor]) -> Tensor:
        with autocast(backbone.device, "bf16"):
            total = (encode() * weight).sum()
        (grad,) = torch.autograd.grad(total, method.ctx)
        return grad

    def ours() -> Tensor:
        return gradient(lambda: method.text(classes))

    def padded() -> Tensor:
        return gradient(lambda: padded_text(method, classes, backbone))

    name = f"GPU, prompt step, {backbone.spec.model} text, 50 classes, M = 16, bf16"
    time_padded, time_ours = seconds(padded), seconds(ours)
    at_rate = operations(ours) / rate
    equal = near(padded(), ours())
    return [
        Row(name, time_padded, time_ours, time_padded / time_ours, 1.0, equal),
        Row(
            f"{name}, share of the card's matmul", at_rate, time_ours, at_rate / time_ours, 0, True
        ),
    ]


def encoding(backbone: Backbone, rate: float) -> list[Row]:
    """Frozen encoding of images in bf16: eager against compiled, and the share of the card."""
    side = 224
    pixels = torch.randn(IMAGES, 3, side, side, device="cuda")
    compiled = Backbone(
        backbone.spec, backbone.model, None, backbone.transform, backbone.transform_name
    ).compile()
    eager_s = seconds(lambda: backbone.encode_pixels(pixels))
    compiled_s = seconds(lambda: compiled.encode_pixels(pixels))
    at_rate = operations(lambda: backbone.encode_pixels(pixels)) / rate
    name = f"GPU, frozen encoding of {IMAGES} images, {backbone.spec.model}, bf16"
    equal = near(backbone.encode_pixels(pixels), compiled.encode_pixels(pixels))
    return [
        Row(f"{name}, compiled", eager_s, compiled_s, eager_s / compiled_s, 0, equal),
        Row(f"{name}, share of the card's matmul", at_rate, eager_s, at_rate / eager_s, 0, True),
    ]


def ranking() -> Row:
    """Exact ranks of 800 queries among 123,403 candidates, against the bare product (float32)."""
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize
    queries = unit(torch.randn(QUERIES, DIM, device="cuda"), dim=1)
    gallery = unit(torch.randn(GALLERY, DIM, device="cuda"), dim=1)
    wanted = torch.randint(GALLERY, (QUERIES,)).tolist()
    candidates = tuple(Candidate(id=str(n), text=str(n)) for n in range(GALLERY))
    asked = tuple(
        Query(f"q{n}", text="x", relevant=(str(one),), group="all") for n, one in enumerate(wanted)
    )
    task = RetrievalTask("test", asked, candidates)
    bare_s = seconds(lambda: queries @ gallery.T)
    ours_s = seconds(lambda: rank(task, queries, gallery))
    scores = queries @ gallery.T
    own = scores[torch.arange(QUERIES, device="cuda"), torch.tensor(wanted, device="cuda")]
    expected = (scores >= own[:, None]).sum(dim=1).tolist()  # ties count against
    found = rank(task, queries, gallery).ranks[:, 0].tolist()
    name = f"GPU, ranking {QUERIES} x {GALLERY:,} x {DIM}, against the bare product"
    close = sum(abs(a - b) <= 1 for a, b in zip(expected, found, strict=True)) == QUERIES
    return Row(name, bare_s, ours_s, bare_s / ours_s, 0, close)


def near(first: Tensor, second: Tensor) -> bool:
    """Equal up to bf16's rounding."""
    return bool((first - second).norm() <= BF16_CLOSE * first.norm())
