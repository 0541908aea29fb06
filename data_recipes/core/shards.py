"""Webdataset shards, read in order or at random (`write.py` writes them).

The index says in which shard and at which byte an image lies, so that samples, not shards, can be
dealt to ranks and a truncated shard is noticed before training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import webdataset as wds
from PIL import Image

from data_recipes.core.images import decode
from data_recipes.core.manifest import INDEX, Shard
from data_recipes.core.model import DataError
from data_recipes.core.write import decode_key, file_sha256


@dataclass(frozen=True)
class ShardReader:
    """Images of one built dataset, by id or in order."""

    folder: Path
    index: Mapping[str, tuple[str, int, int]]  # id -> (shard, offset, size)

    @classmethod
    def open(cls, folder: Path) -> ShardReader:
        """Read the index. Raises DataError when it or a shard it names is missing or cut."""
        path = folder / INDEX
        if not path.is_file():
            raise DataError(f"{path}: no index; build the dataset again")
        table = pd.read_parquet(path)
        index = dict(
            zip(
                table["id"],
                zip(table["shard"], table["offset"], table["size"], strict=True),
                strict=True,
            )
        )
        reader = cls(folder, index)
        reader._check_sizes()
        return reader

    def _check_sizes(self) -> None:
        ends: dict[str, int] = {}
        for shard, offset, size in self.index.values():
            ends[shard] = max(ends.get(shard, 0), offset + size)
        for shard, end in ends.items():
            path = self.folder / shard
            if not path.is_file():
                raise DataError(f"{path}: missing shard; build the dataset again")
            if path.stat().st_size < end:
                raise DataError(
                    f"{path}: the shard is cut off ({path.stat().st_size} bytes, the index needs "
                    f"{end}); build the dataset again"
                )

    def read(self, image_id: str) -> bytes:
        """The encoded bytes of one image. Raises DataError for an unknown id."""
        if image_id not in self.index:
            raise DataError(f"{self.folder}: image {image_id!r} is not in the shards")
        shard, offset, size = self.index[image_id]
        with (self.folder / shard).open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def images(self, ids: Sequence[str]) -> Iterator[Image.Image]:
        """RGB images in the order of `ids`, fully decoded."""
        for image_id in ids:
            yield decode(self.read(image_id), f"{self.folder}: image {image_id!r}")

    def stream(self) -> Iterator[tuple[str, bytes]]:
        """(image id, bytes) of every sample in shard order, through webdataset."""
        shards = sorted({shard for shard, _, _ in self.index.values()})
        dataset = wds.WebDataset(
            [str(self.folder / shard) for shard in shards], shardshuffle=False, empty_check=False
        )
        for sample in dataset:
            image_id = decode_key(sample["__key__"])
            extension = next(k for k in sample if not k.startswith("__") and k != "json")
            yield image_id, sample[extension]


def verify_shards(folder: Path, shards: Sequence[Shard]) -> list[str]:
    """What differs between the shards on disk and the manifest, one line each."""
    found = []
    for shard in shards:
        path = folder / shard.name
        if not path.is_file():
            found.append(f"{path}: missing")
        elif path.stat().st_size != shard.bytes:
            found.append(f"{path}: {path.stat().st_size} bytes, the manifest says {shard.bytes}")
        elif file_sha256(path) != shard.sha256:
            found.append(f"{path}: content differs from the manifest (sha256)")
    return found
