"""What cells share in one process: backbones, datasets, tasks and features, loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.features import ImageFeatures, image_features
from bench.train import Engine
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.model import DataError, Task
from data_recipes.core.remote import place
from methods.core.backbone import Backbone, BackboneSpec, load_backbone


@dataclass(frozen=True)
class Data:
    """A task with the features of its images. missing: ids of images that the dataset lacks."""

    task: Task
    digest: str
    features: ImageFeatures
    missing: frozenset[str]
    warnings: list[str]


@dataclass(frozen=True)
class Inputs:
    """Where things are and what they must be: the backbone, the folders, the ranks."""

    spec: BackboneSpec
    backbone_digest: str
    data_root: str
    cache: str
    engine: Engine

    def backbone(self) -> Backbone:
        """The frozen model on the device. Raises DataError when its weights are others."""
        return _backbone(self.spec, self.engine.device, self.backbone_digest)

    def data(self, name: str, digest: str, task: str) -> Data:
        """One task of a dataset; all ranks ask. Raises DataError when it was rebuilt in between."""
        folder = str(place(self.data_root) / name)
        dataset = _dataset(folder, digest)
        features = _features(
            folder, digest, self.spec, self.engine, self.backbone_digest, self.cache
        )
        missing, warnings = dataset.missing, dataset.manifest.warnings
        return Data(_task(folder, digest, task), digest, features, missing, warnings)


@lru_cache(maxsize=2)
def _backbone(spec: BackboneSpec, device: str, digest: str) -> Backbone:
    backbone = load_backbone(spec)
    if backbone.digest != digest:
        raise DataError(
            f"backbone {spec.label}: digest {backbone.digest[:12]} here, {digest[:12]} where the "
            "study was planned; the weights differ"
        )
    return backbone.to(device)


@lru_cache(maxsize=4)
def _dataset(folder: str, digest: str) -> Dataset:
    dataset = open_dataset(folder)
    if dataset.manifest.digest != digest:
        raise DataError(
            f"{folder}: digest {dataset.manifest.digest[:12]} on disk, {digest[:12]} where the "
            "study was planned; the dataset was rebuilt in between, so start the study again"
        )
    return dataset


@lru_cache(maxsize=8)
def _task(folder: str, digest: str, name: str) -> Task:
    return _dataset(folder, digest).task(name)


@lru_cache(maxsize=4)
def _features(
    folder: str, digest: str, spec: BackboneSpec, engine: Engine, backbone_digest: str, cache: str
) -> ImageFeatures:
    backbone = _backbone(spec, engine.device, backbone_digest)
    return image_features(_dataset(folder, digest), backbone, Path(cache), engine)
