"""`openmoji-source`: pictures and names of what is not evaluated anywhere else.

Animals, food, flags and other drawings that come in no skin tone: pairs for stages of training that
come before the target dataset. The embedded backbone was pre-trained on the same drawings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Folders, RecipeConfig
from data_recipes.openmoji.base import OpenMojiRecipe, stored
from data_recipes.openmoji.drawing import PRETRAINING, Nuisance, draw
from data_recipes.openmoji.names import Drawing, drawings, stable_hash

RENDERINGS = 2  # of each training drawing; validation drawings are shown once
VALIDATION = 160  # drawings

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Pair:
    """One picture; its caption is the drawing's name."""

    id: str
    drawing: Drawing
    nuisance: Nuisance
    split: Split


def pairs(seed: int) -> list[Pair]:
    """All pictures, sorted by code; no drawing is in both splits."""
    things = [d for d in drawings() if d.kind == "other"]
    order = sorted(things, key=lambda d: stable_hash("source", d.code))
    held_out = {d.code for d in order[:VALIDATION]}
    found = []
    for thing in things:
        split: Split = "val" if thing.code in held_out else "train"
        for number in range(RENDERINGS if split == "train" else 1):
            name = f"{thing.code}_{number}"
            rng = np.random.default_rng(stable_hash("source", seed, name))
            found.append(Pair(name, thing, draw(rng, PRETRAINING), split))
    return found


class OpenMojiSource(OpenMojiRecipe):
    """Image-text pairs of drawings outside the evaluated roles."""

    name = "openmoji-source"
    summary = "1,588 OpenMoji drawings of things with their names, for stages before the target"

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.pairs = pairs(self.options.seed)

    def images(self) -> Iterator[RawImage]:
        """Every picture of both splits."""
        for pair in self.pairs:
            yield stored(pair.id, pair.drawing, pair.nuisance, self.options.size)

    def tasks(self) -> list[Task]:
        """Image-text retrieval in two directions; a drawing's pictures are a few-shot unit."""
        return [
            Task(
                name="captions",
                kind="image_text",
                protocol="image-text/1",
                train=self._part("train", "train"),
                evaluate=(self._part("val", "i2t"), self._part("val", "t2i")),
            )
        ]

    def _part(self, split: Split, part: str) -> RetrievalTask:
        """Pictures to captions, or for the part `t2i` captions to pictures."""
        shown = [pair for pair in self.pairs if pair.split == split]
        texts = {pair.drawing.code: pair.drawing.name for pair in shown}
        if part == "t2i":
            captions = tuple(
                Query(
                    id=code,
                    text=text,
                    relevant=tuple(p.id for p in shown if p.drawing.code == code),
                    group=code,
                    cluster=code,
                )
                for code, text in texts.items()
            )
            return RetrievalTask(
                part, captions, tuple(Candidate(id=p.id, image=p.id) for p in shown)
            )
        queries = tuple(
            Query(
                p.id,
                image=p.id,
                relevant=(p.drawing.code,),
                group=p.drawing.code,
                cluster=p.drawing.code,
            )
            for p in shown
        )
        return RetrievalTask(
            part, queries, tuple(Candidate(id=c, text=t) for c, t in texts.items())
        )
