"""Batches of pictures for pre-training, made with torch from rasters that are kept in memory.

The same picture as `data_recipes.openmoji.drawing.render` up to interpolation, for a whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_recipes.openmoji.drawing import OVERSAMPLING, Nuisance, Style, colour_matrix, raster
from data_recipes.openmoji.names import Drawing


def weakened(style: Style, strength: float) -> Style:
    """The style with every range drawn in towards a plain picture; 1 leaves it as it is."""

    def near(middle: float, ends: tuple[float, float]) -> tuple[float, float]:
        return (middle + strength * (ends[0] - middle), middle + strength * (ends[1] - middle))

    return Style(
        background=style.background,
        white=1.0 - strength * (1.0 - style.white),
        scale=near(1.0, style.scale),
        rotation=strength * style.rotation,
        shift=strength * style.shift,
        brightness=near(1.0, style.brightness),
        saturation=near(1.0, style.saturation),
        hue=near(0.0, style.hue),
        noise=near(0.0, style.noise),
    )


def rasters(drawings: Sequence[Drawing], size: int) -> Tensor:
    """(N, 4, s, s) uint8 RGBA with alpha multiplied in; s is `size` times the oversampling."""
    pixels = np.stack([raster.__wrapped__(d.code, OVERSAMPLING * size) for d in drawings])
    alpha = pixels[..., 3:].astype(np.uint16)
    pixels[..., :3] = (pixels[..., :3] * alpha + 127) // 255
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def pictures(bare: Tensor, nuisances: Sequence[Nuisance], generator: torch.Generator) -> Tensor:
    """(B, 4, s, s) uint8 rasters under B nuisances -> (B, 3, size, size) float32 in 0..1."""
    size = bare.shape[-1] // OVERSAMPLING
    angle = torch.tensor([math.radians(n.rotation) for n in nuisances])
    zoom = 1.0 / torch.tensor([n.scale for n in nuisances])
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    shift = 2.0 * torch.tensor([n.shift for n in nuisances])
    turn = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
    theta = torch.cat([turn, -(turn @ shift[:, :, None])], 2)
    grid = F.affine_grid(theta, [len(nuisances), 4, size, size], align_corners=False)
    # A few at a time: the float rasters of a whole batch do not fit into the processor's cache.
    posed = torch.cat(
        [
            F.grid_sample(some.float() / 255.0, where, align_corners=False)
            for some, where in zip(torch.split(bare, 16), torch.split(grid, 16), strict=True)
        ]
    )
    background = torch.tensor([n.background for n in nuisances])[:, :, None, None]
    rgb = posed[:, :3] + background * (1.0 - posed[:, 3:])
    matrices = np.stack([colour_matrix(n.hue, n.saturation, n.brightness) for n in nuisances])
    rgb = torch.einsum("bij,bjhw->bihw", torch.from_numpy(matrices).float(), rgb)
    strength = torch.tensor([n.noise for n in nuisances])[:, None, None, None]
    noise = torch.randn(rgb.shape, generator=generator)
    return (rgb + strength * noise).clamp_(0.0, 1.0)
