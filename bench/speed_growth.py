"""How the cost grows: CoOp's training step and ranking, beside the growth of their arithmetic.

Each curve varies one size and keeps the others. Measured and expected growth both count from the
curve's first point. Expected: counted floating-point operations (`step_flops`, `rank_flops`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from bench.ranking import rank
from data_recipes.core.model import Candidate, Query, RetrievalTask
from data_recipes.core.registry import recipe
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Batch, TaskInfo, TrainBatch

CLASSES = (50, 200, 1_000, 5_000, 10_000)
CONTEXT = (4, 16, 32, 64)
ROWS = (8, 32, 128, 512)
GALLERY = (1_000, 10_000, 50_000, 200_000)
QUERIES, DIM = 200, 128
REPEATS = 5
ENOUGH_S = 4.0  # a point that has taken this long is measured no further


@dataclass(frozen=True)
class Point:
    """One size. seconds: median. measured, expected: growth since the curve's first point."""

    size: int
    seconds: float
    measured: float
    expected: float


@dataclass(frozen=True)
class Curve:
    """what: the cost. varied: which size; kept: the others, in words."""

    what: str
    varied: str
    kept: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Tower:
    """Sizes of a text tower: layers, width of its states, size D of the joint space."""

    layers: int
    width: int
    dim: int


def step_flops(tower: Tower, context: int, rests: Sequence[int], rows: int) -> float:
    """Floating-point operations of CoOp's step, forward and backward, prefix shared.

    rests: tokens of each prompt behind the prefix of 1 + context tokens. rows: of the batch.

    A token costs a linear layer 2 * width * outputs: 3 widths for queries, keys and values, 1 for
    the attention's output, 8 for the MLP. The last layer needs keys and values of all tokens and
    the rest at each prompt's last token alone. Attention costs 4 * width for each pair of tokens
    that see each other. The weights are frozen: backward costs linear layers their forward once
    more, products of two learned factors (attention, features x images: its images are fixed) two
    times and once more.
    """
    square = tower.width**2
    prefix, tokens, prompts = 1 + context, sum(rests), len(rests)
    linear = (tower.layers - 1) * 24 * square * (prefix + tokens)
    linear += 4 * square * (prefix + tokens) + 20 * square * prompts
    linear += 2 * tower.width * tower.dim * prompts
    seen = prefix * (prefix + 1) / 2 + sum(n * prefix + n * (n + 1) / 2 for n in rests)
    last = sum(prefix + n for n in rests)
    attention = 4 * tower.width * ((tower.layers - 1) * seen + last)
    logits = 2 * rows * prompts * tower.dim
    return float(2 * linear + 3 * attention + 2 * logits)


def rank_flops(queries: int, gallery: int, dim: int) -> float:
    """Of ranking with one relevant candidate: the product, and four looks at each similarity.

    The looks: its row's least and most, and the comparisons above and equal.
    """
    return float(queries * gallery * (2 * dim + 4))


def curves() -> list[Curve]:
    """All curves; about a minute on two idle cores."""
    backbone = load_backbone(BackboneSpec())
    return [
        _step_curve(backbone, "classes", [(n, 16, 32) for n in CLASSES]),
        _step_curve(backbone, "context tokens M", [(200, n, 32) for n in CONTEXT]),
        _step_curve(backbone, "batch rows", [(200, 16, n) for n in ROWS]),
        _rank_curve(),
    ]


def curve(
    what: str,
    varied: str,
    kept: str,
    points: Sequence[tuple[int, float, Callable[[], object]]],
) -> Curve:
    """Measure (size, its arithmetic, what to run) one after another."""
    seconds = medians([run for _, _, run in points])
    found = tuple(
        Point(size, took, took / seconds[0], flops / points[0][1])
        for (size, flops, _), took in zip(points, seconds, strict=True)
    )
    return Curve(what, varied, kept, found)


