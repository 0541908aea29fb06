"""Small photographs for tests of recipes over the user's own image files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def jpeg(number: int, width: int = 16, height: int = 16) -> bytes:
    """A JPEG of one colour, another for each number up to 2**15."""
    stream = io.BytesIO()
    colour = tuple((number >> shift & 31) * 8 for shift in (0, 5, 10))
    Image.new("RGB", (width, height), colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def photos(folder: Path, names: Iterable[str]) -> Path:
    """Image files of different colours; names may have folders and are below `folder`."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    return folder
