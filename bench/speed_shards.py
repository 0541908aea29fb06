"""Benchmarks of reading shards of photos, against bare webdataset."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from bench.pixels import Pixels
from bench.speed_rows import Row, compare
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import open_dataset
from data_recipes.core.images import RawImage, decode
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Recipe
from data_recipes.core.spans import ahead

PHOTOS, PER_SHARD = 2_000, 500
BATCH = 64
DECODED = 500  # images of the decoding row: the first shard
Pair = tuple[Callable[[], Any], Callable[[], Any]]


class Photos(Recipe):
    """Coloured noise of a photo's size in bytes: JPEG of 400 x 300 pixels, about 50 KB."""

    name = "bench-photos"

    def images(self) -> Iterator[RawImage]:
        """A few pictures, many times."""
        rng = np.random.default_rng(0)
        pictures = [_jpeg(rng) for _ in range(20)]
        for number in range(PHOTOS):
            yield RawImage(f"photo-{number:05d}", pictures[number % len(pictures)], "jpg")

    def tasks(self) -> list[Task]:
        """One query; a dataset needs a task."""
        query = Query("q", image="photo-00000", relevant=("photo-00001",))
        gallery = (Candidate("photo-00001", image="photo-00001"),)
        part = RetrievalTask("test", (query,), gallery)
        return [Task("composed", "composed", "composed/1", None, (part,))]


def _jpeg(rng: np.random.Generator) -> bytes:
    coarse = rng.integers(0, 255, (40, 53, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def rows(folder: Path) -> list[Row]:
    """Bytes of several shards; one shard decoded; one decoded and transformed."""
    (bare, ours), (bare_decoded, ours_decoded) = shard_reading(folder)
    bare_pixels, ours_pixels = transformed(folder)
    return [
        compare("reading shards of photos, bytes", bare, ours, list.__eq__, 1.0, 5),
        compare(
            "reading shards of photos, decoded", bare_decoded, ours_decoded, list.__eq__, 1.0, 3
        ),
        compare(
            "photos decoded and transformed, against webdataset + open_clip's transform",
            bare_pixels,
            ours_pixels,
            torch.equal,
            1.0,
            3,
        ),
    ]


def shard_reading(folder: Path) -> tuple[Pair, Pair]:
    """(bare webdataset, ours) for all bytes of several shards, and for one shard decoded."""
    build_dataset(Photos(), folder / "photos", per_shard=PER_SHARD)
    dataset = open_dataset(folder / "photos")
    urls = [str(dataset.folder / shard.name) for shard in dataset.manifest.shards]
    first = list(dataset.reader.index)[:DECODED]

    def bare() -> list[bytes]:
        return [sample["jpg"] for sample in wds.WebDataset(urls, shardshuffle=False)]

    def ours() -> list[bytes]:
        return [data for _, data in dataset.reader.stream()]

    def bare_decoded() -> list[int]:
        samples = wds.WebDataset(urls[:1], shardshuffle=False).decode("pilrgb")
        return [_checksum(sample["jpg"]) for sample in samples]

    def ours_decoded() -> list[int]:
        def made(found: tuple[str, bytes]) -> int:
            return _checksum(decode(found[1], found[0]))

        return list(ahead(made, dataset.reader.stream(first), torch.get_num_threads()))

    return (bare, ours), (bare_decoded, ours_decoded)


def transformed(folder: Path) -> Pair:
    """(webdataset with open_clip's transform, ours): batches of one shard, (DECODED, 3, H, W).

    webdataset runs in this process: with loader workers, which split whole shards between them, one
    shard is read by one process too. The photos are built already.
    """
    dataset = open_dataset(folder / "photos")
    transform = image_transform_v2(PreprocessCfg(size=224), is_train=False)
    url = str(dataset.folder / dataset.manifest.shards[0].name)
    ids = list(dataset.reader.index)[:DECODED]

    def bare() -> Tensor:
        shard = wds.WebDataset([url], shardshuffle=False)
        pictures = shard.decode("pilrgb").to_tuple("jpg").map_tuple(transform).batched(BATCH)
        return torch.cat([batch for (batch,) in pictures])

    def ours() -> Tensor:
        pixels = Pixels(dataset, transform, "cpu")
        return torch.cat([pixels.at(ids[n : n + BATCH]) for n in range(0, len(ids), BATCH)])

    return bare, ours


def _checksum(image: Image.Image) -> int:
    return zlib.crc32(image.tobytes())
