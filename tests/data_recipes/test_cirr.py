"""CIRR: official counts, exclusion and subset, hard and soft relevance, bad files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_recipes import cirr
from data_recipes.core.model import DataError
from tests.pack import DATA, needs_pack, write

RECORD: dict[str, Any] = {
    "pairid": 7,
    "reference": "r",
    "target_hard": "t",
    "target_soft": {"t": 1.0, "s": 0.5, "r": 1.0, "a": -1.0},
    "caption": " bluer ",
    "img_set": {"id": 1, "members": ["r", "t", "a", "b", "c", "d"]},
}
IMAGES = ["r", "t", "a", "b", "c", "d", "s", "x"]


def official(split: str) -> tuple[Path, list[str]]:
    folder = DATA / "cirr"
    images = cirr.read_split(folder / f"image_splits/split.rc2.{split}.json")
    return folder / f"captions/cap.rc2.{split}.json", list(images)


@needs_pack
@pytest.mark.parametrize(
    ("split", "queries", "images", "references", "never"),
    [("val", 4181, 2297, 2165, 132), ("test1", 4148, 2315, 2178, 137)],
)
def test_official_counts(
    split: str, queries: int, images: int, references: int, never: int
) -> None:
    path, names = official(split)
    task = cirr.read_task(path, names)
    assert (len(task.queries), len(task.candidates)) == (queries, images)
    assert len({q.image for q in task.queries}) == references
    assert images - references == never
    assert {len(q.subset or ()) for q in task.queries} == {5}
    assert all(q.excluded == (q.image,) for q in task.queries)
    assert all(bool(q.relevant) == (split == "val") for q in task.queries)
    assert task.problems() == []
    assert {c.id for c in cirr.read_task(path).candidates} == set(names)
    assert sum(q.text == "" for q in task.queries) == (split == "test1")


@needs_pack
def test_official_train_split_has_its_images_in_folders() -> None:
    images = cirr.read_split(DATA / "cirr/image_splits/split.rc2.train.json")
    assert len(images) == 16939
    assert images["train-11041-2-img0"] == "./train/34/train-11041-2-img0.png"


@needs_pack
def test_soft_relevance_of_val_as_counted() -> None:
    path, names = official("val")
    hard, soft = cirr.read_task(path, names), cirr.read_task(path, names, soft=True)
    assert soft.problems() == []
    assert sum(not q.relevant for q in soft.queries) == 3
    pairs = list(zip(hard.queries, soft.queries, strict=True))
    # 37 soft lists lack the hard target, and 3 say -1 for it.
    assert sum(h.relevant[0] not in s.relevant for h, s in pairs) == 37 + 3
    grades = Counter(value for q in soft.queries for value in q.credit)
    assert (grades[0.5], grades[0.2]) == (62, 6)


def test_soft_credit_leaves_the_reference_and_negatives_out(tmp_path: Path) -> None:
    path = write(tmp_path / "cap.json", [RECORD])
    (query,) = cirr.read_task(path, IMAGES, soft=True).queries
    assert (query.relevant, query.credit) == (("t", "s"), (1.0, 0.5))
    (query,) = cirr.read_task(path, IMAGES).queries
    assert (query.relevant, query.credit) == (("t",), ())
    assert (query.excluded, query.subset) == (("r",), ("t", "a", "b", "c", "d"))
    assert query.text == "bluer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_hard": "z"}, r"record 1 \(id 8\): 'target_hard' names 'z', which is not in the"),
        ({"reference": "z"}, r"record 1 \(id 8\): 'img_set.members' .* lacks the reference 'z'"),
        ({"target_soft": {"z": 1.0}}, "'target_soft' names 'z', which is not in the split file"),
        ({"target_soft": {"t": "1"}}, "'target_soft' holds text '1', expected a number"),
        ({"target_soft": ["t"]}, "'target_soft' is a list, expected an object"),
        ({"img_set": {"members": ["r", "r"]}}, "names an image twice"),
        ({"img_set": {}}, r"record 1 \(id 8\): the field 'members' is missing"),
        ({"pairid": 7}, "record 0: the pairid 7 occurs 2 times"),
        ({"pairid": "8"}, "record 1: the field 'pairid' is text, expected a whole number"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "cap.json", [RECORD, RECORD | {"pairid": 8} | change])
    with pytest.raises(DataError, match=message) as error:
        cirr.read_task(path, IMAGES)
    assert str(error.value).startswith(f"{path}: ")


def test_a_list_is_no_split_file(tmp_path: Path) -> None:
    path = write(tmp_path / "split.json", IMAGES)
    with pytest.raises(DataError, match="holds a list, expected an object: image name -> path"):
        cirr.read_split(path)
