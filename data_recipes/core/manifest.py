"""The manifest of a built dataset: counts, digests, licence, protocols, shards.

`digest` is the dataset's identity. It covers what was built (every image's bytes, every task)
and not how it was cut into shards, so that re-sharding keeps every result valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from data_recipes.core import strict_json
from data_recipes.core.model import DataError
from data_recipes.core.write import file_sha256

MANIFEST = "manifest.json"
INDEX = "index.parquet"
SCHEMA = 1


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Shard(_Strict):
    """One tar file: its name, number of samples, bytes and sha256."""

    name: str
    samples: int
    bytes: int
    sha256: str


class Part(_Strict):
    """One RetrievalTask of a task, stored as two JSON-lines files."""

    name: str
    queries: int
    candidates: int
    groups: int


class Missing(_Strict):
    """An image that the build was allowed to leave out: its id, file and what is wrong with it."""

    id: str
    path: str | None
    reason: str


class TaskEntry(_Strict):
    """One task: its kind, protocol and parts (where `trains`, the first is the training part)."""

    name: str
    kind: str
    protocol: str
    templates: list[str]
    parts: list[Part]
    trains: bool = True


class Manifest(_Strict):
    """What lies in a built dataset's folder.

    recipe: the recipe's name, which `name` is too unless the user chose another.
    descriptions_sha256: of `descriptions.json`; None: there is none. No part of `digest`: the
        file decides nothing but what a method learns that reads it, and cells of such a method
        name it themselves.
    """

    schema_version: int
    name: str
    recipe: str
    recipe_version: int
    config: dict[str, Any]
    licence: str
    attribution: str
    source: str
    images: int
    digest: str
    tasks: list[TaskEntry]
    shards: list[Shard]
    index_sha256: str
    warnings: list[str]
    missing: list[Missing] = []
    descriptions_sha256: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _unnamed_recipe(cls, raw: Any) -> Any:
        """Earlier builds had no name but the recipe's."""
        if isinstance(raw, dict) and "name" in raw:
            return {"recipe": raw["name"], **raw}
        return raw

    def task(self, name: str | None) -> TaskEntry:
        """The task called `name`, or the default task for None. Raises DataError."""
        if name is None:
            return self.tasks[0]
        for entry in self.tasks:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.tasks)
        raise DataError(f"dataset {self.name!r} has no task {name!r}; it has: {known}")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the dataset built in `folder`.

    Raises:
        DataError: no manifest there, not JSON, or not a manifest of this version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{path}: no manifest, so no built dataset; build it with "
            f"`promptgrid data build {folder.name} --out {folder.parent}`"
        )
    raw = strict_json.read(path)
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        recipe = raw.get("recipe", folder.name) if isinstance(raw, dict) else folder.name
        named = "" if recipe == folder.name else f" --name {folder.name}"
        raise DataError(
            f"{path}: {where}: {first['msg']}; build the dataset again with "
            f"`promptgrid data build {recipe}{named} --out {folder.parent} --force`"
        ) from None
    if manifest.schema_version != SCHEMA:
        raise DataError(
            f"{path}: manifest version {manifest.schema_version}, this program reads {SCHEMA}; "
            f"build the dataset again"
        )
    return manifest


def dataset_digest(manifest: Manifest, images: Iterable[tuple[str, str]], folder: Path) -> str:
    """The dataset's identity: its images' and task files' content, not its name or its shards.

    images: (id, sha256) of each image. folder: where the task files of the manifest's tasks are.
    """
    return strict_json.digest(
        {
            "name": manifest.recipe,
            "recipe_version": manifest.recipe_version,
            "config": manifest.config,
            # Only where there are any, as they are written into the manifest.
            **({"missing": sorted(m.id for m in manifest.missing)} if manifest.missing else {}),
            "images": sorted(images),
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
