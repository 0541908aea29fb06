"""The attribute tasks' images: boxes cut from Visual Genome's images, as the official code does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from data_recipes.core import strict_json
from data_recipes.core.images import (
    RawImage,
    encode,
    file_fingerprint,
    open_fully,
    pad_square,
    smaller,
)
from data_recipes.core.model import DataError

DILATION = 0.7
Box = tuple[float, float, float, float]
Crop = Literal["official", "plain", "none"]


def crop_box(box: Sequence[float], width: int, height: int) -> Box:
    """(left, top, right, bottom) that the official code cuts from an image of `width` x `height`.

    datasets/vaw_dataset.py `load_cropped_image`: left and top move out by 0.7 of the box, but right
    and bottom are counted from the moved corner, so that they do not grow unless it was clipped.
    """
    x, y, w, h = box
    left, top = max(0.0, x - DILATION * w), max(0.0, y - DILATION * h)
    right = min(float(width), left + (1 + DILATION) * w)
    return left, top, right, min(float(height), top + (1 + DILATION) * h)


@dataclass(frozen=True)
class BoxesOfImage:
    """Boxes of one image file, which is decoded once; every box is stored as a PNG of its own.

    boxes: (image id, (x, y, width, height) in pixels of the file).
    crop: "official" cuts `crop_box`, "plain" the box itself (the official code without dilation);
        both pad the crop to a black square, as `PAD_CROP` there. "none" is the whole file.
    """

    path: Path
    boxes: tuple[tuple[str, Box], ...]
    crop: Crop = "official"

    @property
    def ids(self) -> tuple[str, ...]:
        """One id a box."""
        return tuple(image_id for image_id, _ in self.boxes)

    def fingerprint(self) -> str:
        """By the file, the boxes and the way they are cut."""
        cut = strict_json.digest([self.crop, [[i, list(box)] for i, box in self.boxes]])
        return f"{file_fingerprint(self.path)}; {cut}"

    def load(self, size: int | None) -> list[RawImage]:
        """The boxes' pixels without loss, or with the shorter side at `size`.

        Raises:
            DataError: not a readable image, or a box has no pixel in it.
        """
        data = self.path.read_bytes()
        image, extension = open_fully(data, str(self.path))
        if self.crop == "none":
            if size is not None and min(image.size) > size:
                data, extension = encode(smaller(image, size), extension)
            return [RawImage(image_id, data, extension) for image_id in self.ids]
        found = []
        for image_id, box in self.boxes:
            cut = pad_square(self._cut(image, box))
            if size is not None:
                cut = smaller(cut, size)
            found.append(RawImage(image_id, *encode(cut, "png")))
        return found

    def _cut(self, image: Image.Image, box: Box) -> Image.Image:
        x, y, w, h = box
        plain = (x, y, x + w, y + h)
        edges = crop_box(box, *image.size) if self.crop == "official" else plain
        # Pillow rounds the edges; the official code leaves that to it too.
        left, top, right, bottom = map(round, edges)
        if max(left, 0) >= min(right, image.width) or max(top, 0) >= min(bottom, image.height):
            raise DataError(
                f"{self.path}: the box {list(box)} has no pixel in this image of {image.width} x "
                f"{image.height}; it needs the file of Visual Genome 1.2 in its own size"
            )
        return image.crop(edges)
