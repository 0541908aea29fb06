"""Tasks on disk: every field survives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_recipes.core.model import Query
from data_recipes.core.task_files import read_task, write_task
from tests.tiny import composed


def test_every_field_of_a_query_survives(tmp_path: Path) -> None:
    full = Query(
        id="é/1",
        image="test/red.0",
        text="line\nbreak",
        relevant=("test/blue.0", "test/red.1"),
        credit=(1.0, 0.2),
        excluded=("test/red.0",),
        subset=("test/blue.0", "test/grey.1"),
        gallery=("test/blue.0", "test/red.1", "test/grey.1"),
        group="g",
        cluster="c",
        meta={"nested": {"a": [1, None]}},
    )
    part = composed().evaluate[0]
    empty = replace(full, id="2", subset=(), credit=(), gallery=("test/blue.0", "test/red.1"))
    task = replace(composed(), evaluate=(replace(part, queries=(full, empty)),))
    entry = write_task(task, tmp_path)
    assert [(part.queries, part.groups) for part in entry.parts] == [(48, 4), (2, 1)]
    assert read_task(entry, tmp_path) == task


def test_a_task_without_a_training_part_survives(tmp_path: Path) -> None:
    task = replace(composed(), train=None, templates=("a {}", "{}"))
    entry = write_task(task, tmp_path)
    assert not entry.trains
    assert read_task(entry, tmp_path) == task
