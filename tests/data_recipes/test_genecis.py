"""GeneCIS: official counts and oddities, own galleries, the official crop, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes import genecis
from data_recipes.core.model import DataError
from tests.pack import DATA, needs_pack, write

COUNTS = {  # templates, gallery with target, distinct images, conditions, templates with a copy
    "focus_attribute.min": (2000, 10, 13348, 40, 6, 1),
    "change_attribute.min": (2112, 15, 15058, 400, 5, 0),
    "focus_object": (1960, 15, 2198, 97, 0, 0),
    "change_object.min": (1960, 15, 2739, 109, 1, 1),
}


@needs_pack
@pytest.mark.parametrize("name", COUNTS)
def test_official_counts(name: str) -> None:
    path = DATA / f"genecis/{name}.json"
    task = genecis.read_task(path)
    templates, gallery, images, conditions, copies, targets = COUNTS[name]
    assert task.name == name.removesuffix(".min")
    assert len(task.queries) == templates
    assert {len(q.gallery or ()) for q in task.queries} == {gallery}
    assert {q.relevant for q in task.queries} == {(q.gallery or ("",))[:1] for q in task.queries}
    assert len({q.group for q in task.queries}) == conditions
    used = [q.meta for q in task.queries] + [c.meta for c in task.candidates]
    assert len({m.get("image_id", m.get("val_image_id")) for m in used}) == images
    doubled = [q for q in task.queries if any("#" in c for c in q.gallery or ())]
    assert len(doubled) == copies
    assert sum(f"{q.relevant[0]}#2" in (q.gallery or ()) for q in task.queries) == targets
    assert task.problems() == []


BOX = {"image_id": "23", "instance_bbox": [1, 2.5, 30, 40]}
RECORD: dict[str, Any] = {
    "condition": "colour",
    "reference": BOX,
    "target": BOX | {"image_id": "24"},
    "gallery": [BOX | {"image_id": "25"}, BOX | {"image_id": "24"}],
}


def test_a_second_copy_of_the_target_is_a_candidate_of_its_own(tmp_path: Path) -> None:
    task = genecis.read_task(write(tmp_path / "focus_attribute.json", [RECORD]))
    (query,) = task.queries
    assert query.gallery == ("24:1,2.5,30,40", "25:1,2.5,30,40", "24:1,2.5,30,40#2")
    assert query.relevant == query.gallery[:1]
    assert [c.image for c in task.candidates] == [
        "24:1,2.5,30,40",
        "25:1,2.5,30,40",
        "24:1,2.5,30,40",
    ]
    assert query.image == "23:1,2.5,30,40"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 3}, "record 1: the field 'target' is a whole number, expected an object"),
        ({"target": {}}, "record 1: 'target': has neither a 'val_image_id' nor an 'image_id'"),
        ({"gallery": [BOX, {"val_image_id": "3"}]}, "'gallery' 1: 'val_image_id' is text"),
        ({"reference": BOX | {"instance_bbox": [1, 2, 3]}}, "'reference': image 23: .*width"),
        ({"reference": BOX | {"instance_bbox": [1, 2, 0, 3]}}, "'reference': image 23: .*width"),
        ({"reference": BOX | {"instance_bbox": [1, 2, "3", 3]}}, "is not a list of numbers"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "focus_attribute.json", [RECORD, RECORD | change])
    with pytest.raises(DataError, match=message):
        genecis.read_task(path)


@given(
    st.tuples(*[st.floats(0, 400)] * 2, *[st.floats(1, 300)] * 2),
    st.integers(300, 900),
    st.integers(300, 900),
)
def test_the_crop_is_the_official_one(box: tuple[float, ...], width: int, height: int) -> None:
    """datasets/vaw_dataset.py, written out: right and bottom follow the moved corner."""
    x, y, w, h = box
    left, top, right, bottom = genecis.crop_box(box, width, height)
    assert (left, top) == (max(0, x - 0.7 * w), max(0, y - 0.7 * h))
    assert right == min(width, left + 1.7 * w)
    assert bottom == min(height, top + 1.7 * h)
    if left > 0 and right < width:
        assert right == pytest.approx(x + w)  # it did not grow to the right
