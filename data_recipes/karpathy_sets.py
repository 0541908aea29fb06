"""Flickr30k and MS-COCO as image-text retrieval in Karpathy's splits.

Read from `dataset_<name>.json`, or from one file a split (see `karpathy`). In the training part a
query is an image and all its captions are relevant; the trainer pairs the image with each of
them, so that K shots (in total) are K images and about 5 K pairs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

from data_recipes import karpathy
from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError, Task
from data_recipes.core.photos import SplitConfig, chosen_splits, named_images
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig, TaskOutline
from data_recipes.karpathy import Image

FIRST = 5


class KarpathyConfig(SplitConfig):
    """The splits and how the images are stored."""

    known_splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")


class CocoConfig(KarpathyConfig):
    """restval: train on the 30,504 images of the split `restval` too, as retrieval work does."""

    restval: bool = True


class KarpathyRecipe(Recipe):
    """Image-text retrieval; the few-shot unit is an image, in total.

    whole: the file with all splits. stems: of the files with one split, "<stem>_<split>.json".
    """

    inputs = ("annotations", "images")
    Config: ClassVar[type[RecipeConfig]] = KarpathyConfig
    whole: ClassVar[str]
    stems: ClassVar[tuple[str, ...]]
    places: ClassVar[tuple[str, ...]]

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = type(self).Config.model_validate(self.config.model_dump())

    @cached_property
    def splits(self) -> dict[str, list[Image]]:
        """The chosen splits, read; a split without text is refused."""
        assert isinstance(self.options, KarpathyConfig)
        files = AnnotationFolder(self.folder("annotations"), self.places)
        whole = files.get(self.whole)
        if whole is not None:
            found = karpathy.read_splits(whole, [*self.options.known_splits, *self.joined()])
            for split in self.options.splits or ():
                if split not in found:
                    raise DataError(f"{whole}: has no image of the split {split!r}")
            wanted = self.options.splits or self.options.known_splits
        else:
            wanted = tuple(chosen_splits(self.options, files, self._names))
            paths = {split: files.find(*self._names(split)) for split in wanted}
            found = {s: karpathy.read_splits(path, [s])[s] for s, path in paths.items()}
        joined = [image for split in self.joined() for image in found.get(split, [])]
        found["train"] = found.get("train", []) + joined
        chosen = {split: found[split] for split in wanted if found.get(split)}
        if not set(chosen) - {"train"}:
            raise DataError(f"{files.root}: there is nothing to evaluate: neither test nor val")
        for split, images in chosen.items():
            _refuse_blank(whole or files.find(*self._names(split)), images)
        return chosen

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Images of each split, official."""

    def joined(self) -> tuple[str, ...]:
        """Splits of the file whose images are trained on too."""
        return ()

    def _names(self, split: str) -> list[str]:
        return [f"{stem}_{split}.json" for stem in self.stems]

    def images(self) -> list[ImageFile]:
        """Every image of the chosen splits, by its file name in any folder."""
        folder = ImageFolder(self.folder("images"))
        return [
            ImageFile(name, folder.find(name, *_other_names(name)))
            for name in named_images(self.tasks())
        ]

    def task(self, name: str, protocol: str, split: str, captions: int | None = None) -> Task:
        """A split in both directions; captions: how many are used of each image, None for all."""
        images = self.splits[split]
        if captions is not None:
            images = [replace(image, captions=image.captions[:captions]) for image in images]
        trained = self.splits.get("train")
        train = None if trained is None else replace(karpathy.tasks(trained)[0], name="train")
        return Task(name, "image_text", protocol, train, karpathy.tasks(images))

    def warnings(self) -> list[str]:
        """Counts that are not the official ones, no train split."""
        found = [
            f"{split} has {len(images)} images, officially {self.counts()[split]}"
            for split, images in self.splits.items()
            if len(images) != self.counts()[split]
        ]
        if "train" not in self.splits:
            found.append("the train split is not built, so no method can learn on this dataset")
        return found


