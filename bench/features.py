"""Frozen image features: computed once per (encoder, dataset), kept as a memory-mapped file.

The encoder is the backbone (rows are unit-norm then) or a method's own. Rows are float32, sorted
by image id: a dataset's digest does not depend on the order of its images, so the file that is
shared under that digest must not either.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.gather import ALONE, gather, on_all_ranks
from bench.train import Engine
from data_recipes.core import strict_json
from data_recipes.core.dataset import Dataset
from data_recipes.core.images import decode
from data_recipes.core.spans import ahead
from methods.core.contract import Encoder

BATCH = 64
DECODERS = 4  # threads at most; each may start torch's own threads
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class ImageFeatures:
    """features: (N, D) float32, memory-mapped or on a device. row: image id -> row."""

    features: Tensor
    row: dict[str, int]

    def at(self, ids: list[str]) -> Tensor:
        """Features (B, D) of the images called `ids`."""
        return self.features[[self.row[i] for i in ids]]


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
    identity = f"{encoder.digest}:{dataset.manifest.digest}:fp32:by-id"
    ids = sorted(dataset.reader.index if only is None else {*only} & dataset.reader.index.keys())
    if only is not None:
        identity += f":{strict_json.digest(ids)}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    path = cache / f"{name}.npy"
    if not on_all_ranks(path.is_file(), engine):
        features = _compute(dataset, encoder, ids, engine)
        if engine.rank == 0:
            _write(path, features)
        on_all_ranks(True, engine)  # rank 0 has written
        if not path.is_file():  # this rank's machine has a cache of its own
            _write(path, features)
        del features
    mapped = _read(path, (len(ids), encoder.dim))
    row = {image_id: number for number, image_id in enumerate(ids)}
    return ImageFeatures(mapped.to(encoder.device), row)


def _compute(dataset: Dataset, encoder: Encoder, ids: list[str], engine: Engine) -> Array:
    """Features (N, D), rows in the order of `ids`.

    Batches run in the order in which the images lie in the shards, across the shards' borders: a
    rank reads one stretch of bytes, and equal images in equal order give equal bits however they
    are cut into shards. Images are decoded in threads, one batch ahead.
    """
    wanted = frozenset(ids)
    order = [image_id for image_id in dataset.reader.index if image_id in wanted]

    def pixels(found: tuple[str, bytes]) -> Tensor:
        image_id, data = found
        image = dataset.pad(decode(data, f"{dataset.folder}: image {image_id!r}"))
        return encoder.transform(image)

    def encode(own: list[slice]) -> Tensor:
        stream = dataset.reader.stream(order[own[0].start : own[-1].stop])
        images = ahead(pixels, stream, min(DECODERS, torch.get_num_threads()), depth=BATCH)
        rows: list[Tensor] = []
        for number, part in enumerate(own):
            if number and part == own[number - 1]:  # padding
                rows.append(rows[-1])
                continue
            batch = list(islice(images, part.stop - part.start))
            rows.append(encoder.encode_pixels(torch.stack(batch)))
        return torch.cat(rows)

    gathered = gather(encode, len(order), BATCH, engine, everywhere=True)
    features = np.empty(gathered.shape, np.float32)
    row = {image_id: number for number, image_id in enumerate(ids)}
    features[[row[image_id] for image_id in order]] = gathered.cpu().numpy()
    return features


def _read(path: Path, shape: tuple[int, int]) -> Tensor:
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
