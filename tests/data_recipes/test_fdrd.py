"""FDRD: official counts, three galleries, files whose shapes differ, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes import fdrd
from data_recipes.core.model import DataError
from tests.pack import DATA, needs_pack, write

RECORDS: dict[str, Any] = {
    "A b_1": {"file_name": "1", "positive": "An A.", "negative": ["A B.", "An A.", "A C."]},
    "A b_2": {"file_name": "2", "positive": "An A.", "negative": ["A B."]},
    "C_3": {"file_name": "3", "class_name": "see", "positive": "A C.", "negative": []},
}


@needs_pack
@pytest.mark.parametrize(
    ("file", "records", "classes", "sharing", "useless"),
    [
        ("test/plane_test.json", 3333, 100, 60, 10),
        ("test/flower_test.first1000.json", 1000, None, None, None),
        ("test/pets_test.first400.json", 400, 37, None, None),
        ("history/inter_dtd_test.first500.json", 500, None, None, 0),
    ],
)
def test_official_counts(
    file: str, records: int, classes: int | None, sharing: int | None, useless: int | None
) -> None:
    to_text, to_image = fdrd.read_tasks(DATA / "fdrd" / file)
    assert len(to_text.queries) == len(to_text.candidates) == records
    assert len(to_image.queries) == len(to_image.candidates) == records
    if classes is not None:
        assert len({q.group for q in to_text.queries}) == classes
    credited = fdrd.read_tasks(DATA / "fdrd" / file, "credit-identical")
    if sharing is not None:
        assert sum(len(q.relevant) > 1 for q in credited[0].queries) == sharing
        assert round(100 * sharing / records, 1) == 1.8
    if useless is not None:
        raw = fdrd.official.read_as(DATA / "fdrd" / file, dict, "")
        assert sum(r["positive"] in r["negative"] for r in raw.values()) == useless
    hard = fdrd.read_tasks(DATA / "fdrd" / file, "hard")
    assert len(hard[0].candidates) >= records
    for task in (to_text, to_image, *credited):
        assert task.problems() == []


def test_both_directions_and_three_galleries(tmp_path: Path) -> None:
    path = write(tmp_path / "plane_test.json", RECORDS)
    to_text, to_image = fdrd.read_tasks(path)
    assert [q.group for q in to_text.queries] == ["A b", "A b", "see"]
    assert [q.relevant for q in to_text.queries] == [("A b_1",), ("A b_2",), ("C_3",)]
    assert to_image.queries[0].text == to_text.candidates[0].text == "An A."
    for task in fdrd.read_tasks(path, "credit-identical"):
        assert [q.relevant for q in task.queries] == [("A b_1", "A b_2")] * 2 + [("C_3",)]
    hard, plain = fdrd.read_tasks(path, "hard")
    assert plain == to_image
    assert hard.queries[0].gallery == ("A b_1", "A b_2", "C_3", "A b_1#0", "A b_1#1")
    assert hard.queries[2].gallery == ("A b_1", "A b_2", "C_3")
    assert {c.id: c.text for c in hard.candidates}["A b_1#1"] == "A C."
    assert hard.problems() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": ""}, r"record 2 \(id C_3\): 'positive' is blank"),
        ({"positive": None}, r"record 2 \(id C_3\): the field 'positive' is null, expected text"),
        ({"negative": "no"}, "'negative' is text, expected a list"),
        ({"negative": [1]}, "'negative' holds a whole number 1, expected text"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "x.json", RECORDS | {"C_3": RECORDS["C_3"] | change})
    with pytest.raises(DataError, match=message):
        fdrd.read_tasks(path)


def test_the_blank_file_of_the_official_repository_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inter_caltech-101_train.json"
    path.write_bytes(b"\n\n")
    with pytest.raises(DataError, match="the file is empty"):
        fdrd.read_tasks(path)
    with pytest.raises(DataError, match="holds a list, expected an object: key -> record"):
        fdrd.read_tasks(write(tmp_path / "list.json", [1]))
