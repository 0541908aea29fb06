"""What cells share in one process: backbones, datasets, tasks, features and pixels, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image
from torch import Tensor

from bench.embed import Images
from bench.features import ImageFeatures, ViewFeatures, image_features, view_features
from bench.pixels import Pixels
from bench.text_files import TextFiles
from bench.train import Engine
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.descriptions import read_descriptions
from data_recipes.core.model import DataError, Task
from data_recipes.core.remote import place
from data_recipes.core.sampler import few_shot_order
from data_recipes.core.write import file_sha256
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Encoder, Method


@dataclass(frozen=True)
class Data:
    """A task and its images. folder: where the dataset was asked for.

    missing: ids of images that the dataset lacks.
    descriptions: class name or image id -> natural-language texts, for training alone.
    """

    task: Task
    dataset: Dataset
    folder: str
    inputs: Inputs
    descriptions: Mapping[str, tuple[str, ...]]

    @property
    def digest(self) -> str:
        """The dataset's."""
        return self.dataset.manifest.digest

    @property
    def missing(self) -> frozenset[str]:
        """Ids of images that the dataset lacks."""
        return self.dataset.missing

    def order(self, seed: int) -> Mapping[str, list[str]]:
        """The order of the training shots of each group (`sampler.few_shot_order`)."""
        return _order(self.folder, self.digest, self.task.name, seed)

    def images(self, method: Method) -> Images:
        """Image ids -> what the method takes for them: features or pixels. All ranks ask."""
        if method.frozen_images is not None:
            return self.inputs.encoded(self.dataset, method.frozen_images).at
        if method.pixels:
            return self.pixels(method).at
        return self.inputs.features(self.folder, self.digest).at

    def pixels(self, method: Method) -> Pixels:
        """The images through the method's transform; shared with all that have the same one."""
        return _pixels(self.folder, self.digest, method.transform, self.inputs.engine.device)

    def views(self, ids: Sequence[str], seed: int, count: int) -> ViewFeatures:
        """Frozen features of `count` random crops of the images called `ids`. All ranks ask."""
        inputs = self.inputs
        return view_features(
            self.dataset, inputs.backbone(), Path(inputs.cache), ids, seed, count, inputs.engine
        )

    def gallery(self, method: Method) -> Images:
        """Image ids -> what the method takes for candidates of the evaluated parts."""
        if method.frozen_gallery is None:
            return self.images(method)
        parts = self.task.evaluate
        only = {c.image for part in parts for c in part.candidates if c.image is not None}
        return self.inputs.encoded(self.dataset, method.frozen_gallery, only).at


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
        engine = self.engine
        backbone = _backbone(self.spec, engine.device, self.backbone_digest, engine.compiles)
        backbone.text_features.store = TextFiles(Path(self.cache), backbone)
        return backbone

    def data(
        self,
        name: str,
        digest: str,
        task: str,
        descriptions: str | None = None,
        descriptions_file: str | None = None,
    ) -> Data:
        """One task of a dataset.

        descriptions: sha256 of the descriptions that come with it; None: none do.
        descriptions_file: where they are; None: in the dataset's folder.

        Raises:
            DataError: the dataset or its descriptions are others than where the study was planned.
        """
        folder = str(place(self.data_root) / name)
        told: Mapping[str, tuple[str, ...]] = {}
        if descriptions is not None and descriptions_file is not None:
            told = _descriptions(descriptions_file, descriptions)
        elif descriptions is not None:
            told = _own_descriptions(folder, digest, descriptions)
        return Data(_task(folder, digest, task), _dataset(folder, digest), folder, self, told)

    def features(self, folder: str, digest: str) -> ImageFeatures:
        """The frozen features of a dataset's images; all ranks ask."""
        return _features(folder, digest, self.spec, self.engine, self.backbone_digest, self.cache)

    def encoded(
        self, dataset: Dataset, encoder: Encoder, only: Collection[str] | None = None
    ) -> ImageFeatures:
        """A method's own frozen values of a dataset's images; all ranks ask."""
        return image_features(dataset, encoder, Path(self.cache), self.engine, only)


@lru_cache(maxsize=2)
def _backbone(spec: BackboneSpec, device: str, digest: str, compiled: bool) -> Backbone:
    backbone = load_backbone(spec)
    if backbone.digest != digest:
        raise DataError(
            f"backbone {spec.label}: digest {backbone.digest[:12]} here, {digest[:12]} where the "
            "study was planned; the weights differ"
        )
    backbone.to(device)
    return backbone.compile() if compiled else backbone


# CoOp's eleven datasets fit: cells that learned on one of them are scored on the others.
@lru_cache(maxsize=12)
def _dataset(folder: str, digest: str) -> Dataset:
    dataset = open_dataset(folder)
    if dataset.manifest.digest != digest:
        raise DataError(
            f"{folder}: digest {dataset.manifest.digest[:12]} on disk, {digest[:12]} where the "
            "study was planned; the dataset was rebuilt in between, so start the study again"
        )
    return dataset


@lru_cache(maxsize=36)
def _task(folder: str, digest: str, name: str) -> Task:
    return _dataset(folder, digest).task(name)


@lru_cache(maxsize=16)
def _order(folder: str, digest: str, task: str, seed: int) -> Mapping[str, list[str]]:
    return few_shot_order(_task(folder, digest, task).training().queries, seed, digest)


@lru_cache(maxsize=4)
def _descriptions(file: str, digest: str) -> Mapping[str, tuple[str, ...]]:
    found = file_sha256(Path(file))
    if found != digest:
        raise DataError(
            f"{file}: digest {found[:12]} there, {digest[:12]} where the study was planned; the "
            "descriptions were changed in between, so start the study again"
        )
    return read_descriptions(Path(file))


def _own_descriptions(folder: str, digest: str, wanted: str) -> Mapping[str, tuple[str, ...]]:
    dataset = _dataset(folder, digest)
    found = dataset.manifest.descriptions_sha256
    if found != wanted:
        raise DataError(
            f"{folder}: descriptions with digest {(found or 'none')[:12]} there, {wanted[:12]} "
            "where the study was planned; start the study again"
        )
    return dataset.descriptions


@lru_cache(maxsize=12)
def _features(
    folder: str, digest: str, spec: BackboneSpec, engine: Engine, backbone_digest: str, cache: str
) -> ImageFeatures:
    backbone = _backbone(spec, engine.device, backbone_digest, engine.compiles)
    return image_features(_dataset(folder, digest), backbone, Path(cache), engine)


@lru_cache(maxsize=2)
def _pixels(
    folder: str, digest: str, transform: Callable[[Image.Image], Tensor], device: str
) -> Pixels:
    return Pixels(_dataset(folder, digest), transform, device)
