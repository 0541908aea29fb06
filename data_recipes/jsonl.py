"""A user's own retrieval data: one JSON-lines file a split, of queries and candidates.

    <annotations>/test.jsonl          evaluated; or several parts, test.<part>.jsonl
    <annotations>/train.jsonl         optional; without it no method can learn

A line is a candidate, {"candidate": id, "image": path} or {"candidate": id, "text": ...}, or a
query, {"query": id, "image": path, "text": ..., "relevant": [candidate ids]} and perhaps the
other fields of `Query`. Paths are relative to the folder of images, and are the images' ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data_recipes.core import strict_json
from data_recipes.core.images import ImageFile
from data_recipes.core.model import (
    Candidate,
    DataError,
    Query,
    RetrievalTask,
    Task,
    TaskKind,
)
from data_recipes.core.photos import named_images
from data_recipes.core.protocol import protocol
from data_recipes.core.recipe import Folders, PhotoConfig, Recipe, RecipeConfig

DEFAULT_PROTOCOL: dict[TaskKind, str] = {
    "classification": "classification/1",
    "image_text": "image-text/1",
    "composed": "composed/1",
}
_FILE = re.compile(r"test\.([A-Za-z0-9][A-Za-z0-9_-]*)\.jsonl")


class JsonLinesConfig(PhotoConfig):
    """kind: of the task; None: "composed" where queries have image and text, else "image_text".

    protocol: how it is scored; None: the kind's general one.
    templates: hand-written prompts with one {}, for classification.
    """

    kind: TaskKind | None = None
    protocol: str | None = None
    templates: tuple[str, ...] = ()

    @field_validator("templates", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """YAML, JSON and the command line have lists."""
        return tuple(value) if isinstance(value, list) else value

    @field_validator("protocol")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return value if value is None else protocol(value).name


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    image: str | None = None
    text: str | None = None

    @field_validator("image")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = PurePosixPath(value)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise ValueError("must be a path below the folder of images")
        return path.as_posix()  # "./a.png" and "a.png" are one image


class _CandidateLine(_Line):
    candidate: str = Field(min_length=1)
    meta: dict[str, Any] = {}

    def model_post_init(self, _: Any) -> None:
        if (self.image is None) == (self.text is None):
            raise ValueError("a candidate needs an image or a text, not both")


class _QueryLine(_Line):
    query: str = Field(min_length=1)
    relevant: list[str] = Field(min_length=1)
    credit: list[float] = []
    excluded: list[str] = []
    subset: list[str] | None = None
    gallery: list[str] | None = None
    group: str = ""
    cluster: str | None = None
    meta: dict[str, Any] = {}

    def model_post_init(self, _: Any) -> None:
        if self.image is None and self.text is None:
            raise ValueError("a query needs an image, a text, or both")


class JsonLines(Recipe):
    """Any retrieval data; the few-shot unit is the value of `group`, by default all together."""

    name = "jsonl"
    summary = "your own retrieval data: queries and candidates in JSON-lines files"
    licence = "the user's own data"
    source = "data_recipes/docs/your-own-data.md"
    inputs = ("annotations", "images")
    Config: ClassVar[type[RecipeConfig]] = JsonLinesConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = JsonLinesConfig.model_validate(self.config.model_dump())

    @cached_property
    def task(self) -> Task:
        """The one task: its parts are read, its kind and protocol follow from them."""
        root = self.folder("annotations")
        files = {found[1]: p for p in root.iterdir() if (found := _FILE.fullmatch(p.name))}
        if (root / "test.jsonl").is_file():
            if files:
                raise DataError(f"{root}: has test.jsonl and {_names(files)}; which is meant?")
            files = {"test": root / "test.jsonl"}
        if not files:
            raise DataError(f"{root}: no test.jsonl there, nor test.<part>.jsonl")
        parts = tuple(read_part(path, name) for name, path in sorted(files.items()))
        train_file = root / "train.jsonl"
        train = read_part(train_file, "train") if train_file.is_file() else None
        everything = parts if train is None else (train, *parts)
        kind = self.options.kind or infer_kind(everything)
        _refuse_misfits(root, kind, everything)
        rules = self.options.protocol or DEFAULT_PROTOCOL[kind]
        return Task(kind.replace("_", "-"), kind, rules, train, parts, self.options.templates)

    def images(self) -> list[ImageFile]:
        """Every image that a line names."""
        root = self.folder("images")
        return [ImageFile(name, root / name) for name in named_images([self.task])]

    def tasks(self) -> list[Task]:
        """One task, called by its kind."""
        return [self.task]

    def warnings(self) -> list[str]:
        """No training split."""
        if self.task.train is None:
            return ["there is no train.jsonl, so no method can learn on this dataset"]
        return []


def read_part(path: Path, name: str) -> RetrievalTask:
    """The queries and candidates of one file.

    Raises:
        DataError: naming file, line, id and field: not JSON, an unknown or missing field, an id
            given twice, or one in `relevant` and the like that is no candidate.
    """
    queries: dict[str, tuple[int, Query]] = {}
    candidates: dict[str, tuple[int, Candidate]] = {}
    for number, raw in _lines(path):
        line = _parse(path, number, raw)
        if isinstance(line, _CandidateLine):
            _refuse_twice(path, number, "candidate", line.candidate, candidates)
            candidate = Candidate(line.candidate, line.image, line.text, line.meta)
            candidates[line.candidate] = (number, candidate)
        else:
            _refuse_twice(path, number, "query", line.query, queries)
            values = line.model_dump(exclude={"query"})
            lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
            queries[line.query] = (number, Query(line.query, **(values | lists)))
    for number, query in queries.values():
        for field in ("relevant", "excluded", "subset", "gallery"):
            for one in getattr(query, field) or ():
                if one not in candidates:
                    raise DataError(
                        f"{path}:{number}: query {query.id!r}: {field} names {one!r}, which is "
                        "no candidate of this file"
                    )
    task = RetrievalTask(
        name,
        tuple(query for _, query in queries.values()),
        tuple(candidate for _, candidate in candidates.values()),
    )
    problems = task.problems()
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{path}: {problems[0]}{more}")
    return task


def infer_kind(parts: Sequence[RetrievalTask]) -> TaskKind:
    """ "composed" where a query has both image and text, else "image_text"."""
    both = any(q.image is not None and q.text is not None for p in parts for q in p.queries)
    return "composed" if both else "image_text"


def _refuse_misfits(root: Path, kind: TaskKind, parts: Sequence[RetrievalTask]) -> None:
    for part in parts:
        where = f"{root}: {part.name}"
        shapes = {(q.image is not None, q.text is not None) for q in part.queries}
        if len(shapes) > 1:
            raise DataError(
                f"{where}: some queries have an image (or a text) and others have none; put them "
                "into files of their own, test.<part>.jsonl"
            )
        if len({c.image is None for c in part.candidates}) > 1:
            raise DataError(f"{where}: candidates are either all images or all texts")
        if (kind == "composed") != (shapes == {(True, True)}):
            raise DataError(
                f"{where}: kind {kind!r} does not fit: composed queries have an image and a text, "
                "others one of the two"
            )
        if kind == "classification" and (
            shapes != {(True, False)}
            or part.candidates != parts[0].candidates
            or part.candidates[0].text is None
        ):
            raise DataError(
                f"{where}: classification needs images as queries, and as candidates class names, "
                "the same ones in the same order in every file"
            )


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, strict_json.loads(line.rstrip("\n"), f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error.reason}") from None


def _parse(path: Path, number: int, raw: Any) -> _CandidateLine | _QueryLine:
    kinds = [k for k in ("query", "candidate") if isinstance(raw, dict) and k in raw]
    if len(kinds) != 1:
        raise DataError(f'{path}:{number}: expected an object with "query" or "candidate", its id')
    model = _QueryLine if kinds == ["query"] else _CandidateLine
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        field = f"field {where!r}: " if where else ""
        reason = found["msg"].removeprefix("Value error, ")
        raise DataError(f"{path}:{number}: {kinds[0]} {raw[kinds[0]]!r}: {field}{reason}") from None


def _refuse_twice(
    path: Path, number: int, what: str, name: str, seen: dict[str, tuple[int, Any]]
) -> None:
    if name in seen:
        raise DataError(f"{path}:{number}: {what} {name!r} is in line {seen[name][0]} already")


def _names(files: dict[str, Path]) -> str:
    return ", ".join(sorted(path.name for path in files.values()))
