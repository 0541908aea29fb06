"""Random crops: torchvision's rule and resizing, and a function of what is drawn alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as tv

from bench.augment import RATIO, SCALE, crop_box, crop_flip, generator


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


sides = st.integers(1, 400)


@given(sides, sides, st.integers(0, 2**32))
def test_a_box_lies_in_the_image_and_keeps_the_rules(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = crop_box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    w, h = right - left, bottom - top
    # Rounding moves each side by half a pixel at most; long strips may have to go below the area.
    if RATIO[0] <= width / height <= RATIO[1]:
        assert (w + 0.5) * (h + 0.5) >= SCALE[0] * width * height
    assert (w - 0.5) / (h + 0.5) <= RATIO[1] and (w + 0.5) / (h - 0.5) >= RATIO[0]


@pytest.mark.parametrize("size", [(300, 10), (10, 300), (3, 1)])
def test_where_no_try_fits_the_middle_is_taken_as_torchvision_does(size: tuple[int, int]) -> None:
    class Never(np.random.Generator):
        """A generator whose areas are too large for any box of an allowed ratio."""

        def uniform(self, low: float = 0.0, high: float = 1.0) -> float:  # type: ignore[override]
            return high

    image = noise(*size)
    top, left, height, width = RandomResizedCrop.get_params(image, [1.0, 1.0], [0.75, 4 / 3])
    box = crop_box(*size, Never(np.random.PCG64(0)))
    assert box == (left, top, left + width, top + height)


def test_sizes_and_ratios_are_spread_as_torchvisions_are() -> None:
    """Means over 3,000 draws of each: the two samples agree to four standard errors."""
    draw, image = np.random.default_rng(1), noise(200, 150)
    own = np.array([crop_box(200, 150, draw) for _ in range(3000)])
    ours = np.stack([own[:, 2] - own[:, 0], own[:, 3] - own[:, 1], own[:, 0], own[:, 1]], axis=1)
    theirs = np.array(
        [
            (width, height, left, top)
            for top, left, height, width in (
                RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(3000)
            )
        ]
    )
    error = np.sqrt(ours.var(axis=0) / 3000 + theirs.var(axis=0) / 3000)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4 * error).all()


def test_a_crop_is_resized_and_flipped_as_torchvision_does() -> None:
    image = noise(90, 60)
    flips = set()
    for number in range(8):
        found = crop_flip(image, (32, 24), generator(1, "a", number))
        again = generator(1, "a", number)
        left, top, right, bottom = crop_box(90, 60, again)
        expected = tv.resized_crop(
            image, top, left, bottom - top, right - left, [24, 32], InterpolationMode.BICUBIC
        )
        flipped = again.random() < 0.5
        flips.add(flipped)
        assert found.tobytes() == (tv.hflip(expected) if flipped else expected).tobytes()
    assert flips == {True, False}


def test_the_draw_depends_on_seed_image_and_every_number() -> None:
    drawn = [
        generator(*key).random()
        for key in ((1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1), (1, "a", 0, 0), (1, "a"))
    ]
    assert len(set(drawn)) == 6
    assert generator(1, "a", 0).random() == drawn[0]
