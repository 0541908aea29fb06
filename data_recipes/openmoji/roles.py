"""`openmoji-roles`: which drawing is shown, how often, in which split; and the dataset itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Folders, RecipeConfig
from data_recipes.openmoji import phrases
from data_recipes.openmoji.base import OpenMojiConfig, OpenMojiRecipe, attributes, stored
from data_recipes.openmoji.descriptions import of_classes
from data_recipes.openmoji.drawing import DOWNSTREAM, DOWNSTREAM_MILD, Nuisance, Style, draw
from data_recipes.openmoji.names import Drawing, people, split_of, stable_hash
from data_recipes.openmoji.names import roles as class_names

TRAIN_PER_CLASS = 8
TEST_RENDERINGS = 4
TEMPLATES = ("a photo of a {}.", "an emoji of a {}.", "a drawing of a {}.")


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


def mildly(drawings: Iterable[Drawing], options: OpenMojiConfig) -> Iterator[RawImage]:
    """One picture of each drawing, in the mild downstream look; its id is the drawing's code."""
    for drawing in drawings:
        nuisance = downstream_nuisance(drawing.code, options.seed, DOWNSTREAM_MILD)
        yield stored(drawing.code, drawing, nuisance, options.size)


def pictures(seed: int, style: Style = DOWNSTREAM) -> list[Picture]:
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
            found.append(Picture(name, drawing, downstream_nuisance(name, seed, style), split))
    return found


def by_class(
    split: Literal["train", "test"],
    shown: Sequence[Picture],
    name: str | None = None,
    classes: Collection[str] | None = None,
) -> RetrievalTask:
    """The split's pictures to class names; a class has the same id in every dataset.

    name: of the part; default: the split. classes: the roles that take part; default: all 138.
    """
    numbers = {
        role: f"class-{number:03d}"
        for number, role in enumerate(class_names())
        if classes is None or role in classes
    }
    queries = tuple(
        Query(
            id=picture.id,
            image=picture.id,
            relevant=(numbers[picture.drawing.role],),
            group=picture.drawing.role,
            cluster=picture.drawing.code,
            meta=attributes(picture.drawing),
        )
        for picture in shown
        if picture.split == split and picture.drawing.role in numbers
    )
    candidates = tuple(Candidate(id=i, text=role) for role, i in numbers.items())
    return RetrievalTask(name or split, queries, candidates)


class OpenMojiRoles(OpenMojiRecipe):
    """Classification by role or gesture, and image-text retrieval with full captions."""

    name = "openmoji-roles"
    summary = "138 roles and gestures of OpenMoji people; captions for image-text retrieval"

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.pictures = pictures(self.options.seed)

    def images(self) -> Iterator[RawImage]:
        """Every picture of both splits."""
        for picture in self.pictures:
            yield stored(picture.id, picture.drawing, picture.nuisance, self.options.size)

    def tasks(self) -> list[Task]:
        """`classification` (the default) and `captions`, image-text retrieval in two directions."""
        return [
            Task(
                name="classification",
                kind="classification",
                protocol="classification/1",
                train=by_class("train", self.pictures),
                evaluate=(by_class("test", self.pictures),),
                templates=TEMPLATES,
            ),
            Task(
                name="captions",
                kind="image_text",
                protocol="image-text/1",
                train=self._captions("train", "train"),
                evaluate=(self._captions("test", "i2t"), self._captions("test", "t2i")),
            ),
        ]

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Of every class."""
        return of_classes(class_names())

    def _captions(self, split: str, part: str) -> RetrievalTask:
        """Pictures to captions, or for the part `t2i` captions to pictures."""
        chosen = [picture for picture in self.pictures if picture.split == split]
        shown: dict[str, list[Picture]] = {}
        for picture in chosen:
            shown.setdefault(phrases.caption(picture.drawing), []).append(picture)
        ids = {text: f"caption-{number:04d}" for number, text in enumerate(shown)}
        if part == "t2i":
            texts = tuple(
                Query(
                    id=ids[text],
                    text=text,
                    relevant=tuple(picture.id for picture in same),
                    group=same[0].drawing.role,
                    cluster=same[0].drawing.code,
                )
                for text, same in shown.items()
            )
            return RetrievalTask(part, texts, tuple(Candidate(id=p.id, image=p.id) for p in chosen))
        queries = tuple(
            Query(
                id=picture.id,
                image=picture.id,
                relevant=(ids[phrases.caption(picture.drawing)],),
                group=picture.drawing.role,
                cluster=picture.drawing.code,
            )
            for picture in chosen
        )
        return RetrievalTask(part, queries, tuple(Candidate(id=i, text=t) for t, i in ids.items()))
