"""Images on their way into the shards: what a recipe names, and what is stored of it.

A recipe lists sources; a worker process loads each one once: reads the file, decodes it fully,
and keeps its bytes as they are unless a smaller size or a crop was asked for.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image, ImageOps, UnidentifiedImageError

from data_recipes.core import strict_json
from data_recipes.core.model import DataError

JPEG_QUALITY = 95
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


class ImageError(DataError):
    """An image that cannot be decoded. reason: why, without the name of the file or image."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ImageSource(Protocol):
    """One or several images of a dataset, not loaded yet. Sources are pickled to workers."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the images that `load` gives, in its order; unique in the dataset."""

    @property
    def path(self) -> Path | None:
        """The file, for reports; None where there is none."""

    def fingerprint(self) -> str:
        """Changes when what `load` gives may have changed: a build continues by it."""

    def load(self, size: int | None) -> list[RawImage]:
        """Read, decode fully, and return what is stored.

        size: the longest that the shorter side may be, in pixels; None keeps the file's bytes.

        Raises:
            DataError: not a readable image. OSError: no such file, or it cannot be read.
        """


@dataclass(frozen=True)
class RawImage:
    """One image: its id (unique in the dataset), encoded bytes as they are stored, file ending.

    It is its own source, for recipes that draw their images.
    """

    id: str
    data: bytes
    extension: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """The one id."""
        return (self.id,)

    @property
    def path(self) -> Path | None:
        """No file."""
        return None

    def fingerprint(self) -> str:
        """By content."""
        content = hashlib.sha256(self.data).hexdigest()
        return strict_json.digest([content, self.extension, dict(self.meta)])

    def load(self, size: int | None) -> list[RawImage]:
        """The image itself, once it is seen to be readable."""
        image = decode(self.data, f"image {self.id!r}")
        if size is None or min(image.size) <= size:
            return [self]
        return [RawImage(self.id, *encode(smaller(image, size), self.extension), self.meta)]


@dataclass(frozen=True)
class ImageFile:
    """An image that is a file of its own."""

    id: str
    path: Path
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """The one id."""
        return (self.id,)

    def fingerprint(self) -> str:
        """By place, size and time of change, and by what is stored beside the image."""
        return f"{file_fingerprint(self.path)}, {strict_json.canonical(dict(self.meta))}"

    def load(self, size: int | None) -> list[RawImage]:
        """The file's bytes, or a smaller picture in the same format."""
        data = self.path.read_bytes()
        image, extension = open_fully(data, str(self.path))
        if size is not None and min(image.size) > size:
            data, extension = encode(smaller(image, size), extension)
        return [RawImage(self.id, data, extension, self.meta)]


def file_fingerprint(path: Path) -> str:
    """A file's place, size and time of change; says so where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return f"{path}: {found.st_size} bytes, {found.st_mtime_ns}"


def open_fully(data: bytes, source: str) -> tuple[Image.Image, str]:
    """(RGB image, file ending) of encoded bytes, every pixel decoded.

    Raises:
        ImageError: naming `source` (file or id) and the reason.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            # `convert` copies a picture that is RGB already: a sixth of a photo's decoding.
            decoded = image if image.mode == "RGB" else image.convert("RGB")
            return decoded, _ENDINGS.get(image.format or "", "img")
    except Exception as error:
        reason = _reason(data, error)
        raise ImageError(
            f"{source}: not a readable image ({len(data)} bytes): {reason}", reason
        ) from None


def _reason(data: bytes, error: Exception) -> str:
    """Why `data` cannot be decoded: what it is where that can be told, else Pillow's reason."""
    if not data:
        return "empty file"
    if data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a failed download)"
    if isinstance(error, UnidentifiedImageError):  # its text holds a memory address
        return "not an image of a format that Pillow reads"
    return str(error) or type(error).__name__


def decode(data: bytes, source: str) -> Image.Image:
    """Decode an image fully to RGB. Raises ImageError naming `source` (file, id) and the reason."""
    return open_fully(data, source)[0]


def encode(image: Image.Image, extension: str) -> tuple[bytes, str]:
    """(bytes, extension): JPEG stays JPEG at quality 95, all else becomes PNG without loss."""
    stream = io.BytesIO()
    if extension == "jpg":
        image.save(stream, "JPEG", quality=JPEG_QUALITY)
        return stream.getvalue(), "jpg"
    image.save(stream, "PNG")
    return stream.getvalue(), "png"


def smaller(image: Image.Image, size: int) -> Image.Image:
    """The image with its shorter side at `size` pixels (bicubic), unless it is smaller already."""
    short = min(image.size)
    if short <= size:
        return image
    width, height = (max(1, round(side * size / short)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


Pad = Literal["none", "square", "target-1.25"]
TARGET_RATIO = 1.25


def pad_square(image: Image.Image) -> Image.Image:
    """The image in the middle of a black square (GeneCIS' `expand2square`)."""
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def pad_to_target(image: Image.Image) -> Image.Image:
    """Black borders until the sides' ratio is about 1.25 (CLIP4Cir's `TargetPad`)."""
    width, height = image.size
    if max(image.size) / min(image.size) < TARGET_RATIO:
        return image
    side = max(image.size) / TARGET_RATIO
    across, down = max(int((side - width) / 2), 0), max(int((side - height) / 2), 0)
    return ImageOps.expand(image, (across, down, across, down))


def _unchanged(image: Image.Image) -> Image.Image:
    return image


PADS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": _unchanged,
    "square": pad_square,
    "target-1.25": pad_to_target,
}
