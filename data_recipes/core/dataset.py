"""Building a dataset's folder from a recipe, and opening it again.

folder/manifest.json, index.parquet, images-000000.tar ..., tasks/<task>/<part>.*.jsonl
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
from PIL import Image

from data_recipes.core import strict_json
from data_recipes.core.images import PADS, RawImage, decode
from data_recipes.core.manifest import (
    INDEX,
    MANIFEST,
    SCHEMA,
    Manifest,
    Part,
    TaskEntry,
    read_manifest,
)
from data_recipes.core.model import (
    Candidate,
    DataError,
    Query,
    RetrievalTask,
    Task,
    TaskKind,
)
from data_recipes.core.protocol import protocol
from data_recipes.core.recipe import Recipe
from data_recipes.core.remote import Place, Remote, RemoteShards, mirror, place
from data_recipes.core.shards import (
    IMAGES_PER_SHARD,
    ShardReader,
    file_sha256,
    verify_shards,
    write_shards,
)

FAILURES_SHOWN = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLAIN = "use letters, digits, '.', '_' and '-' (it names a file)"


@dataclass(frozen=True)
class Dataset:
    """A built dataset: its manifest, tasks and images.

    folder: all its files; of a remote dataset a local mirror of all but the shards.
    """

    folder: Path
    manifest: Manifest
    remote: Remote | None = None

    @cached_property
    def reader(self) -> ShardReader:
        """Access to the images' bytes."""
        if self.remote is None:
            return ShardReader.open(self.folder)
        shards = {shard.name: shard for shard in self.manifest.shards}
        return ShardReader.open(self.folder, RemoteShards(self.remote, self.folder, shards))

    @cached_property
    def missing(self) -> frozenset[str]:
        """Ids of the images that the tasks name and the shards lack (`--allow-missing`)."""
        return frozenset(image.id for image in self.manifest.missing)

    def images(self, ids: Sequence[str]) -> Iterator[Image.Image]:
        """RGB images in the order of `ids`, padded as the recipe's `pad` option says."""
        yield from map(self.pad, self.reader.images(ids))

    def pad(self, image: Image.Image) -> Image.Image:
        """A decoded image, padded as the recipe's `pad` option says."""
        return PADS[self.manifest.config.get("pad", "none")](image)

    def task(self, name: str | None = None) -> Task:
        """Read a task (None: the default one). Raises DataError when files are missing."""
        entry = self.manifest.task(name)
        parts = [self._part(entry, part) for part in entry.parts]
        return Task(
            name=entry.name,
            kind=cast(TaskKind, entry.kind),
            protocol=entry.protocol,
            train=parts[0] if entry.trains else None,
            evaluate=tuple(parts[1:] if entry.trains else parts),
            templates=tuple(entry.templates),
        )

    def _part(self, entry: TaskEntry, part: Part) -> RetrievalTask:
        stem = self.folder / "tasks" / entry.name / part.name
        queries = tuple(_query(raw) for raw in strict_json.read_lines(_queries_file(stem)))
        candidates = tuple(
            _candidate(raw) for raw in strict_json.read_lines(_candidates_file(stem))
        )
        if (len(queries), len(candidates)) != (part.queries, part.candidates):
            raise DataError(
                f"{stem}: {len(queries)} queries and {len(candidates)} candidates on disk, the "
                f"manifest says {part.queries} and {part.candidates}; build the dataset again"
            )
        return RetrievalTask(part.name, queries, candidates)


def open_dataset(folder: Place | str) -> Dataset:
    """Open a built dataset. Raises DataError when there is none or it is damaged.

    folder: a local folder, or the address of one (`s3://bucket/name`, `https://host/name`).
    """
    there = place(folder)
    if isinstance(there, Path):
        return Dataset(there, read_manifest(there))
    local = mirror(there, _verify_mirror)
    return Dataset(local, read_manifest(local), there)


def _verify_mirror(folder: Path, manifest: Manifest) -> None:
    """Raise DataError unless index and tasks are those that the manifest's digests name."""
    index = folder / INDEX
    if file_sha256(index) != manifest.index_sha256:
        raise DataError(f"{index}: differs from the manifest; copy the dataset there again")
    if _digest(manifest, pd.read_parquet(index), folder) != manifest.digest:
        raise DataError(
            f"{folder / 'tasks'}: content differs from the manifest; copy the dataset there again"
        )


def check_dataset(folder: Place | str) -> list[str]:
    """Everything wrong with a built dataset (shards, digests, tasks), one line each.

    Of a remote one every image is compared with the index; a difference raises DataError.
    """
    dataset = open_dataset(folder)
    folder = dataset.folder
    found = [] if dataset.remote else verify_shards(folder, dataset.manifest.shards)
    index = folder / INDEX
    if not index.is_file() or file_sha256(index) != dataset.manifest.index_sha256:
        found.append(f"{index}: missing or different from the manifest")
    if found:
        return found
    known = set(dataset.reader.index)
    for entry in dataset.manifest.tasks:
        try:
            parts = dataset.task(entry.name).parts()
        except DataError as error:
            found.append(str(error))
            continue
        for part in parts:
            found += [f"{entry.name}/{part.name}: {line}" for line in part.problems(known)]
    if not found and _digest(dataset.manifest, pd.read_parquet(index), folder) != (
        dataset.manifest.digest
    ):
        found.append(f"{folder / 'tasks'}: content differs from the manifest (digest)")
    for image_id, data in dataset.reader.stream():
        try:
            decode(data, f"image {image_id!r}")
        except DataError as error:
            found.append(str(error))
    return found


