"""Pictures: deterministic, and sensitive to every part of the nuisance."""

from dataclasses import replace

import numpy as np
import pytest

from data_recipes.openmoji import drawing
from data_recipes.openmoji.drawing import (
    DOWNSTREAM,
    GREY,
    PRETRAINING,
    Nuisance,
    Style,
    colour_matrix,
    draw,
    raster,
    render,
)
from data_recipes.openmoji.names import people

PLAIN = Nuisance((1.0, 1.0, 1.0), 1.0, 0.0, (0.0, 0.0), 1.0, 1.0, 0.0, 0.0, 0)
FARMER = next(d for d in people() if d.name == "woman farmer dark skin tone")


def test_the_same_seed_gives_the_same_pixels() -> None:
    nuisance = draw(np.random.default_rng(3), DOWNSTREAM)
    again = draw(np.random.default_rng(3), DOWNSTREAM)
    first = render(FARMER, 64, nuisance)
    raster.cache_clear()
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, render(FARMER, 64, again))


def test_a_plain_picture_is_the_drawing_on_white() -> None:
    picture = render(FARMER, 64, PLAIN).astype(int)
    assert (picture[0, 0] == 255).all()
    bare = raster(FARMER.code, 64).astype(int)
    opaque = bare[..., 3] == 255
    assert np.abs(picture - bare[..., :3])[opaque].mean() < 8  # averaged from twice the size


@pytest.mark.parametrize(
    "change",
    [
        {"background": (0.0, 0.5, 1.0)},
        {"scale": 0.7},
        {"rotation": 10.0},
        {"shift": (0.1, 0.0)},
        {"brightness": 0.7},
        {"saturation": 0.5},
        {"hue": 20.0},
        {"noise": 0.1},
    ],
)
def test_every_part_of_the_nuisance_shows(change: dict[str, object]) -> None:
    assert (render(FARMER, 64, PLAIN) != render(FARMER, 64, replace(PLAIN, **change))).any()


def test_a_shift_moves_the_drawing_right_and_down() -> None:
    still = render(FARMER, 64, PLAIN)
    moved = render(FARMER, 64, replace(PLAIN, shift=(8 / 64, 4 / 64)))
    assert np.array_equal(moved[4:, 8:], still[:-4, :-8])


@pytest.mark.parametrize("style", [PRETRAINING, DOWNSTREAM, drawing.PLAIN, GREY])
def test_a_nuisance_lies_in_the_ranges_of_its_style(style: Style) -> None:
    rng = np.random.default_rng(0)
    for nuisance in (draw(rng, style) for _ in range(100)):
        assert style.scale[0] <= nuisance.scale <= style.scale[1]
        assert abs(nuisance.rotation) <= style.rotation
        assert max(map(abs, nuisance.shift)) <= style.shift
        assert style.noise[0] <= nuisance.noise <= style.noise[1]


def test_colour_changes_leave_grey_grey() -> None:
    grey = np.array([0.4, 0.4, 0.4])
    assert np.allclose(colour_matrix(70.0, 0.3, 1.0) @ grey, grey)
    assert np.allclose(colour_matrix(0.0, 1.0, 0.5) @ [1.0, 0.5, 0.0], [0.5, 0.25, 0.0])
    assert np.allclose(colour_matrix(120.0, 1.0, 1.0) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])


def test_outlines_are_black_and_leave_out_every_filling() -> None:
    filled, lines = raster(FARMER.code, 128), raster(FARMER.code, 128, "line")
    opaque = lines[..., 3] == 255
    assert opaque.any() and (lines[opaque][:, :3] < 30).all()
    assert (lines[..., 3] > 0).mean() < 0.7 * (filled[..., 3] > 0).mean()
    assert np.array_equal(lines[opaque], filled[opaque])  # they are on top of the drawing


@pytest.mark.slow
def test_every_evaluated_drawing_has_outlines() -> None:
    for person in people():
        assert (raster.__wrapped__(person.code, 32, "line")[..., 3] > 128).mean() > 0.02
