"""Frozen image features: computed once per (encoder, dataset), kept as a memory-mapped file.

The encoder is the backbone (rows are unit-norm then) or a method's own. Rows are float32, sorted
by image id: a dataset's digest does not depend on the order of its images, so the file that is
shared under that digest must not either. `ViewFeatures` are the same of random crops, of the few
images that a cell learns from.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.gather import ALONE, gather, on_all_ranks
from bench.pixels import Look, crops, looked_at
from bench.train import Engine
from data_recipes.core import strict_json
from data_recipes.core.dataset import Dataset
from methods.core.contract import Encoder

BATCH = 64
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class ImageFeatures:
    """features: (N, D) float32, memory-mapped or on a device. row: image id -> row."""

    features: Tensor
    row: dict[str, int]

    def at(self, ids: list[str]) -> Tensor:
        """Features (B, D) of the images called `ids`."""
        return self.features[[self.row[i] for i in ids]]


@dataclass(frozen=True)
class ViewFeatures:
    """features: (N, K, D) float32, of K random crops of each image. row: image id -> row."""

    features: Tensor
    row: dict[str, int]

    def at(self, ids: Sequence[str], views: Sequence[int]) -> Tensor:
        """Features (B, D) of one view of each of the images called `ids`."""
        return self.features[[self.row[i] for i in ids], list(views)]


def image_features(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path,
    engine: Engine = ALONE,
    only: Collection[str] | None = None,
) -> ImageFeatures:
    """Features of all images of a dataset (or `only` of these ids), from `cache` or made there.

    With several ranks all call it, and each computes its share. Two processes that come at the
    same moment both compute and one file wins: equal bytes.
    """
    ids = sorted(dataset.reader.index if only is None else {*only} & dataset.reader.index.keys())

    def look(_: str, image: Image.Image) -> Tensor:
        return encoder.transform(image)[None]

    identity = f"{encoder.digest}:{dataset.manifest.digest}:fp32:by-id"
    if only is not None:
        identity += f":{strict_json.digest(ids)}"
    features = _stored(dataset, encoder, cache, identity, ids, look, (), engine)
    return ImageFeatures(features, {image_id: number for number, image_id in enumerate(ids)})


def view_features(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path,
    ids: Iterable[str],
    seed: int,
    views: int,
    engine: Engine = ALONE,
) -> ViewFeatures:
    """Features of `views` random crops of each of `ids`, kept in a file of their own.

    A view is a function of (seed, image, its number): `bench.augment`.
    """
    ids = sorted(set(ids))
    named = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    numbers = [(number,) for number in range(views)]
    look = crops(encoder.transform, seed, dict.fromkeys(ids, numbers))
    identity = f"{encoder.digest}:{dataset.manifest.digest}:fp32:crop-flip:{seed}:{views}:{named}"
    features = _stored(dataset, encoder, cache, identity, ids, look, (views,), engine)
    return ViewFeatures(features, {image_id: number for number, image_id in enumerate(ids)})


def _stored(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path,
    identity: str,
    ids: list[str],
    look: Look,
    looks: tuple[int, ...],
    engine: Engine,
) -> Tensor:
    """Features (N, *looks, D) of the looks of `ids`, from the file that `identity` names."""
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    path = cache / f"{name}.npy"
    shape = (len(ids), *looks, encoder.dim)
    if not on_all_ranks(path.is_file(), engine):
        features = _compute(dataset, encoder, ids, look, max(1, BATCH // prod(looks)), engine)
        features = features.reshape(shape)
        if engine.rank == 0:
            _write(path, features)
        on_all_ranks(True, engine)  # rank 0 has written
        if not path.is_file():  # this rank's machine has a cache of its own
            _write(path, features)
        del features
    return _read(path, shape).to(encoder.device)


def _compute(
    dataset: Dataset, encoder: Encoder, ids: list[str], look: Look, size: int, engine: Engine
) -> Array:
    """Features (N, n, D) of each image's n looks, rows in the order of `ids`.

    Batches of `size` images run in the order in which the images lie in the shards, across the
    shards' borders: a rank reads one stretch of bytes, and equal images in equal order give equal
    bits however they are cut into shards. Images are decoded in threads, one batch ahead.
    """
    order = sorted(ids, key=dataset.reader.index.__getitem__)

    def encode(own: list[slice]) -> Tensor:
        images = looked_at(dataset, order[own[0].start : own[-1].stop], look)
        rows: list[Tensor] = []
        for number, part in enumerate(own):
            if number and part == own[number - 1]:  # padding
                rows.append(rows[-1])
                continue
            batch = torch.stack([look for _, look in islice(images, part.stop - part.start)])
            rows.append(encoder.encode_pixels(batch.flatten(0, 1)).view(*batch.shape[:2], -1))
        return torch.cat(rows)

    gathered = gather(encode, len(order), size, engine, everywhere=True)
    features = np.empty(gathered.shape, np.float32)
    row = {image_id: number for number, image_id in enumerate(ids)}
    features[[row[image_id] for image_id in order]] = gathered.cpu().numpy()
    return features


def _read(path: Path, shape: tuple[int, ...]) -> Tensor:
    try:
        # "c": a private copy on write, because torch wants writable memory; nothing writes to it.
        features = torch.from_numpy(np.load(path, mmap_mode="c"))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: {error}; delete the file and run again") from None
    if features.shape != shape:
        raise ValueError(
            f"{path}: features of shape {tuple(features.shape)}, expected {shape}; delete the "
            "file and run again"
        )
    return features


def _write(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}-{os.getpid()}-{uuid.uuid4().hex[:8]}.npy")
    try:
        with part.open("wb") as stream:
            np.save(stream, array)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
