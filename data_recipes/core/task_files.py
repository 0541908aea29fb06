"""Tasks on disk: tasks/<task>/<part>.queries.jsonl and .candidates.jsonl, without defaults."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from data_recipes.core import strict_json
from data_recipes.core.manifest import Part, TaskEntry
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask, Task, TaskKind

_TUPLES = ("relevant", "credit", "excluded", "subset", "gallery")


def write_task(task: Task, folder: Path) -> TaskEntry:
    """Write a task's files below `folder`; returns its entry of the manifest."""
    parts = []
    for part in task.parts():
        stem = folder / "tasks" / task.name / part.name
        strict_json.write_lines(_queries_file(stem), (_compact(q) for q in part.queries))
        strict_json.write_lines(_candidates_file(stem), (_compact(c) for c in part.candidates))
        groups = len({query.group for query in part.queries})
        parts.append(
            Part(
                name=part.name,
                queries=len(part.queries),
                candidates=len(part.candidates),
                groups=groups,
            )
        )
    return TaskEntry(
        name=task.name,
        kind=task.kind,
        protocol=task.protocol,
        templates=list(task.templates),
        parts=parts,
        trains=task.train is not None,
    )


def read_task(entry: TaskEntry, folder: Path) -> Task:
    """The task of a manifest's entry. Raises DataError when files are missing or cut."""
    parts = [_read_part(folder / "tasks" / entry.name / part.name, part) for part in entry.parts]
    return Task(
        name=entry.name,
        kind=cast(TaskKind, entry.kind),
        protocol=entry.protocol,
        train=parts[0] if entry.trains else None,
        evaluate=tuple(parts[1:] if entry.trains else parts),
        templates=tuple(entry.templates),
    )


def _read_part(stem: Path, part: Part) -> RetrievalTask:
    queries = tuple(_query(raw) for raw in strict_json.read_lines(_queries_file(stem)))
    candidates = tuple(Candidate(**raw) for raw in strict_json.read_lines(_candidates_file(stem)))
    if (len(queries), len(candidates)) != (part.queries, part.candidates):
        raise DataError(
            f"{stem}: {len(queries)} queries and {len(candidates)} candidates on disk, the "
            f"manifest says {part.queries} and {part.candidates}; build the dataset again"
        )
    return RetrievalTask(part.name, queries, candidates)


def _queries_file(stem: Path) -> Path:
    return stem.with_name(stem.name + ".queries.jsonl")


def _candidates_file(stem: Path) -> Path:
    return stem.with_name(stem.name + ".candidates.jsonl")


def _compact(value: Query | Candidate) -> dict[str, Any]:
    """A dataclass as JSON without its default values."""
    bare = type(value)(id="")
    return {
        f.name: (dict(v) if f.name == "meta" else list(v) if isinstance(v, tuple) else v)
        for f in fields(value)
        if (v := getattr(value, f.name)) != getattr(bare, f.name)
    }


def _query(raw: dict[str, Any]) -> Query:
    values: dict[str, Any] = {
        k: tuple(map(_shared, v)) if k in _TUPLES else v for k, v in raw.items()
    }
    return Query(**values)


def _shared(value: Any) -> Any:
    """One object for each id: queries with galleries of their own name the same ids many times."""
    return sys.intern(value) if isinstance(value, str) else value
