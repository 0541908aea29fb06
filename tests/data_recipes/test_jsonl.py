"""A user's own JSON lines: fields, kinds, parts, and an error for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_recipes.core.model import Candidate, DataError, Query
from data_recipes.core.recipe import Folders
from data_recipes.jsonl import JsonLines, JsonLinesConfig, read_part
from tests.raw import lines

RED, BLUE = {"candidate": "red", "image": "./red.png"}, {"candidate": "blue", "image": "b/blue.png"}
QUERY = {"query": "q1", "image": "red.png", "text": "make it blue", "relevant": ["blue"]}


def recipe(root: Path, **options: Any) -> JsonLines:
    config = JsonLinesConfig.model_validate(options)
    return JsonLines(config, Folders(annotations=root, images=root))


def test_lines_become_the_data_model(tmp_path: Path) -> None:
    more = {
        "excluded": ["red"],
        "subset": ["blue"],
        "gallery": ["red", "blue"],
        "credit": [0.5],
        "group": "colour",
        "cluster": "c",
        "meta": {"hard": True},
    }
    rows = [QUERY | more, RED, "", BLUE | {"meta": {"from": "x"}}]
    task = read_part(lines(tmp_path / "test.jsonl", rows), "test")
    assert task.queries == (
        Query(
            "q1",
            image="red.png",
            text="make it blue",
            relevant=("blue",),
            credit=(0.5,),
            excluded=("red",),
            subset=("blue",),
            gallery=("red", "blue"),
            group="colour",
            cluster="c",
            meta={"hard": True},
        ),
    )
    assert task.candidates == (
        Candidate("red", image="red.png"),
        Candidate("blue", image="b/blue.png", meta={"from": "x"}),
    )


def test_both_image_and_text_are_composed(tmp_path: Path) -> None:
    lines(tmp_path / "test.jsonl", [QUERY, RED, BLUE])
    found = recipe(tmp_path)
    (task,) = found.tasks()
    assert (task.name, task.kind, task.protocol) == ("composed", "composed", "composed/1")
    assert found.warnings() == ["there is no train.jsonl, so no method can learn on this dataset"]
    assert {image.id: image.path for image in found.images()} == {
        "red.png": tmp_path / "red.png",
        "b/blue.png": tmp_path / "b/blue.png",
    }
    assert recipe(tmp_path, protocol="circo/1").task.protocol == "circo/1"


def test_parts_of_two_directions(tmp_path: Path) -> None:
    text = {"candidate": "t", "text": "a blue square"}
    to_text = {"query": "q", "image": "red.png", "relevant": ["t"]}
    to_image = {"query": "q", "text": "a blue square", "relevant": ["blue"]}
    lines(tmp_path / "test.i2t.jsonl", [text, to_text])
    lines(tmp_path / "test.t2i.jsonl", [BLUE, to_image])
    lines(tmp_path / "train.jsonl", [text, to_text])
    (task,) = recipe(tmp_path).tasks()
    assert (task.name, task.protocol) == ("image-text", "image-text/1")
    assert [part.name for part in task.parts()] == ["train", "i2t", "t2i"]
    lines(tmp_path / "test.jsonl", [text, to_text])
    with pytest.raises(DataError, match=r"has test.jsonl and test.i2t.jsonl, test.t2i.jsonl"):
        recipe(tmp_path).tasks()


def test_classification_when_it_is_said(tmp_path: Path) -> None:
    names = [{"candidate": "c", "text": "cat"}, {"candidate": "d", "text": "dog"}]
    query = {"query": "q", "image": "1.png", "relevant": ["c"], "group": "c"}
    lines(tmp_path / "train.jsonl", [*names, query])
    lines(tmp_path / "test.jsonl", [*names, query])
    said = recipe(tmp_path, kind="classification", templates=["a {}."])
    (task,) = said.tasks()
    assert task.class_names == ("cat", "dog") and task.templates == ("a {}.",)
    assert task.protocol == "classification/1"
    assert recipe(tmp_path).task.kind == "image_text"
    lines(tmp_path / "test.jsonl", [*reversed(names), query])
    with pytest.raises(DataError, match=r"test: classification needs images as .*same order"):
        recipe(tmp_path, kind="classification").tasks()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r":1: not JSON at line 1"),
        ("[1]", ':1: expected an object with "query" or "candidate"'),
        ({"image": "a.png"}, ':1: expected an object with "query" or "candidate"'),
        (QUERY | {"candidate": "x"}, ':1: expected an object with "query" or "candidate"'),
        (QUERY | {"relevnt": []}, r":1: query 'q1': field 'relevnt': Extra inputs are not"),
        ({"query": "q1", "text": "x"}, r":1: query 'q1': field 'relevant': Field required"),
        (QUERY | {"relevant": []}, r":1: query 'q1': field 'relevant': List should have at least"),
        (QUERY | {"relevant": "blue"}, r":1: query 'q1': field 'relevant': Input should be a vali"),
        (QUERY | {"relevant": [3]}, r":1: query 'q1': field 'relevant.0': Input should be a valid"),
        (QUERY | {"query": 3}, r":1: query 3: field 'query': Input should be a valid string"),
        (QUERY | {"image": "../a.png"}, r":1: query 'q1': field 'image': must be a path below"),
        (QUERY | {"image": ""}, r":1: query 'q1': field 'image': must be a path below"),
        (QUERY | {"image": "/a.png"}, r":1: query 'q1': field 'image': must be a path below"),
        (QUERY | {"relevant": ["green"]}, r":1: query 'q1': relevant names 'green', which is no "),
        (QUERY | {"gallery": ["green"]}, r":1: query 'q1': gallery names 'green', which is no ca"),
        (RED, r":2: candidate 'red' is in line 1 already"),
        (QUERY | {"credit": [1.0, 0.5]}, r"query 'q1': 2 credits for 1 relevant candidates"),
        (QUERY | {"excluded": ["blue"]}, r"query 'q1': a relevant candidate is excluded"),
        ({"query": "q", "relevant": ["red"]}, r":1: query 'q': a query needs an image, a text, or"),
        ({"candidate": "x"}, r":1: candidate 'x': a candidate needs an image or a text, not both"),
        (RED | {"text": "x", "candidate": "x"}, r":1: candidate 'x': a candidate needs an image o"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, row: Any, message: str) -> None:
    path = lines(tmp_path / "test.jsonl", [row, RED, BLUE])
    with pytest.raises(DataError, match=message) as refused:
        read_part(path, "test")
    assert str(path) in str(refused.value)


def test_a_query_twice_and_a_file_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r":4: query 'q1' is in line 3 already"):
        read_part(lines(tmp_path / "test.jsonl", [RED, BLUE, QUERY, QUERY]), "test")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"x\.jsonl: not UTF-8"):
        read_part(tmp_path / "x.jsonl", "test")
    with pytest.raises(DataError, match="there is no query"):
        read_part(lines(tmp_path / "test.jsonl", [RED]), "test")


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([QUERY, {"query": "q2", "text": "x", "relevant": ["red"]}], None, "some queries have an"),
        ([QUERY, {"candidate": "t", "text": "x"}], None, "candidates are either all images or all"),
        ([QUERY], "image_text", "kind 'image_text' does not fit: composed queries have an image"),
        ([QUERY], "classification", "kind 'classification' does not fit"),
        ([{"query": "q2", "text": "x", "relevant": ["red"]}], "composed", "'composed' does not fi"),
    ],
)
def test_lines_that_do_not_fit_together(
    tmp_path: Path, rows: list[Any], kind: str | None, message: str
) -> None:
    lines(tmp_path / "test.jsonl", [RED, BLUE, *rows])
    with pytest.raises(DataError, match=message):
        recipe(tmp_path, kind=kind).tasks()


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no test\.jsonl there, nor test\.<part>\.jsonl"):
        recipe(tmp_path).tasks()
    with pytest.raises(ValidationError, match=r"Unknown protocol 'circu/1'.*circo/1"):
        JsonLinesConfig(protocol="circu/1")
