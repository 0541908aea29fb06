"""Random crops and flips of training images, as pure functions of what is drawn.

Nothing here reads torch's generator: the look of an image is a function of (seed, image, numbers),
so that it is the same on any number of ranks and in any order.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from PIL import Image

SCALE = (0.08, 1.0)  # share of the image's area; CoOp's code (Dassl's `random_resized_crop`)
RATIO = (3 / 4, 4 / 3)  # width to height; torchvision's default, which Dassl keeps
TRIES = 10

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


def generator(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Random numbers for one look of an image. name: the image's id. numbers: which look."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return np.random.default_rng([seed, key, *numbers])


def crop_flip(image: Image.Image, size: tuple[int, int], draw: np.random.Generator) -> Image.Image:
    """A random part of an image, resized (bicubic) to `size` (width, height); every other one
    is flipped.
    """
    cut = image.crop(crop_box(image.width, image.height, draw))
    cut = cut.resize(size, Image.Resampling.BICUBIC)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else cut


def crop_box(width: int, height: int, draw: np.random.Generator) -> Box:
    """A random part of an image of that size: torchvision's RandomResizedCrop, rule for rule.

    Area uniform in `SCALE`, the ratio's logarithm uniform in `RATIO`; after ten tries that do not
    fit, the middle of the image as wide as `RATIO` allows.
    """
    for _ in range(TRIES):
        area = width * height * draw.uniform(*SCALE)
        ratio = math.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draw.integers(width - w + 1)), int(draw.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