class Flickr30k(KarpathyRecipe):
    """Photographs of people and animals, five captions each."""

    name = "flickr30k"
    summary = "Flickr30k in Karpathy's splits: image-text retrieval, 1000 test images"
    licence = "none stated (captions); Flickr's terms (images)"
    attribution = "Flickr30k, Young et al. 2014; splits: Karpathy and Fei-Fei 2015"
    source = "https://shannon.cs.illinois.edu/DenotationGraph/"
    whole = "dataset_flickr30k.json"
    stems = ("flickr30k",)
    foreseen = (
        TaskOutline("test", "image_text", "karpathy-1k/1"),
        TaskOutline("val", "image_text", "karpathy-5k/1"),
    )
    places = ("flickr30k",)

    def counts(self) -> dict[str, int]:
        """Images of each split, official."""
        return {"train": 29_000, "val": 1_014, "test": 1_000}

    def tasks(self) -> list[Task]:
        """`test` (the default) and `val`, each one gallery."""
        found = []
        if "test" in self.splits:
            found.append(self.task("test", "karpathy-1k/1", "test"))
        if "val" in self.splits:
            found.append(self.task("val", "karpathy-5k/1", "val"))
        return found


class Coco(KarpathyRecipe):
    """Photographs of everyday scenes, five captions each, now and then six."""

    name = "coco"
    summary = "MS-COCO in Karpathy's splits: image-text retrieval, 5000 test images"
    licence = "CC BY 4.0 (captions); Flickr's terms (images)"
    attribution = "MS-COCO, Chen et al. (arXiv 1504.00325); splits: Karpathy and Fei-Fei 2015"
    source = "https://cocodataset.org"
    Config: ClassVar[type[RecipeConfig]] = CocoConfig
    whole = "dataset_coco.json"
    stems = ("coco", "mscoco", "coco_karpathy")
    foreseen = (
        *(
            TaskOutline(f"{size}{suffix}", "image_text", f"karpathy-{size}{suffix}/1")
            for suffix in ("", "-first5")
            for size in ("5k", "1k")
        ),
        TaskOutline("val", "image_text", "karpathy-5k/1"),
    )
    places = ("coco", "mscoco")

    def joined(self) -> tuple[str, ...]:
        """`restval`, unless the options say no."""
        assert isinstance(self.options, CocoConfig)
        return ("restval",) if self.options.restval else ()

    def counts(self) -> dict[str, int]:
        """Images of each split, official."""
        return {"train": 113_287 if self.joined() else 82_783, "val": 5_000, "test": 5_000}

    def tasks(self) -> list[Task]:
        """`5k` (the default), `1k` in five folds, both with five captions an image; `val`."""
        found = []
        if "test" in self.splits:
            for captions, suffix in ((None, ""), (FIRST, "-first5")):
                if captions is not None and self._few():
                    continue
                for size in ("5k", "1k"):
                    rules = f"karpathy-{size}{suffix}/1"
                    found.append(self.task(f"{size}{suffix}", rules, "test", captions))
        if "val" in self.splits:
            found.append(self.task("val", "karpathy-5k/1", "val"))
        return found

    def _few(self) -> int:
        """Test images with fewer captions than VSE++'s code uses of each; officially none."""
        return sum(len(image.captions) < FIRST for image in self.splits["test"])

    def warnings(self) -> list[str]:
        """Also: test images with so few captions that the first-5 tasks are left out."""
        found = super().warnings()
        if "test" in self.splits and (few := self._few()):
            found.append(f"{few} test image(s) with fewer than 5 captions: no first5 tasks")
        return found


def _other_names(name: str) -> list[str]:
    """The bare file name, and COCO's since 2017 ("COCO_val2014_000000000042.jpg": its number)."""
    bare = PurePosixPath(name).name
    return [bare, bare.rpartition("_")[2]] if bare.startswith("COCO_") else [bare]


def _refuse_blank(path: Path, images: Sequence[Image]) -> None:
    for image in images:
        if not all(text.strip() for _, text in image.captions):
            raise DataError(
                f"{path}: image {image.id!r} has a caption without text; a file of ids cannot be "
                "built from, fetch the one with the sentences"
            )
