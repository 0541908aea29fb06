"""The FDRD recipe: domains, tasks, where images lie, and the official counts through it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from data_recipes.fdrd_recipe import FDRD
from tests.pack import DATA, needs_pack
from tests.raw import pictures, write
from tests.worlds import WORLDS


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return WORLDS["fdrd"](tmp_path).folders


def annotations(folders: Folders) -> Path:
    assert folders.annotations is not None
    return folders.annotations


def test_a_domain_has_a_task_for_each_kind_of_gallery(folders: Folders) -> None:
    tasks = {task.name: task for task in FDRD(folders=folders).tasks()}
    assert list(tasks) == [
        "flower",
        "flower-credit-identical",
        "flower-hard",
        "plane",
        "plane-credit-identical",
        "plane-hard",
        "dtd",
        "dtd-credit-identical",  # no negatives, so nothing hard
    ]
    assert {name: task.protocol for name, task in tasks.items() if "flower" in name} == {
        "flower": "fdrd/1",
        "flower-credit-identical": "fdrd-credit-identical/1",
        "flower-hard": "fdrd-hard/1",
    }
    for task in tasks.values():
        assert [part.name for part in task.evaluate] == ["i2t", "t2i"]
        assert (task.train is not None) == task.name.startswith("flower")


def test_what_is_learned_from(folders: Folders) -> None:
    tasks = {task.name: task for task in FDRD(folders=folders).tasks()}
    plain, same, hard = (
        tasks[f"flower{kind}"].training() for kind in ("", "-credit-identical", "-hard")
    )
    assert plain == same
    assert [q.relevant for q in plain.queries] == [(q.id,) for q in plain.queries]
    assert {q.group for q in plain.queries} == {"king's crown"}
    assert (len(plain.candidates), len(hard.candidates)) == (2, 10)
    assert hard.queries[0].gallery is not None and len(hard.queries[0].gallery) == 6
    # Equal captions of the evaluated part, in the training part one right caption all the same.
    assert all(len(q.relevant) == 2 for q in tasks["flower-credit-identical"].evaluate[0].queries)


def test_image_ids_tell_domains_apart_and_query_ids_are_the_keys(folders: Folders) -> None:
    recipe = FDRD(folders=folders)
    query = recipe.tasks()[3].evaluate[0].queries[0]
    assert (query.id, query.image) == ("BAE 146-200_0934710", "plane/BAE 146-200_0934710")
    root = folders.images
    assert root is not None
    paths = {image.id: image.path.relative_to(root).as_posix() for image in recipe.images()}
    assert paths == {
        "flower/king's crown_image_00000": "oxford_flowers/jpg/image_00000.jpg",
        "flower/king's crown_image_00001": "oxford_flowers/jpg/image_00001.jpg",
        "flower/king's crown_image_00002": "oxford_flowers/jpg/image_00002.jpg",
        "flower/king's crown_image_00003": "oxford_flowers/jpg/image_00003.jpg",
        "plane/BAE 146-200_0934710": "fgvc_aircraft/images/0934710.jpg",
        "plane/BAE 146-200_0934711": "fgvc_aircraft/images/0934711.jpg",
        "dtd/banded_1.jpg": "dtd/images/banded/banded_1.jpg",
        "dtd/banded_2.jpg": "dtd/images/banded/banded_2.jpg",
    }


@pytest.mark.parametrize(
    ("file", "key", "more", "where"),
    [
        ("pets_test", "Sphynx_43", {}, "oxford_pets/images/Sphynx_43.jpg"),
        ("car_test", "cars_test_00001", {}, "stanford_cars/cars_test/00001.jpg"),
        ("inter_car_test", "cars_train_05266.jpg", {}, "stanford_cars/cars_train/05266.jpg"),
        (
            "inter_caltech-101_test",
            "Faces_image_0426.jpg",
            {"class_name": "face"},
            "caltech-101/101_ObjectCategories/Faces/image_0426.jpg",
        ),
        (
            "inter_ucf101_test",
            "v_ApplyLipstick_g01_c01.jpg",
            {"class_name": "Apply_Lipstick"},
            "ucf101/UCF-101-midframes/Apply_Lipstick/v_ApplyLipstick_g01_c01.jpg",
        ),
    ],
)
def test_every_domain_finds_its_images(
    tmp_path: Path, file: str, key: str, more: dict[str, str], where: str
) -> None:
    record = {"file_name": key, "positive": "A thing.", "negative": [], **more}
    write(tmp_path / f"a/{file}.json", {key: record})
    pictures(tmp_path / "i", [where])
    (image,) = FDRD(folders=Folders(tmp_path / "a", tmp_path / "i")).images()
    assert image.path == tmp_path / "i" / where
    own = tmp_path / "i" / where.split("/")[0]
    (image,) = FDRD(folders=Folders(tmp_path / "a", own)).images()
    assert image.path == tmp_path / "i" / where


def test_a_key_of_another_shape_is_refused(tmp_path: Path) -> None:
    record = {"file_name": "x", "positive": "A thing.", "negative": []}
    write(tmp_path / "inter_ucf101_test.json", {"x": record})
    pictures(tmp_path, ["x.jpg"])
    with pytest.raises(DataError, match="record 'x': no image of ucf101 is called like that"):
        FDRD(folders=Folders(tmp_path, tmp_path)).images()


def test_a_blank_train_file_is_refused_or_said(folders: Folders) -> None:
    recipe = FDRD(folders=folders)
    assert "inter_caltech-101_train.json is not used: empty" in recipe.warnings()
    path = annotations(folders) / "FDRD/train/flower_train.json"
    path.write_bytes(b"\n\n")
    with pytest.raises(DataError, match=r"flower_train\.json: the file is empty; .*remove it to"):
        FDRD(folders=folders).tasks()
    path.unlink()
    assert FDRD(folders=folders).tasks()[0].train is None


def test_warnings_name_what_is_not_used_and_what_cannot_be_learned(folders: Folders) -> None:
    root = annotations(folders) / "FDRD"
    write(root / "train/inter_car_train.json", {"cars_train_1.jpg": {}})
    write(root / "test/food_test.json", {"pie_1": {}})
    train = json.loads((root / "train/flower_train.json").read_text())
    test = json.loads((root / "test/flower_test.json").read_text())
    write(root / "train/flower_train.json", train | dict([next(iter(test.items()))]))
    found = FDRD(folders=folders).warnings()
    for line in (
        "inter_car_train.json is not used: no test file of its domain, or none known",
        "food_test.json is not used: no test file of its domain, or none known",
        "plane has no train file, so no method can learn on it",
        "flower: 1 image(s) in both splits: flower/king's crown_image_00000",
    ):
        assert line in found, found
    assert any(line.startswith("flower_test.json is not the official file") for line in found)


def test_no_file_at_all_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no flower_test\.json or .*; looked in .*FDRD/test"):
        FDRD(folders=Folders(tmp_path, tmp_path)).tasks()


@needs_pack
def test_official_counts(tmp_path: Path) -> None:
    """The pack's files under their own names; two of them are cut to their first records."""
    names = {
        "flower_test": "test/flower_test.first1000.json",
        "pets_test": "test/pets_test.first400.json",
        "plane_test": "test/plane_test.json",
        "inter_dtd_test": "history/inter_dtd_test.first500.json",
    }
    for name, file in names.items():
        (tmp_path / f"{name}.json").symlink_to(DATA / "fdrd" / file)
    recipe = FDRD(folders=Folders(tmp_path, tmp_path))
    tasks = {task.name: task for task in recipe.tasks()}
    sizes = {name: len(task.evaluate[0].queries) for name, task in tasks.items()}
    assert {name: sizes[name] for name in ("flower", "pets", "plane", "dtd")} == {
        "flower": 1000,
        "pets": 400,
        "plane": 3333,
        "dtd": 500,
    }
    assert "dtd-hard" not in tasks and "pets-hard" in tasks
    plane = tasks["plane"].evaluate[0]
    assert len({query.group for query in plane.queries}) == 100
    assert len({query.group for query in tasks["pets"].evaluate[0].queries}) == 37
    credited = tasks["plane-credit-identical"].evaluate[0]
    assert sum(len(query.relevant) > 1 for query in credited.queries) == 60  # 1.8 %
    kept = Counter(
        len(q.gallery or ()) - len(plane.queries) for q in tasks["plane-hard"].evaluate[0].queries
    )
    assert kept == {4: 3126, 3: 197, 0: 10}  # 10 records have their positive as every negative
    warned = recipe.warnings()
    assert not any(line.startswith("plane_test.json is not the official") for line in warned)
    assert any(line.startswith("pets_test.json is not the official") for line in warned)


@needs_pack
@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("test/flower_test.first1000.json", r"oxford_flowers/jpg/image_\d{5}\.jpg"),
        ("test/pets_test.first400.json", r"oxford_pets/images/\w+_\d+\.jpg"),
        ("test/plane_test.json", r"fgvc_aircraft/images/\d{7}\.jpg"),
        ("history/inter_dtd_test.first500.json", r"dtd/images/([a-z-]+)/\1_\d{4}\.jpg"),
    ],
)
def test_official_records_lead_to_file_names_of_the_sets(
    tmp_path: Path, file: str, pattern: str
) -> None:
    name = Path(file).name.split(".")[0]
    (tmp_path / f"{name}.json").symlink_to(DATA / "fdrd" / file)
    pictures(tmp_path, ["elsewhere/none.jpg"])  # nothing is there: the expected path is named
    paths: list[Any] = [i.path for i in FDRD(folders=Folders(tmp_path, tmp_path)).images()]
    assert len(set(paths)) == len(paths) >= 400
    for path in paths:
        assert re.fullmatch(pattern, path.relative_to(tmp_path).as_posix()), path
