"""ImageNet and its shifted sets: class folders, names, domain generalisation, bad folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from data_recipes.imagenet import ImageNet, ImageNetConfig
from data_recipes.imagenet_shifted import ImageNetA, ImageNetR, ImageNetV2, read_classnames
from tests.raw import lines, pictures
from tests.worlds import WNIDS, WORLDS, classnames


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return WORLDS["imagenet"](tmp_path).folders


def images(folders: Folders) -> Path:
    assert folders.images is not None
    return folders.images


def test_labels_are_places_in_the_sorted_ids(tmp_path: Path, folders: Folders) -> None:
    assert list(read_classnames(classnames(tmp_path))) == sorted(WNIDS)
    task = ImageNet(folders=folders).tasks()[0]
    assert task.class_names == ("tench", "crane", "great white shark", "crane")
    query = task.evaluate[0].queries[2]
    assert query.image == f"val/{WNIDS[2]}/ILSVRC2012_val_{WNIDS[2]}.JPEG"
    assert query.relevant == ("class-002",)


def test_domain_generalisation_has_each_set_with_its_own_classes(folders: Folders) -> None:
    tasks = ImageNet(folders=folders).tasks()
    assert [task.name for task in tasks] == [
        "classification",
        "base-to-new",
        "domain-generalisation",
    ]
    task = tasks[-1]
    assert task.protocol == "domain-generalisation/1"
    assert [part.name for part in task.evaluate] == [
        "imagenetv2",
        "imagenet_sketch",
        "imagenet_a",
        "imagenet_r",
    ]
    assert [len(part.candidates) for part in task.evaluate] == [4, 4, 2, 2]
    assert [c.id for c in task.evaluate[3].candidates] == ["class-002", "class-003"]
    assert len(task.training().queries) == 8 and len(task.training().candidates) == 4
    v2 = {query.image: query.relevant for query in task.evaluate[0].queries}
    assert v2["imagenetv2/3/a.jpeg"] == ("class-003",)


def test_without_one_of_the_four_there_is_no_such_task(folders: Folders) -> None:
    shutil.rmtree(images(folders) / "imagenet-rendition")
    recipe = ImageNet(folders=folders)
    assert [task.name for task in recipe.tasks()] == ["classification", "base-to-new"]
    assert "no task domain-generalisation: imagenet_r not there; it needs all four" in (
        recipe.warnings()
    )
    assert all(image.id.startswith(("train/", "val/")) for image in recipe.images())


def test_val_alone_has_no_training_split(folders: Folders) -> None:
    config = ImageNetConfig(splits=("val",))
    recipe = ImageNet(config, folders)
    assert [task.train for task in recipe.tasks()] == [None]
    assert len(recipe.images()) == 4
    assert "the train split is not built, so no method can learn on this dataset" in (
        recipe.warnings()
    )
    with pytest.raises(DataError, match="the train split alone leaves nothing to evaluate"):
        ImageNet(ImageNetConfig(splits=("train",)), folders).tasks()
    with pytest.raises(ValidationError, match="unknown split 'test'"):
        ImageNetConfig(splits=("test",))


def test_the_sets_own_folders_may_be_named(folders: Folders) -> None:
    root = images(folders)
    own = Folders(folders.annotations, root / "imagenet")
    assert len(ImageNet(folders=own).images()) == 12
    inside = Folders(folders.annotations, root / "imagenet-adversarial/imagenet-a")
    (task,) = ImageNetA(folders=inside).tasks()
    assert task.class_names == ("crane", "great white shark")
    assert [q.relevant for q in task.evaluate[0].queries] == [("class-001",), ("class-002",)]
    with pytest.raises(DataError, match=r"no folder imagenet-r there; looked for .*--images"):
        ImageNetR(folders=Folders(folders.annotations, root / "imagenet")).tasks()


def test_a_folder_that_is_no_class_is_named(folders: Folders) -> None:
    pictures(images(folders), ["imagenet/images/val/n99999999/x.jpg"])
    with pytest.raises(DataError, match=r"'n99999999' in .* is not a WordNet id of classnames.txt"):
        ImageNet(folders=folders).tasks()
    v2 = "imagenetv2/imagenetv2-matched-frequency-format-val"
    pictures(images(folders), [f"{v2}/4/x.jpg"])
    with pytest.raises(DataError, match=r"'4' in .* is not a label"):
        ImageNetV2(folders=folders).tasks()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["n01440764"], r":1: is 'n01440764', expected a line such as 'n01440764 tench'"),
        (["tench n01440764"], ":1: is 'tench n01440764'"),
        (["n01440764 a", "n01440764 b"], "the class 'n01440764' occurs 2 times"),
    ],
)
def test_bad_class_names_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_classnames(lines(tmp_path / "classnames.txt", rows))
