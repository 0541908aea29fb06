"""Strict reading of official files: what is wrong, where, and how many more like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_recipes.core import official
from data_recipes.core.model import DataError
from tests.pack import write

RECORDS = [{"id": 7, "name": "a"}, {"id": 8}, {"id": 9, "name": 3}, {"id": True, "name": "d"}]
HERE = Path("cap.json")


def test_a_missing_field_is_named_with_record_and_id() -> None:
    with pytest.raises(DataError) as error:
        official.column(HERE, RECORDS, "name", str, [7, 8, 9, 10])
    assert str(error.value) == (
        "cap.json: record 1 (id 8): the field 'name' is missing (and 1 more like it)"
    )


def test_a_wrong_type_says_both_types_and_true_is_no_number() -> None:
    with pytest.raises(DataError, match=r"record 2: the field 'name' is a whole number, expected"):
        official.column(HERE, [RECORDS[0], RECORDS[0], RECORDS[2]], "name", str)
    with pytest.raises(DataError, match=r"record 3: the field 'id' is true or false, expected a"):
        official.column(HERE, RECORDS, "id", int)


def test_a_field_that_no_record_has_is_withheld_and_one_that_some_have_is_an_error() -> None:
    assert official.optional(HERE, RECORDS, "target", str) is None
    with pytest.raises(DataError, match="record 1: the field 'name' is missing"):
        official.optional(HERE, RECORDS[:2], "name", str)


def test_repeated_and_unknown_ids() -> None:
    with pytest.raises(
        DataError, match=r"record 0: the id 'a' occurs 2 times \(and 1 more like it"
    ):
        official.unique(HERE, ["a", "b", "a", "b"], "id")
    with pytest.raises(DataError, match=r"record 1 \(id 8\): 'target' names 'z', which is not in"):
        official.inside(HERE, [["a"], ["z"]], "target", {"a"}.__contains__, "the split", [7, 8])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),  # FDRD/train/inter_caltech-101_train.json
        ("{}", "holds an object, expected a list: captions"),
        ("[]", "holds a list without any record"),
        ("[1, 2]", r"record 0: is a whole number, expected an object \(and 1 more like it"),
        ('[{"a": NaN}]', "NaN is not JSON"),
        ('[{"a": 1, "a": 2}]', "the key 'a' occurs twice"),
        ('[{"a": 1}', "not JSON at line 1, column 10"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cap.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        official.read_records(path, "captions")
    assert str(error.value).startswith(f"{path}: ")


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    assert official.read_records(write(tmp_path / "x.json", RECORDS), "captions") == RECORDS
