"""A user's own class folders: layouts, names, the seeded split, bad folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from data_recipes.imagefolder import ImageFolderConfig, ImageFolderRecipe
from tests.raw import lines, pictures


def recipe(root: Path, **options: Any) -> ImageFolderRecipe:
    return ImageFolderRecipe(ImageFolderConfig(**options), Folders(images=root))


def flat(root: Path, classes: int = 4, each: int = 10) -> Path:
    pictures(root, [f"c_{c}/{n}.png" for c in range(classes) for n in range(each)])
    return root


def test_train_and_test_folders(tmp_path: Path) -> None:
    pictures(
        tmp_path,
        ["train/big_dog/1.jpg", "train/cat/1.jpg", "test/cat/a/2.JPG", "test/big_dog/2.png"],
    )
    found = recipe(tmp_path, template="an image of one {}.")
    (task,) = found.tasks()
    assert task.class_names == ("big dog", "cat") and task.templates == ("an image of one {}.",)
    assert [q.image for q in task.training().queries] == ["train/big_dog/1.jpg", "train/cat/1.jpg"]
    assert [q.image for q in task.evaluate[0].queries] == ["test/big_dog/2.png", "test/cat/a/2.JPG"]
    assert len(found.images()) == 4 and found.warnings() == []


def test_names_may_be_written_down(tmp_path: Path) -> None:
    root = flat(tmp_path, 2)
    lines(root / "classnames.txt", ["c_1 a black cat"])
    assert recipe(root).tasks()[0].class_names == ("c 0", "a black cat")
    lines(root / "classnames.txt", ["c_7 a cow"])
    with pytest.raises(DataError, match=r"classnames.txt:1: is 'c_7 a cow', expected a class fol"):
        recipe(root).tasks()


def test_a_share_of_each_class_is_the_test_split(tmp_path: Path) -> None:
    root = flat(tmp_path)

    def test_images(**options: Any) -> set[str]:
        task = recipe(root, **options).tasks()[0]
        train = {q.image for q in task.training().queries}
        test = {q.image for q in task.evaluate[0].queries}
        assert not train & test and len(train | test) == 40
        return {str(image) for image in test}

    drawn = test_images()
    assert sorted(image.split("/")[0] for image in drawn) == (
        ["c_0"] * 3 + ["c_1"] * 3 + ["c_2"] * 3 + ["c_3"] * 3
    )
    assert test_images() == drawn != test_images(seed=1)
    assert drawn < test_images(test_share=0.6)  # one order, cut at another place
    assert len(test_images(test_share=0.001)) == 4 and len(test_images(test_share=0.999)) == 36


def test_base_to_new_from_four_classes_on(tmp_path: Path) -> None:
    four, three = flat(tmp_path / "4"), flat(tmp_path / "3", 3)
    assert [task.name for task in recipe(four).tasks()] == ["classification", "base-to-new"]
    assert [task.name for task in recipe(three).tasks()] == ["classification"]


def test_without_training_images_it_says_so(tmp_path: Path) -> None:
    pictures(tmp_path, ["test/a/1.png", "test/b/1.png"])
    found = recipe(tmp_path)
    assert found.tasks()[0].train is None
    assert found.warnings() == ["there is no train/, so no method can learn on this dataset"]
    pictures(tmp_path, ["train/a/1.png"])
    assert recipe(tmp_path).warnings() == ["1 class(es) without training images: b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/1.png"], r"has train/ and no test/; add it"),
        (["train/a/1.png", "test/b/1.png"], "the class 'a' has no image in test/"),
        (["a/1.png", "a/2.png", "b/1.png"], "b: has one image; a class needs two"),
        (["a/1.png", "1.png"], r"1\.png: lies in no class's folder; move it into"),
        (["train/1.png", "test/a/1.png"], r"train/1\.png: lies in no class's folder"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    pictures(tmp_path, names)
    with pytest.raises(DataError, match=message):
        recipe(tmp_path).tasks()


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    root = flat(tmp_path)
    (root / "c_9").mkdir()
    with pytest.raises(DataError, match=r"c_9: has no image file; remove the folder or fill it"):
        recipe(root).tasks()


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{name}", "{} {x}"])
def test_a_template_has_one_place_for_the_name(template: str) -> None:
    with pytest.raises(ValidationError, match=r"needs exactly one \{\}"):
        ImageFolderConfig(template=template)
