"""Drawn pictures in place of a dataset's images: to try a study out where the images are not there.

Annotations, tasks and galleries are the real ones; each image is a few shapes that follow from its
id. The manifest says so in its options and its warnings, and every record repeats it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from PIL import Image, ImageDraw
from pydantic import create_model

from data_recipes.core.images import ImageSource, RawImage, encode, smaller
from data_recipes.core.model import DataError, Task
from data_recipes.core.photos import named_images
from data_recipes.core.recipe import Folders, NoFolderError, Recipe, RecipeConfig

SIDE = 48  # pixels; less than any backbone reads, so that nobody takes them for photographs
SHAPES = 3
WARNING = (
    "synthesised images: drawn from the images' ids, so that no number says anything of the "
    "dataset or of a method"
)


@dataclass(frozen=True)
class DrawnPicture:
    """A picture of coloured shapes, a function of the image's id alone."""

    id: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The one id."""
        return (self.id,)

    @property
    def path(self) -> Path | None:
        """No file."""
        return None

    def fingerprint(self) -> str:
        """By id and the manner of drawing."""
        return f"drawn, {SHAPES} shapes on {SIDE} pixels: {self.id}"

    def load(self, size: int | None) -> list[RawImage]:
        """The picture as PNG."""
        image = draw(self.id)
        if size is not None:
            image = smaller(image, size)
        return [RawImage(self.id, *encode(image, "png"))]


def draw(image_id: str) -> Image.Image:
    """The RGB picture of an id: `SHAPES` shapes on a plain ground."""
    numbers = io.BytesIO(hashlib.shake_256(image_id.encode()).digest(3 + 8 * SHAPES))

    def byte() -> int:
        return numbers.read(1)[0]

    image = Image.new("RGB", (SIDE, SIDE), (byte(), byte(), byte()))
    canvas = ImageDraw.Draw(image)
    for _ in range(SHAPES):
        x, y = byte() % (SIDE - 8), byte() % (SIDE - 8)
        box = (x, y, x + 6 + byte() % (SIDE // 2), y + 6 + byte() % (SIDE // 2))
        kind, colour = byte() % 3, (byte(), byte(), byte())
        if kind == 0:
            canvas.ellipse(box, fill=colour)
        elif kind == 1:
            canvas.rectangle(box, fill=colour)
        else:
            canvas.polygon([(box[0], box[3]), (box[2], box[3]), (x, y)], fill=colour)
    return image


class _Synthesised(Recipe):
    """What `synthesised` puts before a recipe. plain: the recipe's own options."""

    plain: ClassVar[type[RecipeConfig]]

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        config = config if config is not None else self.Config()
        own = config.model_dump(exclude={"synthesised"})
        super().__init__(self.plain.model_validate(own), folders)
        self.config = config

    def images(self) -> Iterable[ImageSource]:
        """A drawn picture for every image that a task names."""
        return [DrawnPicture(image_id) for image_id in named_images(self.tasks())]

    def tasks(self) -> list[Task]:
        """The recipe's own, from the annotations alone."""
        try:
            # The recipe is the next in line: this class stands before it (`synthesised`).
            return super().tasks()  # type: ignore[safe-super]
        except NoFolderError:
            raise DataError(
                f"dataset {self.name!r}: which images it has is known from the image folder alone, "
                "so they cannot be synthesised"
            ) from None

    def warnings(self) -> list[str]:
        """The recipe's own, and that the images are drawn."""
        return [WARNING, *super().warnings()]


def synthesised(kind: type[Recipe]) -> type[Recipe]:
    """The recipe with drawn pictures: another data version, which says so.

    Raises:
        DataError: the recipe reads no image of the user's.
    """
    if "images" not in kind.inputs:
        raise DataError(f"dataset {kind.name!r} draws its images itself; leave --synthesise out")
    config: Any = create_model(
        kind.Config.__name__, __base__=kind.Config, synthesised=(Literal[True], True)
    )
    facts = {
        "__doc__": kind.__doc__,
        "plain": kind.Config,
        "Config": config,
        "inputs": tuple(which for which in kind.inputs if which != "images"),
    }
    return cast(type[Recipe], type(kind.__name__, (_Synthesised, kind), facts))
