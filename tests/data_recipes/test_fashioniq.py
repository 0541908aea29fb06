"""FashionIQ: official counts, both protocols, caption joins, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes import fashioniq
from data_recipes.core.model import DataError
from tests.pack import DATA, needs_pack, write

COUNTS = {  # records, images, VAL gallery, VAL queries of the val split; records, images of test
    "dress": (2017, 3817, 2628, 4034, 2024, 3818, 11452),
    "shirt": (2038, 6346, 3089, 4075, 2038, 6346, 19036),
    "toptee": (1961, 5373, 2902, 3920, 2056, 5374, 16121),
}
RECORDS: list[dict[str, Any]] = [
    {"target": "B1", "candidate": "B0", "captions": ["is shorter.", " has more blue "]},
    {"target": "B2", "candidate": "B0", "captions": [" ", "red"]},
    {"target": "B0", "candidate": "B2", "captions": ["", ""]},
]
SPLIT = ["B3", "B2", "B1", "B0"]


def files(category: str, split: str) -> tuple[Path, Path]:
    folder = DATA / "fashioniq"
    return (
        folder / f"captions/cap.{category}.{split}.json",
        folder / f"image_splits/split.{category}.{split}.json",
    )


@needs_pack
@pytest.mark.parametrize("category", fashioniq.CATEGORIES)
def test_official_counts(category: str) -> None:
    records, images, gallery, queries, test_records, test_images, train_images = COUNTS[category]
    captions_file, split_file = files(category, "val")
    split = fashioniq.read_split(split_file)
    captions = fashioniq.read_captions(captions_file, split)
    assert captions.category == category
    original, val = fashioniq.original_task(captions, split), fashioniq.val_task(captions)
    assert (len(original.queries), len(original.candidates)) == (records, images)
    assert (len(val.queries), len(val.candidates)) == (queries, gallery)
    assert original.problems() == val.problems() == []
    captions_file, split_file = files(category, "test")
    test = fashioniq.read_captions(captions_file, fashioniq.read_split(split_file))
    assert (len(test.references), test.targets) == (test_records, None)
    assert len(fashioniq.read_split(split_file)) == test_images
    assert len(fashioniq.read_split(files(category, "train")[1])) == train_images


@needs_pack
def test_categories_share_images_as_counted() -> None:
    val = [set(fashioniq.read_split(files(c, "val")[1])) for c in fashioniq.CATEGORIES]
    train = [set(fashioniq.read_split(files(c, "train")[1])) for c in fashioniq.CATEGORIES]
    assert len(set.union(*val)) == 15415
    assert len(set.union(*train) & set.union(*val)) == 811


def toy(tmp_path: Path) -> fashioniq.Captions:
    return fashioniq.read_captions(write(tmp_path / "cap.dress.val.json", RECORDS), SPLIT)


def test_the_original_protocol_keeps_the_reference_and_every_record(tmp_path: Path) -> None:
    task = fashioniq.original_task(toy(tmp_path), SPLIT)
    assert [q.id for q in task.queries] == ["0", "1", "2"]
    assert [c.id for c in task.candidates] == SPLIT
    assert all(q.excluded == () for q in task.queries)
    assert [q.text for q in task.queries] == ["Is shorter and has more blue", "Red", ""]
    assert task.problems() == []


def test_the_val_protocol_removes_it_and_asks_each_caption(tmp_path: Path) -> None:
    task = fashioniq.val_task(toy(tmp_path))
    assert [(q.id, q.text) for q in task.queries] == [
        ("0/0", "is shorter."),
        ("0/1", "has more blue"),
        ("1/1", "red"),
    ]
    assert [c.id for c in task.candidates] == ["B0", "B1", "B2"]
    assert all(q.excluded == (q.image,) for q in task.queries)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("start_kit", ("is shorter. <and> has more blue",)),
        ("clip4cir", ("Is shorter and has more blue",)),
        ("searle", ("is shorter and has more blue", "has more blue and is shorter")),
        ("pic2word", ("has more blue and is shorter.",)),
        ("maaf", ("is shorter. inadditiontothat has more blue",)),
    ],
)
def test_caption_joins(name: str, texts: tuple[str, ...]) -> None:
    assert fashioniq.join(RECORDS[0]["captions"], name) == texts
    assert fashioniq.join(["", " "], name) == ("",)
    (alone,) = fashioniq.join([" ", "red"], name)
    assert alone.lower() == "red"


def test_a_join_of_two_texts_is_kept_whole(tmp_path: Path) -> None:
    task = fashioniq.original_task(toy(tmp_path), SPLIT, "searle")
    assert task.queries[0].meta["texts"] == list(fashioniq.join(RECORDS[0]["captions"], "searle"))
    assert task.queries[1].meta == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "B9"}, r"record 1 \(id B0\): 'target' names 'B9', which is not in the split"),
        ({"candidate": "B9"}, "record 1: 'candidate' names 'B9', which is not in the split file"),
        ({"captions": "red"}, r"record 1 \(id B0\): the field 'captions' is text, expected a list"),
        ({"captions": ["red", None]}, "'captions' holds null None, expected text"),
        ({"candidate": 3}, "the field 'candidate' is a whole number, expected text"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    records = [RECORDS[0], RECORDS[1] | change, RECORDS[2]]
    path = write(tmp_path / "cap.dress.val.json", records)
    with pytest.raises(DataError, match=message) as error:
        fashioniq.read_captions(path, SPLIT)
    assert str(error.value).startswith(f"{path}: ")


def test_an_image_twice_in_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="record 1: the image 'B2' occurs 2 times"):
        fashioniq.read_split(write(tmp_path / "split.json", [*SPLIT, "B2"]))
