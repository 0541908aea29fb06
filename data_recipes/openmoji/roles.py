"""Specification of `openmoji-roles`: which drawing, how often, in which split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_recipes.openmoji.drawing import DOWNSTREAM, Nuisance, Style, draw
from data_recipes.openmoji.names import Drawing, people, split_of, stable_hash

TRAIN_PER_CLASS = 8
TEST_RENDERINGS = 4


@dataclass(frozen=True)
class Picture:
    """One downstream picture. `id` is the drawing's code and the number of the rendering."""

    id: str
    drawing: Drawing
    nuisance: Nuisance
    split: Literal["train", "test"]


def downstream_nuisance(picture_id: str, seed: int, style: Style = DOWNSTREAM) -> Nuisance:
    """The nuisance of one picture: a function of its id, the dataset's seed and the style."""
    return draw(np.random.default_rng(stable_hash("nuisance", seed, picture_id)), style)


def pictures(seed: int) -> list[Picture]:
    """All pictures: every held-out drawing, rendered so often that each class has 8 for training.

    Test drawings (one of the six tones of a family) are rendered four times each.
    """
    held_out = [d for d in people() if split_of(d) != "pretrain"]
    available = Counter(d.role for d in held_out if split_of(d) == "train")
    found = []
    for drawing in held_out:
        split: Literal["train", "test"] = "test" if split_of(drawing) == "test" else "train"
        needed = -(-TRAIN_PER_CLASS // available[drawing.role])
        for number in range(TEST_RENDERINGS if split == "test" else needed):
            name = f"{drawing.code}_{number}"
            found.append(Picture(name, drawing, downstream_nuisance(name, seed), split))
    return found
