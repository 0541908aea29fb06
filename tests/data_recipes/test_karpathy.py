"""Karpathy's splits: official counts, four file forms, folds, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes import karpathy
from data_recipes.core.model import DataError
from tests.pack import DATA, needs_pack, write


@needs_pack
def test_official_counts() -> None:
    flickr = karpathy.read_images(DATA / "karpathy/maccap_flickr30k_test.json")
    assert (len(flickr), sum(len(i.captions) for i in flickr)) == (1000, 5000)
    coco = karpathy.read_images(DATA / "karpathy/eccv_caption/original_image_to_caption.json")
    assert len(coco) == 5000
    to_text, to_image = karpathy.tasks(coco)
    assert len(to_image.queries) == len(to_text.candidates) == sum(len(i.captions) for i in coco)
    first = DATA / "karpathy/maccap_mscoco_test.first1000.json"
    assert sum(len(i.captions) for i in karpathy.read_images(first)) == 5001
    assert sum(len(i.captions) for i in karpathy.read_images(first, captions=5)) == 5000


@needs_pack
@pytest.mark.parametrize(("name", "images", "texts"), [("coco", 43, 218), ("flickr30k", 40, 200)])
def test_the_dataset_form(name: str, images: int, texts: int) -> None:
    found = karpathy.read_images(DATA / f"karpathy/schema_sample_dataset_{name}.json")
    assert (len(found), sum(len(i.captions) for i in found)) == (images, texts)
    assert found[0].captions[0][1].endswith(".")


def image(name: str, sentences: list[int], split: str = "test") -> dict[str, Any]:
    return {
        "filename": name,
        "split": split,
        "sentences": [{"raw": f"text {i}", "sentid": i} for i in sentences],
    }


DATASET = {"images": [image("a", [0, 1, 2]), image("b", [3], "val"), image("c", [4, 5])]}


def test_every_form_gives_the_same_images(tmp_path: Path) -> None:
    dataset = karpathy.read_images(write(tmp_path / "d.json", DATASET))
    assert [i.id for i in dataset] == ["a", "c"]
    maccap = [
        {"image_name": "a", "split": "test", "captions": ["text 0", "text 1", "text 2"]},
        {"image_name": "b", "split": "val", "captions": ["text 3"]},
        {"image_name": "c", "split": "test", "captions": ["text 4", "text 5"]},
    ]
    albef = [{"image": r["image_name"], "caption": r["captions"]} for r in maccap if "b" not in r]
    for form in (maccap, [a for a in albef if a["image"] != "b"]):
        found = karpathy.read_images(write(tmp_path / "f.json", form))
        assert [i.id for i in found] == ["a", "c"]
        assert [[t for _, t in i.captions] for i in found] == [
            [t for _, t in i.captions] for i in dataset
        ]
    ids = karpathy.read_images(write(tmp_path / "i.json", {"a": [0, 1, 2], "c": [4, 5]}))
    assert [[c for c, _ in i.captions] for i in ids] == [
        [c for c, _ in i.captions] for i in dataset
    ]


def test_the_owner_of_a_caption_is_not_its_number_over_five(tmp_path: Path) -> None:
    images = karpathy.read_images(write(tmp_path / "d.json", DATASET))
    to_text, to_image = karpathy.tasks(images)
    assert [q.relevant for q in to_text.queries] == [("0", "1", "2"), ("4", "5")]
    assert [q.relevant[0] for q in to_image.queries] == ["a", "a", "a", "c", "c"]
    assert to_text.problems() == to_image.problems() == []


def test_folds_are_consecutive_and_whole() -> None:
    images = [karpathy.Image(str(i), ((f"t{i}", ""),)) for i in range(6)]
    assert [[i.id for i in fold] for fold in karpathy.folds(images, 2)] == [
        ["0", "1"],
        ["2", "3"],
        ["4", "5"],
    ]
    assert karpathy.folds(images, None) == karpathy.folds(images, 6) == [images]
    assert karpathy.folds(images, 1000) == [images]
    with pytest.raises(DataError, match="6 images are no whole number of folds of 4"):
        karpathy.folds(images, 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"images": [image("a", [1]), image("a", [2])]}, "the image 'a' occurs 2 times"),
        ({"images": [image("a", [1]), image("b", [1])]}, "the caption id '1' occurs 2 times"),
        ({"images": [image("a", [])]}, r"record 0 \(id a\): has 0 captions, needs 1"),
        ({"images": [image("a", [1], "val")]}, "has no image of the split 'test'"),
        ({"images": [{"filename": "a", "split": "test"}]}, r"\(id a\): the field 'sentences' is"),
        ({"images": {}}, "'images' is an object, expected a list of objects"),
        ({"a": "text"}, r"record 0 \(id a\): is text, expected a list of caption ids"),
        ([{"image_name": "a", "captions": "text"}], "'captions' is text, expected a list"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        karpathy.read_images(write(tmp_path / "d.json", value))


def test_five_captions_need_five(tmp_path: Path) -> None:
    path = write(tmp_path / "d.json", DATASET)
    with pytest.raises(DataError, match=r"\(id a\): has 3 captions, needs 5 \(and 1 more like it"):
        karpathy.read_images(path, captions=5)
