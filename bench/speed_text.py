"""Benchmarks of the text tower: prompts that share their beginning, forward and backward.

The baseline is the official code's way: every prompt runs at the tower's full context length.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.speed_rows import Row, close, compare
from data_recipes.core.registry import recipe
from data_recipes.openmoji.names import drawings
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import TaskInfo

GOAL = 12.0
NARROW_GOAL = 10.0  # of a tower of width 384, where all that is no matrix product weighs more
PART = 50  # classes that the padded way takes at once
MANY = 1000
LONGEST = 5  # words of a name among the many

Step = tuple[Tensor, Tensor]  # loss () and gradient of the context (M, width)


def rows(_: Path) -> list[Row]:
    """The prompt step on a `CLIP` and on a `CustomTextCLIP` tower, and with many classes."""
    plain = load_backbone(BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0))
    custom = load_backbone(BackboneSpec(model="ViTamin-S", random_seed=0))
    roles = [c.text or "" for c in recipe("openmoji-roles")().tasks()[0].training().candidates]
    few = tuple(roles[:PART])
    return [
        prompt_step("ViT-B-32 text", plain, few),
        prompt_step("ViTamin-S text (CustomTextCLIP)", custom, few, NARROW_GOAL),
        many_classes("ViT-B-32 text", plain, many_names()),
    ]


def prompt_step(
    tower: str, backbone: Backbone, classes: tuple[str, ...], goal: float = GOAL
) -> Row:
    """CoOp's step on features, M = 16: cross-entropy of one image a class, gradient to the context.

    Equal: the loss to 1e-5, the gradient to 1e-4 of its norm.
    """
    method = _coop(backbone, classes)
    images = nn.functional.normalize(torch.randn(len(classes), backbone.dim), dim=-1)

    def step(texts: Callable[[], Tensor]) -> Step:
        logits = backbone.logit_scale * images @ texts().T
        loss = nn.functional.cross_entropy(logits, torch.arange(len(classes)))
        return loss.detach(), torch.autograd.grad(loss, method.ctx)[0]

    return compare(
        f"prompt step, {tower}, {len(classes)} classes, M = 16",
        lambda: step(lambda: padded_text(method, classes, backbone)),
        lambda: step(lambda: method.text(classes)),
        equal,
        goal,
        5,
    )


def many_classes(tower: str, backbone: Backbone, classes: tuple[str, ...]) -> Row:
    """The same with many classes, and a loss that is linear in the features.

    Padded, all activations would need tens of GB. So the padded way runs in parts of 50 classes,
    whose losses and gradients add up exactly because the loss is linear: no checkpointing, nothing
    computed twice. It runs once, after a warm-up on one part; ours runs between its parts.
    """
    method = _coop(backbone, classes)
    weight = torch.randn(len(classes), backbone.dim)

    def step(features: Tensor, own: Tensor) -> Step:
        loss = (features * own).sum()
        return loss.detach(), torch.autograd.grad(loss, method.ctx)[0]

    def padded(part: slice) -> Step:
        return step(padded_text(method, classes[part], backbone), weight[part])

    parts = [slice(start, start + PART) for start in range(0, len(classes), PART)]
    padded(parts[0])
    found = step(method.text(classes), weight)
    theirs, ours, steps = 0.0, list[float](), list[Step]()
    for number, part in enumerate(parts):
        start = time.perf_counter()
        steps.append(padded(part))
        theirs += time.perf_counter() - start
        if number % 4 == 0:
            start = time.perf_counter()
            step(method.text(classes), weight)
            ours.append(time.perf_counter() - start)
    loss, gradient = (torch.stack(column).sum(0) for column in zip(*steps, strict=True))
    name = f"prompt step, {tower}, {len(classes):,} classes, M = 16"
    median = statistics.median(ours)
    return Row(name, theirs, median, theirs / median, GOAL, equal((loss, gradient), found))


def many_names() -> tuple[str, ...]:
    """1,000 distinct names of OpenMoji drawings, of 1 to 5 words ("ring", "military medal").

    With full stop and end-of-text they have 3 to 11 tokens, 4.2 in the mean.
    """
    names = {drawing.name: None for drawing in drawings() if drawing.tone is None}
    short = [name for name in names if len(name.split()) <= LONGEST]
    return tuple(short[:MANY])


def equal(first: Step, second: Step) -> bool:
    """Losses to 1e-5 (of their size, above 1), gradients to 1e-4 of the norm."""
    loss, other = float(first[0]), float(second[0])
    return abs(loss - other) <= 1e-5 * max(1.0, abs(loss)) and close(first[1], second[1])


def padded_text(method: CoOp, classes: Sequence[str], backbone: Backbone) -> Tensor:
    """The official code's way: open_clip's own layers over every prompt at full length."""
    tower, m = backbone.text, method.config.n_ctx
    names = [name.replace("_", " ") for name in classes]
    ids = tower.tokenize([" ".join(["X"] * m) + f" {name}." for name in names])
    embeddings = tower.embed(ids)
    context = method.ctx.expand(len(ids), -1, -1)
    x = torch.cat([embeddings[:, :1], context, embeddings[:, 1 + m :]], dim=1)
    model: Any = getattr(backbone.model, "text", backbone.model)
    x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(ids)), tower.end(ids)]
    linear = isinstance(model.text_projection, nn.Linear)
    x = model.text_projection(x) if linear else x @ model.text_projection
    return nn.functional.normalize(x, dim=-1)


def _coop(backbone: Backbone, classes: tuple[str, ...]) -> CoOp:
    torch.manual_seed(0)
    return CoOp(CoOpConfig(), backbone, TaskInfo("classification", classes))
