"""`openmoji-base-new`: learn on half of the classes, be evaluated on both halves.

CoCoOp's base-to-new generalisation (Zhou et al. 2022, section 4.1): the first half of the classes,
in label order, is trained on; base and new classes are ranked apart, each against its own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from data_recipes.core.images import RawImage
from data_recipes.core.model import Task
from data_recipes.core.recipe import Folders, RecipeConfig
from data_recipes.openmoji.base import OpenMojiRecipe, stored
from data_recipes.openmoji.descriptions import of_classes
from data_recipes.openmoji.names import roles
from data_recipes.openmoji.roles import TEMPLATES, by_class, pictures


def halves() -> tuple[frozenset[str], frozenset[str]]:
    """(base, new) classes. An odd class would be a base class, as in CoCoOp's code."""
    names = roles()
    middle = -(-len(names) // 2)
    return frozenset(names[:middle]), frozenset(names[middle:])


class OpenMojiBaseNew(OpenMojiRecipe):
    """Base-to-new generalisation over the pictures of `openmoji-roles`."""

    name = "openmoji-base-new"
    summary = "69 base roles to learn on, and 69 new ones; pictures of openmoji-roles"

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        base, _ = halves()
        self.pictures = [
            picture
            for picture in pictures(self.options.seed)
            if picture.split == "test" or picture.drawing.role in base
        ]

    def images(self) -> Iterator[RawImage]:
        """The base classes' training pictures and every test picture."""
        for picture in self.pictures:
            yield stored(picture.id, picture.drawing, picture.nuisance, self.options.size)

    def tasks(self) -> list[Task]:
        """One task with the evaluated parts `base` and `new`."""
        base, new = halves()
        return [
            Task(
                name="classification",
                kind="classification",
                protocol="base-to-new/1",
                train=by_class("train", self.pictures, classes=base),
                evaluate=(
                    by_class("test", self.pictures, "base", base),
                    by_class("test", self.pictures, "new", new),
                ),
                templates=TEMPLATES,
            )
        ]

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Of the base classes alone: a method may know nothing of a new class but its name."""
        base, _ = halves()
        return of_classes(sorted(base))
