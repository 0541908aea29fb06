"""Benchmarks of frozen features: first and later use; reading shards against bare webdataset."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import webdataset as wds
from torch import Tensor

from bench.features import image_features
from bench.speed_rows import Row, compare
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import open_dataset
from data_recipes.core.registry import recipe
from methods.core.backbone import BackboneSpec, load_backbone


def rows(folder: Path) -> list[Row]:
    """Features, first and later use; reading shards against bare webdataset."""
    build_dataset(recipe("openmoji-composed")(), folder / "openmoji-composed")
    dataset = open_dataset(folder / "openmoji-composed")
    backbone = load_backbone(BackboneSpec())
    ids = list(dataset.reader.index)

    def first() -> Tensor:
        with tempfile.TemporaryDirectory() as cache:
            return image_features(dataset, backbone, Path(cache)).at(ids)

    image_features(dataset, backbone, folder / "cache")

    def later() -> Tensor:
        return image_features(dataset, backbone, folder / "cache").at(ids)

    urls = [str(folder / "openmoji-composed" / s.name) for s in dataset.manifest.shards]

    def bare() -> list[bytes]:
        return [sample["png"] for sample in wds.WebDataset(urls, shardshuffle=False)]

    def ours() -> list[bytes]:
        return [data for _, data in dataset.reader.stream()]

    return [
        compare("image features, second use against first", first, later, torch.equal, 1.0, 2),
        compare("reading shards, against bare webdataset", bare, ours, list.__eq__, 0.9, 7),
    ]
