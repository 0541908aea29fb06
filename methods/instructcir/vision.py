"""The frozen image side of instructcir-lite: an image's states, kept on disk like features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from methods.core.backbone import Backbone
from methods.core.device import moved
from methods.instructcir import reading


@dataclass(frozen=True)
class Vision:
    """A vision tower as an encoder of images into states (P, width), flat on disk.

    digest: decides the values. label: whose states. transform: image -> pixels. model: a
        LlavaModel's vision side.
    pooled: one state, the class token after the last norm, by the backbone's own tower; else the
        patches that LLaVA takes.
    """

    digest: str
    label: str
    transform: Callable[[Image.Image], Tensor]
    model: Any = field(repr=False)
    backbone: Backbone
    count: int
    width: int
    pooled: bool

    @property
    def dim(self) -> int:
        """Numbers of one image."""
        return self.count * self.width

    @property
    def device(self) -> torch.device:
        """Where the states go."""
        return self.backbone.device

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) -> states (B, dim) float32."""
        if self.pooled:
            return self.backbone.vision.pooled(pixels).float()
        self.model.vision_tower.to(self.device)
        states = reading.patches(self.model, pixels.to(self.device))
        flat: Tensor = states.reshape(len(pixels), -1).float()
        return flat

    def shaped(self, states: Tensor) -> Tensor:
        """(B, dim) -> (B, P, width)."""
        return states.view(len(states), self.count, self.width)

    def feature(self, states: Tensor) -> Tensor:
        """The backbone's own feature (B, D), unit-norm, of pooled states (B, dim)."""
        projection: Tensor | None = cast(Any, self.backbone.model).visual.proj
        out = states if projection is None else states @ projection
        return nn.functional.normalize(out, dim=-1)


def named(*parts: object) -> str:
    """A digest of what decides an encoder's values."""
    return hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()


def noisy(vision: Vision, states: Tensor, rows: Sequence[int], epoch: int, spread: float) -> Tensor:
    """Made-up pooled states (b, dim) around and between the real ones (b, dim).

    x -> m + u (x - m) + spread * s * n with u uniform in 0..1 and n normal, drawn for each (row,
    epoch); m and s are bias and scale of the tower's last norm, about the mean and spread of its
    states.
    """
    norm = vision.model.vision_tower.post_layernorm.to(states.device)
    middle, scale = norm.bias.to(states), norm.weight.abs().to(states)
    draws = [np.random.default_rng([epoch, row]) for row in rows]
    share = torch.tensor([draw.random() for draw in draws]).to(states.dtype)[:, None]
    noise = torch.tensor(np.stack([draw.standard_normal(vision.dim) for draw in draws]))
    share, noise = moved(share, states.device), moved(noise.to(states.dtype), states.device)
    made: Tensor = middle + share * (states - middle) + spread * scale * noise
    return made
