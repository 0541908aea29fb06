"""JSON read strictly: damaged files are refused with file, line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.core import strict_json
from data_recipes.core.model import DataError

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice in one object"),
        ('{"a": 1, "a": 1}', "the key 'a' occurs twice in one object"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e999]", "1e999 is too large a number"),
        ("", "the file is empty"),
        (" \n ", "the file is empty"),
        ('{"a": 1,\n "b": }', "not JSON at line 2, column 7"),
        ("<html>", "not JSON at line 1, column 1"),
        ('{"a": 1} {', "not JSON at line 1, column 10: Extra data"),
    ],
)
def test_damaged_text_is_refused_with_its_source(text: str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        strict_json.loads(text, "queries.json")
    assert str(caught.value).startswith(f"queries.json: {reason}")


def test_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    with pytest.raises(DataError, match=r"cut\.json: no such file"):
        strict_json.read(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DataError, match=r"cut\.json: not UTF-8 at byte 7"):
        strict_json.read(path)
    path.write_text('{"a": [1, 2')
    with pytest.raises(DataError, match=r"cut\.json: not JSON at line 1"):
        strict_json.read(path)


def test_read_lines_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 1, "a": 2}\n')
    rows = strict_json.read_lines(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(DataError, match=r"rows\.jsonl:3: the key 'a' occurs twice"):
        next(rows)
    path.write_bytes(b'"\xff"\n')
    with pytest.raises(DataError, match=r"rows\.jsonl: not UTF-8"):
        list(strict_json.read_lines(path))
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        list(strict_json.read_lines(tmp_path / "gone.jsonl"))


@given(VALUES)
def test_canonical_text_reads_back_equal(value: object) -> None:
    assert strict_json.loads(strict_json.canonical(value), "text") == value


def test_canonical_text_knows_no_order_and_no_blanks() -> None:
    assert strict_json.canonical({"b": 1, "a": ["é", None]}) == '{"a":["é",null],"b":1}'
    assert strict_json.digest({"a": 1, "b": 2}) == strict_json.digest({"b": 2, "a": 1})
    assert strict_json.digest([1]) != strict_json.digest(["1"])


def test_the_digest_is_sha256_of_the_canonical_text() -> None:
    """Known value: a change of it would change every key and digest ever published."""
    expected = "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"
    assert strict_json.digest({"b": 2, "a": 1}) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_that_are_not_finite_have_no_canonical_text(value: object) -> None:
    with pytest.raises(ValueError):
        strict_json.canonical(value)


def test_lines_survive_a_round_trip(tmp_path: Path) -> None:
    rows = [{"id": "a\nb", "x": [1, 2.5]}, "line\u2028separator", 3]
    path = tmp_path / "new" / "rows.jsonl"
    strict_json.write_lines(path, rows)
    assert list(strict_json.read_lines(path)) == rows
