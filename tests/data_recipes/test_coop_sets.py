"""CoOp's sets: split files, aircraft's lists, folders as users have them, bad files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from data_recipes import coop_sets
from data_recipes.coop_sets_table import SETS
from data_recipes.core import registry
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from tests.raw import lines, pictures, write
from tests.worlds import WORLDS

SPLIT: dict[str, list[list[Any]]] = {
    "train": [["a/1.jpg", 0, "big_dog"], ["b/1.jpg", 1, "cat"]],
    "val": [["a/2.jpg", 0, "big_dog"]],
    "test": [["a/3.jpg", 0, "big_dog"], ["b/3.jpg", 1, "cat"]],
}


def test_every_set_is_registered_with_its_facts() -> None:
    assert set(SETS) <= set(registry.recipes())
    for name, one in SETS.items():
        kind = registry.recipe(name)
        assert issubclass(kind, coop_sets.CoOpRecipe)
        assert re.search(rf"\b{one.classes}\b", kind.summary), name
        assert one.template.count("{}") == 1
        assert one.split == "" or one.split.startswith("split_zhou_")


def test_counts_agree_with_those_counted_elsewhere() -> None:
    """Train and val together, and test, as FDRD's files and the sets' own papers have them."""
    both = {name: one.counts[0] + one.counts[1] for name, one in SETS.items()}
    assert (both["caltech101"], both["dtd"], both["ucf101"]) == (5777, 3948, 9537)
    assert (both["stanford_cars"], both["oxford_pets"], both["fgvc_aircraft"]) == (8144, 3680, 6667)
    tests = {name: one.counts[2] for name, one in SETS.items()}
    assert (tests["oxford_flowers"], tests["oxford_pets"], tests["dtd"]) == (2463, 3669, 1692)
    assert sum(SETS["oxford_flowers"].counts) == 8189  # images of the whole set
    assert sum(SETS["food101"].counts) == 101_000 and sum(SETS["eurosat"].counts) == 27_000
    assert both["sun397"] == tests["sun397"] == 19_850 and sum(SETS["dtd"].counts) == 5640


def test_a_split_file_is_read(tmp_path: Path) -> None:
    splits = coop_sets.read_zhou(write(tmp_path / "s.json", SPLIT))
    assert splits.names == {0: "big_dog", 1: "cat"}
    assert [(one.image, one.label) for one in splits.test] == [("a/3.jpg", 0), ("b/3.jpg", 1)]
    assert coop_sets.shared_images(splits) == []
    leaking = SPLIT | {"val": [["a/3.jpg", 0, "big_dog"]]}
    found = coop_sets.shared_images(coop_sets.read_zhou(write(tmp_path / "l.json", leaking)))
    assert found == ["1 image(s) are in more than one split: a/3.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": None}, r"\(id val\): the field 'val' is null, expected a list"),
        ({"val": []}, "val is empty"),
        ({"val": [["a.jpg", 0]]}, "val record 0: is .*expected .path, label, class name."),
        ({"val": [["a.jpg", "0", "dog"]]}, "val record 0: is"),
        ({"val": [["a.jpg", True, "dog"]]}, "val record 0: is"),
        ({"val": [["a.jpg", -1, "dog"]]}, "val record 0: is"),
        ({"val": [["a.jpg", 0, "dog"]]}, "val record 0: label 0 is 'dog' here and 'big_dog' befo"),
        ({"val": SPLIT["val"] * 2}, "the image in val 'a/2.jpg' occurs 2 times"),
    ],
)
def test_bad_split_files_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "split_zhou_DTD.json", SPLIT | change)
    with pytest.raises(DataError, match=message) as refused:
        coop_sets.read_zhou(path)
    assert str(path) in str(refused.value)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", {k: v for k, v in SPLIT.items() if k != "test"})
    with pytest.raises(DataError, match="the field 'test' is missing"):
        coop_sets.read_zhou(path)
    folders = Folders(annotations=tmp_path, images=tmp_path)
    with pytest.raises(DataError, match=r"no split_zhou_EuroSAT\.json there; looked in"):
        registry.recipe("eurosat")(folders=folders).tasks()


def test_aircraft_lists(tmp_path: Path) -> None:
    names = coop_sets.read_names(lines(tmp_path / "variants.txt", ["707-320", "BAE 146-200"]))
    rows = lines(tmp_path / "images_variant_test.txt", ["0034309 BAE 146-200", "0034310 707-320"])
    found = coop_sets.read_list(rows, names)
    assert [(one.image, one.label) for one in found] == [("0034309.jpg", 1), ("0034310.jpg", 0)]
    with pytest.raises(DataError, match=r"x\.txt:1: the class '747' is not in variants"):
        coop_sets.read_list(lines(tmp_path / "x.txt", ["0034309 747"]), names)
    with pytest.raises(DataError, match="line 2 is blank"):
        coop_sets.read_names(lines(tmp_path / "y.txt", ["a", "", "b"]))
    with pytest.raises(DataError, match="the file is empty"):
        coop_sets.read_names(lines(tmp_path / "z.txt", []))
    with pytest.raises(DataError, match="the class name 'a' occurs 2 times"):
        coop_sets.read_names(lines(tmp_path / "w.txt", ["a", "a"]))


@pytest.mark.parametrize("below", ["", "dtd", "dtd/images"])
def test_the_root_of_all_sets_a_set_or_its_images_may_be_named(tmp_path: Path, below: str) -> None:
    write(tmp_path / "dtd/split_zhou_DescribableTextures.json", SPLIT)
    names = [row[0] for rows in SPLIT.values() for row in rows]
    pictures(tmp_path / "dtd/images", names)
    pictures(tmp_path / "other/images", ["z/0.jpg"])
    folders = Folders(annotations=tmp_path / "dtd", images=tmp_path / below)
    recipe = registry.recipe("dtd")(folders=folders)
    paths = {image.id: image.path for image in recipe.images()}
    assert paths == {name: tmp_path / "dtd/images" / name for name in names}
    top = registry.recipe("dtd")(folders=Folders(annotations=tmp_path, images=tmp_path / below))
    assert top.tasks() == recipe.tasks()


def test_a_bare_name_is_not_found_in_another_set(tmp_path: Path) -> None:
    """Food's and aircraft's images are numbers: a missing one must not become the other's."""
    folders = WORLDS["fgvc_aircraft"](tmp_path).folders
    assert folders.images is not None
    pictures(folders.images, ["food-101/images/pie/2000000.jpg"])
    (folders.images / "images/2000000.jpg").unlink()
    recipe = registry.recipe("fgvc_aircraft")(folders=folders)
    lost = next(image for image in recipe.images() if image.id == "2000000.jpg")
    assert lost.path is not None and not lost.path.exists()


def test_counts_that_are_not_official_are_warned_of(tmp_path: Path) -> None:
    recipe = registry.recipe("eurosat")(folders=WORLDS["eurosat"](tmp_path).folders)
    assert recipe.warnings() == [
        "4 classes, officially 10",
        "train has 8 images, officially 13500",
        "val has 4 images, officially 5400",
        "test has 4 images, officially 8100",
    ]


def test_official_counts_are_not_warned_of(tmp_path: Path) -> None:
    rows, number = {}, 0
    for split, count in zip(coop_sets.SPLITS, SETS["oxford_pets"].counts, strict=True):
        rows[split] = [[f"{number + n}.jpg", n % 37, f"breed {n % 37}"] for n in range(count)]
        number += count
    (tmp_path / "split_zhou_OxfordPets.json").write_text(json.dumps(rows))
    recipe = registry.recipe("oxford_pets")(folders=Folders(annotations=tmp_path))
    assert recipe.warnings() == []
    base, new = recipe.tasks()[-1].evaluate
    assert (len(base.candidates), len(new.candidates)) == (19, 18)
