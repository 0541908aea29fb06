"""Drawn pictures in place of images: real annotations, marked in the manifest, another version."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.model import DataError
from data_recipes.core.photos import named_images
from data_recipes.core.recipe import Folders
from data_recipes.core.registry import recipe, recipes
from data_recipes.core.synthesised import SIDE, WARNING, draw, synthesised
from results.gap import SYNTHESISED
from tests.worlds import WORLDS

OF_FILES = [name for name, kind in recipes().items() if "images" in kind.inputs]
BY_FOLDER = {"imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r", "imagefolder"}


@pytest.mark.parametrize("name", OF_FILES)
def test_every_recipe_over_images_of_the_users(name: str, tmp_path: Path) -> None:
    world = WORLDS[name](tmp_path / "world")
    kind = synthesised(recipe(name))
    assert "images" not in kind.inputs and kind.name == name
    made = kind(kind.Config.model_validate(world.options), Folders(world.folders.annotations))
    if name in BY_FOLDER:
        with pytest.raises(DataError, match="known from the image folder alone"):
            build_dataset(made, tmp_path / "drawn")
        return
    manifest = build_dataset(made, tmp_path / "drawn")
    assert check_dataset(tmp_path / "drawn") == []
    assert manifest.images == len(named_images(made.tasks()))
    assert manifest.warnings[0] == WARNING and manifest.config["synthesised"] is True
    real = build_dataset(
        recipe(name)(recipe(name).Config.model_validate(world.options), world.folders),
        tmp_path / "real",
    )
    assert real.digest != manifest.digest and WARNING not in real.warnings
    assert real.tasks == manifest.tasks and real.warnings == manifest.warnings[1:]
    again = kind(kind.Config.model_validate(world.options), Folders(world.folders.annotations))
    assert build_dataset(again, tmp_path / "again", workers=2).digest == manifest.digest


def test_pictures_follow_from_their_ids() -> None:
    pictures = [draw(str(number)).tobytes() for number in range(200)]
    assert len(set(pictures)) == 200
    assert draw("7").tobytes() == pictures[7] and draw("7").size == (SIDE, SIDE)


def test_a_smaller_size_is_kept(tmp_path: Path) -> None:
    world = WORLDS["cirr"](tmp_path / "world")
    kind = synthesised(recipe("cirr"))
    made = kind(kind.Config.model_validate({"image_size": 16}), Folders(world.folders.annotations))
    build_dataset(made, tmp_path / "drawn")
    dataset = open_dataset(tmp_path / "drawn")
    (image,) = dataset.images([next(iter(dataset.reader.index))])
    assert image.size == (16, 16)


def test_what_draws_its_own_pictures_is_refused() -> None:
    with pytest.raises(DataError, match="draws its images itself; leave --synthesise out"):
        synthesised(recipe("openmoji-roles"))


def test_the_report_knows_the_warning() -> None:
    """`results` may not import this, so the two agree on these words."""
    assert WARNING.startswith(SYNTHESISED)