def medians(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of each: medians of some rounds in turn, after a warm-up.

    In turn, so that a busy moment of the machine does not fall on one point alone.
    """
    times: list[list[float]] = [[] for _ in runs]
    for number in range(1 + REPEATS):
        for own, run in zip(times, runs, strict=True):
            if sum(own) > ENOUGH_S:
                continue
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
            if number:
                own.append(took)
    return [statistics.median(own) for own in times]


def class_names(count: int) -> tuple[str, ...]:
    """Different names made of two of the demo's class names' words each, in a fixed order."""
    names = recipe("openmoji-roles")().tasks()[0].class_names
    words = list(dict.fromkeys(word for name in names for word in name.replace("_", " ").split()))
    pairs = [f"{first} {second}" for first in words for second in words if first != second]
    if len(pairs) < count:
        raise ValueError(f"{len(pairs)} names can be made, {count} are asked for")
    return tuple(pairs[number * len(pairs) // count] for number in range(count))


def _step_curve(backbone: Backbone, varied: str, sizes: Sequence[tuple[int, int, int]]) -> Curve:
    """CoOp's loss and gradient. sizes: (classes, context tokens, rows of the batch)."""
    names = ("classes", "context tokens M", "batch rows")
    column = names.index(varied)
    kept = ", ".join(f"{sizes[0][n]} {name}" for n, name in enumerate(names) if n != column)
    points = []
    for size in sizes:
        flops, step = coop_step(backbone, *size)
        points.append((size[column], flops, step))
    return curve("CoOp's step", varied, kept, points)


def coop_step(
    backbone: Backbone, classes: int, context: int, rows: int
) -> tuple[float, Callable[[], object]]:
    """(its arithmetic, one forward and backward on random unit-norm features)."""
    torch.manual_seed(0)
    names = class_names(classes)
    method = CoOp(CoOpConfig(n_ctx=context), backbone, TaskInfo("classification", names))
    images = torch.nn.functional.normalize(torch.randn(rows, backbone.dim), dim=-1)
    target = torch.arange(rows) % classes
    batch = TrainBatch(
        queries=Batch(images=images),
        candidates=Batch(texts=list(names)),
        target=target,
        weight=torch.ones(rows),
        row=torch.arange(rows),
        image_id=torch.arange(rows),
    )

    def step() -> None:
        torch.autograd.grad(method.loss(batch), method.ctx)

    text = backbone.text
    rests = text.end(text.tokenize([f"{name}." for name in names])).tolist()
    layers = len(cast(Any, backbone.model).transformer.resblocks)
    return step_flops(Tower(layers, text.width, backbone.dim), context, rests, rows), step


def _rank_curve() -> Curve:
    """Ranks of one relevant candidate for each query, in galleries of random features."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(QUERIES, DIM, generator=generator)
    candidates = torch.randn(max(GALLERY), DIM, generator=generator)
    points = []
    for size in GALLERY:
        target = torch.randint(size, (QUERIES,), generator=generator).tolist()
        task = RetrievalTask(
            "bench",
            tuple(Query(str(n), text="q", relevant=(str(t),)) for n, t in enumerate(target)),
            tuple(Candidate(str(n), text="c") for n in range(size)),
        )
        flops = rank_flops(QUERIES, size, DIM)
        points.append((size, flops, _ranking(task, queries, candidates[:size])))
    return curve("ranking", "gallery", f"{QUERIES} queries x {DIM}", points)


def _ranking(
    task: RetrievalTask, queries: torch.Tensor, candidates: torch.Tensor
) -> Callable[[], object]:
    return lambda: rank(task, queries, candidates)


def section(found: Sequence[Curve]) -> str:
    """The curves as a part of the report: a table, and what it shows in words."""
    lines = [
        "## Growth of the cost",
        "",
        "Growth counts from a curve's first row; expected is that of the counted arithmetic.",
        "",
        "| what | varied | at | time (ms) | growth | expected | growth / expected |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {c.what} ({c.kept}) | {c.varied} | {p.size:,} | {1000 * p.seconds:.1f} | "
        f"{p.measured:.2f} | {p.expected:.2f} | {p.measured / p.expected:.2f} |"
        for c in found
        for p in c.points
    ]
    return "\n".join([*lines, "", paragraph(found), ""])


def paragraph(found: Sequence[Curve]) -> str:
    """What the curves show, in words made from their numbers."""
    said = []
    for c in found:
        first, last = c.points[0], c.points[-1]
        said.append(
            f"{c.what}: {c.varied} {first.size:,} to {last.size:,} cost {last.measured:.3g} times "
            f"as much, and the arithmetic grows {last.expected:.3g} times"
        )
    ratio, worst, where = max(
        ((p.measured / p.expected, p, c) for c in found for p in c.points), key=lambda x: x[0]
    )
    end = "no point grows faster than its arithmetic"
    if ratio > 1:
        end = (
            f"the point furthest above its arithmetic is {where.varied} {worst.size:,} "
            f"({where.what}), {ratio:.2f} times it"
        )
    return "; ".join([*said, end]) + ". Below 1, what does not grow is part of the first point."
