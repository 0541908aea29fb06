"""Opening a built dataset's folder, and checking all that lies in it.

folder/manifest.json, index.parquet, images-000000.tar ..., tasks/<task>/<part>.*.jsonl and, where
the recipe gives some, descriptions.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from PIL import Image

from data_recipes.core.descriptions import DESCRIPTIONS, read_descriptions
from data_recipes.core.images import PADS, decode
from data_recipes.core.manifest import INDEX, MANIFEST, Manifest, dataset_digest, read_manifest
from data_recipes.core.model import DataError, Task
from data_recipes.core.remote import Place, Remote, RemoteShards, mirror, place
from data_recipes.core.shards import ShardReader, verify_shards
from data_recipes.core.task_files import read_task
from data_recipes.core.write import file_sha256


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

    @cached_property
    def descriptions(self) -> Mapping[str, tuple[str, ...]]:
        """Class name or image id -> sentences; empty where the recipe gives none.

        Raises:
            DataError: the file is missing or is not the one that was built.
        """
        problem = _descriptions_problem(self.folder, self.manifest)
        if problem is not None:
            raise DataError(f"{problem}; build the dataset again")
        if self.manifest.descriptions_sha256 is None:
            return {}
        return read_descriptions(self.folder / DESCRIPTIONS)

    def images(self, ids: Sequence[str]) -> Iterator[Image.Image]:
        """RGB images in the order of `ids`, padded as the recipe's `pad` option says."""
        yield from map(self.pad, self.reader.images(ids))

    def pad(self, image: Image.Image) -> Image.Image:
        """A decoded image, padded as the recipe's `pad` option says."""
        return PADS[self.manifest.config.get("pad", "none")](image)

    def task(self, name: str | None = None) -> Task:
        """Read a task (None: the default one). Raises DataError when files are missing."""
        return read_task(self.manifest.task(name), self.folder)


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
    """Raise DataError unless all the files are those that the manifest's digests name."""
    index = folder / INDEX
    if file_sha256(index) != manifest.index_sha256:
        raise DataError(f"{index}: differs from the manifest; copy the dataset there again")
    table = pd.read_parquet(index)
    images = zip(table["id"], table["sha256"], strict=True)
    if dataset_digest(manifest, images, folder) != manifest.digest:
        raise DataError(
            f"{folder / 'tasks'}: content differs from the manifest; copy the dataset there again"
        )
    problem = _descriptions_problem(folder, manifest)
    if problem is not None:
        raise DataError(f"{problem}; copy the dataset there again")


def _descriptions_problem(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the descriptions' file; None: nothing."""
    path, wanted = folder / DESCRIPTIONS, manifest.descriptions_sha256
    if wanted is None or (path.is_file() and file_sha256(path) == wanted):
        return None
    return f"{path}: missing or different from the manifest"


def check_dataset(folder: Place | str) -> list[str]:
    """Everything wrong with a built dataset (shards, digests, tasks, descriptions), a line each.

    Of a remote one every image is compared with the index; a difference raises DataError.
    """
    dataset = open_dataset(folder)
    folder = dataset.folder
    found = [] if dataset.remote else verify_shards(folder, dataset.manifest.shards)
    index = folder / INDEX
    if not index.is_file() or file_sha256(index) != dataset.manifest.index_sha256:
        found.append(f"{index}: missing or different from the manifest")
    problem = _descriptions_problem(folder, dataset.manifest)
    found += [problem] if problem is not None else []
    if found:
        return found
    present = set(dataset.reader.index)
    both = sorted(present & dataset.missing)
    if both:
        found.append(f"{folder / MANIFEST}: image {both[0]!r} is called missing, but is there")
    known = present | dataset.missing
    for entry in dataset.manifest.tasks:
        try:
            parts = dataset.task(entry.name).parts()
        except DataError as error:
            found.append(str(error))
            continue
        for part in parts:
            found += [f"{entry.name}/{part.name}: {line}" for line in part.problems(known)]
    rows = pd.read_parquet(index, columns=["id", "sha256"])
    images = zip(rows["id"], rows["sha256"], strict=True)
    if not found and dataset_digest(dataset.manifest, images, folder) != dataset.manifest.digest:
        found.append(f"{folder / 'tasks'}: content differs from the manifest (digest)")
    for image_id, data in dataset.reader.stream():
        try:
            decode(data, f"image {image_id!r}")
        except DataError as error:
            found.append(str(error))
    return found
