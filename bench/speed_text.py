"""Benchmarks of the text tower: prompts that share their beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.speed_rows import Row, close, compare
from data_recipes.core.registry import recipe
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import TaskInfo


def rows(_: Path) -> list[Row]:
    """The prompt step."""
    return [prompt_step()]


def prompt_step() -> Row:
    """CoOp's text side, forward and backward: padded to 77 tokens against cut at the longest."""
    backbone = load_backbone(BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0))
    names = tuple(recipe("openmoji-roles")().tasks()[0].training().candidates[:50])
    classes = tuple(c.text or "" for c in names)
    torch.manual_seed(0)
    method = CoOp(CoOpConfig(), backbone, TaskInfo("classification", classes))
    weight = torch.randn(len(classes), backbone.dim)

    def gradient(features: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad((features * weight).sum(), method.ctx)
        return grad

    def ours() -> Tensor:
        return gradient(method.text(classes))

    def padded() -> Tensor:
        return gradient(padded_text(method, classes, backbone))

    return compare("prompt step, ViT-B-32 text, 50 classes, M = 16", padded, ours, close, 1.0, 3)


def padded_text(method: CoOp, classes: tuple[str, ...], backbone: Backbone) -> Tensor:
    """The official code's way: every prompt runs at the full context length."""
    tower = backbone.text
    ids = tower.tokenize([" ".join(["X"] * method.config.n_ctx) + f" {c}." for c in classes])
    embeddings = tower.embed(ids)
    context = method.ctx.expand(len(ids), -1, -1)
    m = method.config.n_ctx
    x = torch.cat([embeddings[:, :1], context, embeddings[:, 1 + m :]], dim=1)
    model: Any = backbone.model
    x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(ids)), tower.end(ids)] @ model.text_projection
    return torch.nn.functional.normalize(x, dim=-1)
