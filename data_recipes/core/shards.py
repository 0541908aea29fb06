"""Webdataset shards, read in order or at random (`write.py` writes them).

The index says in which shard and at which byte an image lies, so that samples, not shards, can be
dealt to ranks and a truncated shard is noticed before training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image

from data_recipes.core.images import decode
from data_recipes.core.manifest import INDEX, Shard
from data_recipes.core.model import DataError
from data_recipes.core.remote import WORKERS, RemoteShards
from data_recipes.core.spans import Span, ahead, chunks
from data_recipes.core.write import file_sha256


@dataclass(frozen=True)
class ShardReader:
    """Images of one built dataset, by id or in order.

    folder: where the index is, and the shards unless `remote` has them.
    sha256: image id -> sha256 (hex) of its bytes; what came from afar is compared with it.
    """

    folder: Path
    index: Mapping[str, Span]  # id -> (shard, offset, size), in shard order
    remote: RemoteShards | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, remote: RemoteShards | None = None) -> ShardReader:
        """Read the index. Raises DataError when it or a shard it names is missing or cut."""
        path = folder / INDEX
        if not path.is_file():
            raise DataError(f"{path}: no index; build the dataset again")
        table = pd.read_parquet(path).sort_values(["shard", "offset"], kind="stable")
        ids = table["id"].tolist()
        places = (table[name].tolist() for name in ("shard", "offset", "size"))
        index = dict(zip(ids, zip(*places, strict=True), strict=True))
        if remote is None:
            reader = cls(folder, index)
            reader._check_sizes()
            return reader
        remote.check_sizes()
        reader = cls(folder, index, remote, dict(zip(ids, table["sha256"].tolist(), strict=True)))
        reader.read(ids[0])  # credentials and byte ranges are tried before anything starts
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
        shard, offset, size = self._span(image_id)
        return self._sound(image_id, self._bytes(shard, offset, offset + size))

    def images(self, ids: Sequence[str]) -> Iterator[Image.Image]:
        """RGB images in the order of `ids`, fully decoded."""
        found = map(self.read, ids) if self.remote is None else ahead(self.read, ids, WORKERS)
        for image_id, data in zip(ids, found, strict=True):
            yield decode(data, f"{self._name}: image {image_id!r}")

    def stream(self, ids: Iterable[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(image id, bytes) in shard order, read in large blocks ahead of their use.

        ids: the images wanted, all of them for None. The tar headers are not read.
        """
        wanted = self.index.items() if ids is None else [(i, self._span(i)) for i in ids]
        ordered = sorted(wanted, key=lambda pair: pair[1])
        blocks = ahead(
            lambda chunk: (chunk, self._bytes(chunk.shard, chunk.start, chunk.stop)),
            chunks(ordered),
            1 if self.remote is None else WORKERS // 2,
        )
        for chunk, data in blocks:
            for image_id, start, size in chunk.members:
                yield image_id, self._sound(image_id, data[start : start + size])

    def _span(self, image_id: str) -> Span:
        if image_id not in self.index:
            raise DataError(f"{self._name}: image {image_id!r} is not in the shards")
        return self.index[image_id]

    def _bytes(self, shard: str, start: int, stop: int) -> bytes:
        if self.remote is not None:
            return self.remote.read(shard, start, stop)
        with (self.folder / shard).open("rb", buffering=0) as stream:
            stream.seek(start)
            return stream.read(stop - start)

    def _sound(self, image_id: str, data: bytes) -> bytes:
        """The bytes of an image, compared with the index when they came from afar."""
        if self.sha256 and hashlib.sha256(data).hexdigest() != self.sha256[image_id]:
            raise DataError(
                f"{self._name}: image {image_id!r} in {self.index[image_id][0]} differs from the "
                "index (sha256); copy the shard there again"
            )
        return data

    @property
    def _name(self) -> str:
        return str(self.folder if self.remote is None else self.remote.remote)


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
