"""The classes of `openmoji-roles` in four renderings: domain generalisation, in CoOp's form.

CoOp learns on ImageNet and is evaluated, unchanged, on ImageNetV2, Sketch, A and R (Zhou et al.
2022, section 4.2). Here `openmoji-roles-plain` is the source; the other three show the same test
drawings in another rendering and have no training split. Classes, candidate ids and query ids are
equal in all four, so a context learned on one is evaluated on another, and queries pair up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from data_recipes.core.images import RawImage
from data_recipes.core.model import Task
from data_recipes.core.recipe import Folders, RecipeConfig
from data_recipes.openmoji.base import OpenMojiRecipe, stored
from data_recipes.openmoji.descriptions import of_classes
from data_recipes.openmoji.drawing import DOWNSTREAM, GREY, PLAIN, Layers, Style
from data_recipes.openmoji.names import roles
from data_recipes.openmoji.roles import TEMPLATES, by_class, pictures


class OpenMojiRolesPlain(OpenMojiRecipe):
    """The source: drawings on white, each in a slightly different pose."""

    name = "openmoji-roles-plain"
    summary = "138 roles on a white background: the source of domain generalisation"
    style: ClassVar[Style] = PLAIN
    layers: ClassVar[Layers] = "all"
    has_training: ClassVar[bool] = True

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.pictures = [
            picture
            for picture in pictures(self.options.seed, self.style)
            if self.has_training or picture.split == "test"
        ]

    def images(self) -> Iterator[RawImage]:
        """Every picture of the splits that the dataset has."""
        for p in self.pictures:
            yield stored(p.id, p.drawing, p.nuisance, self.options.size, self.layers)

    def tasks(self) -> list[Task]:
        """Classification by role, as in `openmoji-roles`."""
        return [
            Task(
                name="classification",
                kind="classification",
                protocol="classification/1",
                train=by_class("train", self.pictures) if self.has_training else None,
                evaluate=(by_class("test", self.pictures),),
                templates=TEMPLATES,
            )
        ]

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Of every class, where there is something to learn."""
        return of_classes(roles()) if self.has_training else {}


class OpenMojiRolesShifted(OpenMojiRolesPlain):
    """The test pictures of `openmoji-roles`: small, dim, pale, bluish and noisy."""

    name = "openmoji-roles-shifted"
    summary = "the same test drawings small, dim, pale and noisy (as in openmoji-roles); test only"
    style = DOWNSTREAM
    has_training = False


class OpenMojiRolesGrey(OpenMojiRolesPlain):
    """The plain test pictures without colour."""

    name = "openmoji-roles-grey"
    summary = "the same test drawings in grey on white; test only"
    style = GREY
    has_training = False


class OpenMojiRolesLines(OpenMojiRolesPlain):
    """The plain test pictures' outlines: black lines on white."""

    name = "openmoji-roles-lines"
    summary = "the same test drawings as black outlines on white; test only"
    layers = "line"
    has_training = False
