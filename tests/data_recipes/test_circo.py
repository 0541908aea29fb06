"""CIRCO: official counts, several ground truths, credit for the target only, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes import circo
from data_recipes.core.model import DataError
from data_recipes.core.protocol import CIRCO_ASPECTS
from tests.pack import DATA, needs_pack, write

RECORD: dict[str, Any] = {
    "reference_img_id": 1,
    "target_img_id": 2,
    "relative_caption": "has a hat",
    "shared_concept": "a dog",
    "gt_img_ids": [2, 3],
    "id": 0,
    "semantic_aspects": ["negation"],
}


@needs_pack
def test_official_counts() -> None:
    val = circo.read_task(DATA / "circo/annotations/val.json")
    test = circo.read_task(DATA / "circo/annotations/test.json")
    assert (len(val.queries), len(test.queries)) == (220, 800)
    assert [q.id for q in val.queries] == [str(i) for i in range(220)]
    counts = [len(q.relevant) for q in val.queries]
    assert (sum(counts), min(counts), max(counts)) == (916, 1, 14)
    assert all(q.credit[0] == 1.0 and sum(q.credit) == 1.0 for q in val.queries)
    assert not any(q.relevant for q in test.queries)
    assert val.problems() == test.problems() == []
    tags = [tag for q in val.queries for tag in q.meta["semantic_aspects"]]
    assert set(tags) == set(CIRCO_ASPECTS)
    assert tags.count("statement_with_conjunction") == 164
    assert tags.count("negation") == 21


def test_all_ground_truths_are_relevant_and_the_target_pays(tmp_path: Path) -> None:
    (query,) = circo.read_task(write(tmp_path / "val.json", [RECORD])).queries
    assert (query.relevant, query.credit) == (("2", "3"), (1.0, 0.0))
    assert query.meta == {"semantic_aspects": ["negation"], "shared_concept": "a dog"}
    assert query.excluded == ()


def test_the_gallery_in_both_forms(tmp_path: Path) -> None:
    coco = write(tmp_path / "info.json", {"images": [{"id": 3}, {"id": 1}, {"id": 2}]})
    plain = write(tmp_path / "ids.json", [3, 1, 2])
    assert circo.read_gallery(coco) == circo.read_gallery(plain) == ["3", "1", "2"]
    assert circo.file_name("3") == "000000000003.jpg"
    with pytest.raises(DataError, match="the image 3 occurs 2 times"):
        circo.read_gallery(write(tmp_path / "twice.json", [3, 3]))
    with pytest.raises(DataError, match="has no list 'images'"):
        circo.read_gallery(write(tmp_path / "other.json", {"annotations": []}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"target_img_id": 9},
            r"record 1 \(id 1\): 'target_img_id' 9 is not among its 'gt",
        ),
        ({"gt_img_ids": [2, 9]}, r"record 1 \(id 1\): .* names '9', which is not in the gallery"),
        ({"gt_img_ids": [2, 2]}, r"record 1 \(id 1\): 'gt_img_ids' names an image twice"),
        ({"gt_img_ids": ["2"]}, "'gt_img_ids' holds text '2', expected a whole number"),
        ({"semantic_aspects": ["new"]}, "names 'new', which is not in the 9 aspects"),
        ({"id": 0}, "record 0: the id 0 occurs 2 times"),
        ({"reference_img_id": "1"}, "'reference_img_id' is text, expected a whole number"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "val.json", [RECORD, RECORD | {"id": 1} | change])
    with pytest.raises(DataError, match=message):
        circo.read_task(path, ["1", "2", "3"])


def test_half_withheld_targets_are_refused(tmp_path: Path) -> None:
    record = {k: v for k, v in RECORD.items() if k != "gt_img_ids"}
    with pytest.raises(DataError, match="'target_img_id' and 'gt_img_ids' belong together"):
        circo.read_task(write(tmp_path / "val.json", [record]))
