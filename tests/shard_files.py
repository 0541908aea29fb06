"""Shards of a few pictures, with their index on disk, as a build makes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from data_recipes.core.images import ImageSource, RawImage
from data_recipes.core.manifest import INDEX, Shard
from data_recipes.core.write import Job, Written, cut, make_shard
from tests.tiny import png


def raw_images(count: int) -> list[RawImage]:
    """Pictures i0, i1 ..., all different."""
    return [RawImage(f"i{n}", png((10 * n, 0, 0), n), "png", {"n": n}) for n in range(count)]


def job(folder: Path, settings: str = "", image_size: int | None = None) -> Job:
    """Shards in `folder`, their records in a folder below it."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    return Job(folder, folder / "records", settings, image_size)


def make_all(
    sources: Iterable[ImageSource], folder: Path, per_shard: int = 2, settings: str = ""
) -> list[Written]:
    """Every shard of `sources`."""
    common = job(folder, settings)
    return [make_shard(unit, common, lambda images: None) for unit in cut(sources, per_shard)]


def write_images(
    folder: Path, images: list[RawImage], per_shard: int = 2
) -> tuple[list[Shard], pd.DataFrame]:
    """Shards of `images` in `folder`; returns their entries of the manifest, and the index."""
    made = make_all(images, folder, per_shard)
    index = pd.DataFrame([row for shard in made for row in shard.rows])
    index.to_parquet(folder / INDEX, index=False)
    return [
        Shard(name=m.name, samples=len(m.rows), bytes=m.bytes, sha256=m.sha256) for m in made
    ], index
