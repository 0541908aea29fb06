"""Decoding: the pixels that Pillow's own conversion gives, for every kind of picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_recipes.core.images import decode, encode, open_fully, smaller


def noise(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (37, 50, 3), dtype=np.uint8))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 2**16, (37, 50), dtype=np.uint16))
    if mode in ("RGBA", "LA"):
        picture = picture.convert(mode)
        picture.putalpha(Image.fromarray(rng.integers(0, 256, (37, 50), dtype=np.uint8)))
        return picture
    return picture.convert(mode)


def stored(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def turned() -> bytes:
    """A JPEG whose EXIF says that it lies on its side, with a comment and a colour profile."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(noise(), "JPEG", exif=exif.tobytes(), comment=b"a note", icc_profile=b"\0" * 64)


PICTURES = {
    "jpeg": stored(noise(), "JPEG", quality=95),
    "jpeg-444": stored(noise(), "JPEG", subsampling=0),
    "jpeg-progressive": stored(noise(), "JPEG", progressive=True),
    "jpeg-grey": stored(noise("L"), "JPEG"),
    "jpeg-cmyk": stored(noise("CMYK"), "JPEG"),
    "jpeg-turned": turned(),
    "mpo": stored(noise(), "MPO", save_all=True, append_images=[noise().rotate(90)]),
    "png": stored(noise(), "PNG"),
    "png-transparent-colour": stored(noise(), "PNG", transparency=(1, 2, 3)),
    "png-alpha": stored(noise("RGBA"), "PNG"),
    "png-grey-alpha": stored(noise("LA"), "PNG"),
    "png-palette": stored(noise("P"), "PNG"),
    "png-one-bit": stored(noise("1"), "PNG"),
    "png-16-bit": stored(noise("I;16"), "PNG"),
    "gif": stored(noise(), "GIF"),
    "webp": stored(noise(), "WEBP"),
    "webp-alpha": stored(noise("RGBA"), "WEBP", lossless=True),
    "bmp": stored(noise(), "BMP"),
    "tiff-cmyk": stored(noise("CMYK"), "TIFF"),
}


def by_pillow(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_pixels_are_those_of_a_converted_copy(data: bytes) -> None:
    found, expected = decode(data, "x"), by_pillow(data)
    assert (found.mode, found.size) == ("RGB", (50, 37))
    assert found.tobytes() == expected.tobytes()
    assert open_fully(data, "x")[1] != "img" or data[:2] == b"II"
    # What is done next gives the same picture, and the same bytes where it is stored anew.
    for extension in ("jpg", "png"):
        small, other = smaller(found, 20), smaller(expected, 20)
        assert encode(small, extension) == encode(other, extension)
        assert encode(found.crop((3, 4, 30, 30)), extension) == encode(
            expected.crop((3, 4, 30, 30)), extension
        )
    assert np.asarray(found).std() > 1
