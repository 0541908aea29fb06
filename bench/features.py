"""Frozen image features: computed once per (backbone, dataset), kept as a memory-mapped file.

Rows are unit-norm float32, sorted by image id: a dataset's digest does not depend on the order of
its images, so the file that is shared under that digest must not either.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_recipes.core.dataset import Dataset
from methods.core.backbone import Backbone

BATCH = 64


@dataclass(frozen=True)
class ImageFeatures:
    """features: (N, D) float32, memory-mapped or on a device. row: image id -> row."""

    features: Tensor
    row: dict[str, int]

    def at(self, ids: list[str]) -> Tensor:
        """Features (B, D) of the images called `ids`."""
        return self.features[[self.row[i] for i in ids]]


def image_features(dataset: Dataset, backbone: Backbone, cache: Path) -> ImageFeatures:
    """Features of all images of a dataset, from `cache` or computed into it.

    Two processes that come at the same moment both compute and one file wins: equal bytes.
    """
    identity = f"{backbone.digest}:{dataset.manifest.digest}:fp32:by-id"
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    path = cache / f"{name}.npy"
    ids = sorted(dataset.reader.index)
    if not path.is_file():
        _write(path, _compute(dataset, backbone, ids))
    features = _read(path, (len(ids), backbone.dim))
    row = {image_id: number for number, image_id in enumerate(ids)}
    return ImageFeatures(features.to(backbone.device), row)


def _compute(
    dataset: Dataset, backbone: Backbone, ids: list[str]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rows = []
    for start in range(0, len(ids), BATCH):
        images = dataset.images(ids[start : start + BATCH])
        pixels = torch.stack([backbone.transform(image) for image in images])
        rows.append(backbone.encode_pixels(pixels).cpu())
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = torch.cat(rows).numpy()
    return array


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


def _write(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
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