def build_dataset(recipe: Recipe, folder: Path, per_shard: int = IMAGES_PER_SHARD) -> Manifest:
    """Build `recipe` into `folder`, whole or not at all (written beside it, then renamed).

    Every image is decoded once; all failures come in one report.

    Raises:
        DataError: unreadable images, duplicate ids, tasks that do not fit together, or a folder
            that is not empty and no built dataset.
    """
    tasks = recipe.tasks()
    for task in tasks:
        protocol(task.protocol)
    misnamed = _name_problems(tasks)
    if misnamed:
        raise DataError(_report(recipe.name, "problem(s) in the tasks", misnamed))
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder}: not empty, and is no built dataset, so it is not replaced; give another "
            "folder"
        )
    part_folder = folder.with_name(f".{folder.name}.building-{os.getpid()}")
    shutil.rmtree(part_folder, ignore_errors=True)
    try:
        failures: list[str] = []
        shards, index = write_shards(_decodable(recipe, failures), part_folder, per_shard)
        if failures:
            raise DataError(_report(recipe.name, "image(s) cannot be read", failures))
        if index.empty:
            raise DataError(f"dataset {recipe.name!r} was not built: it has no image")
        known = set(index["id"])
        wrong = [
            f"task {task.name}/{part.name}: {line}"
            for task in tasks
            for part in task.parts()
            for line in part.problems(known)
        ]
        if wrong:
            raise DataError(_report(recipe.name, "problem(s) in the tasks", wrong))
        index.to_parquet(part_folder / INDEX, index=False)
        entries = [_write_task(task, part_folder) for task in tasks]
        manifest = Manifest(
            schema_version=SCHEMA,
            name=recipe.name,
            recipe_version=recipe.version,
            config=recipe.config.model_dump(mode="json"),
            licence=recipe.licence,
            attribution=recipe.attribution,
            source=recipe.source,
            images=len(index),
            digest="",
            tasks=entries,
            shards=shards,
            index_sha256=file_sha256(part_folder / INDEX),
            warnings=recipe.warnings(),
        )
        manifest = manifest.model_copy(update={"digest": _digest(manifest, index, part_folder)})
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
        (part_folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        part_folder.rename(folder)
        return manifest
    finally:
        shutil.rmtree(part_folder, ignore_errors=True)


def _digest(manifest: Manifest, index: pd.DataFrame, folder: Path) -> str:
    """The dataset's identity: its images' and task files' content, not its cut into shards."""
    return strict_json.digest(
        {
            "name": manifest.name,
            "recipe_version": manifest.recipe_version,
            "config": manifest.config,
            # Only where there are any, as they are written into the manifest.
            **({"missing": sorted(m.id for m in manifest.missing)} if manifest.missing else {}),
            "images": sorted(zip(index["id"], index["sha256"], strict=True)),
            "tasks": [
                {
                    "entry": entry.model_dump(mode="json", exclude_defaults=True),
                    "files": {
                        path.name: file_sha256(path)
                        for path in sorted((folder / "tasks" / entry.name).iterdir())
                    },
                }
                for entry in manifest.tasks
            ],
        }
    )


def _name_problems(tasks: Sequence[Task]) -> list[str]:
    """Names of tasks and parts become file names: plain, and each once."""
    found = [] if tasks else ["there is no task"]
    for name, count in Counter(task.name for task in tasks).items():
        if count > 1:
            found.append(f"two tasks are called {name!r}")
        if not _NAME.fullmatch(name):
            found.append(f"task {name!r}: {_PLAIN}")
    for task in tasks:
        if not task.evaluate:
            found.append(f"task {task.name}: no part to evaluate")
        for name, count in Counter(part.name for part in task.parts()).items():
            if count > 1:
                found.append(f"task {task.name}: two parts are called {name!r}")
            if not _NAME.fullmatch(name):
                found.append(f"part {name!r} of task {task.name}: {_PLAIN}")
    return found


def _decodable(recipe: Recipe, failures: list[str]) -> Iterator[RawImage]:
    for source in recipe.images():
        try:
            yield from source.load(getattr(recipe.config, "image_size", None))
        except (DataError, OSError) as error:
            failures.append(str(error))


def _report(name: str, what: str, lines: list[str]) -> str:
    shown = "\n  ".join(lines[:FAILURES_SHOWN])
    rest = len(lines) - FAILURES_SHOWN
    more = f"\n  ... and {rest} more" if rest > 0 else ""
    return f"dataset {name!r} was not built: {len(lines)} {what}:\n  {shown}{more}"


def _write_task(task: Task, folder: Path) -> TaskEntry:
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


_TUPLES = ("relevant", "credit", "excluded", "subset", "gallery")


def _query(raw: dict[str, Any]) -> Query:
    values: dict[str, Any] = {k: tuple(v) if k in _TUPLES else v for k, v in raw.items()}
    return Query(**values)


def _candidate(raw: dict[str, Any]) -> Candidate:
    return Candidate(**raw)
