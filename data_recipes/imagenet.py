"""ImageNet as CoOp uses it: its validation set is the test set.

With the four shifted test sets beside it, it has the task of domain generalisation as well.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import ClassVar

from data_recipes.core.classification import Splits, classification_tasks, classify
from data_recipes.core.folders import AnnotationFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError, Task
from data_recipes.core.photos import SplitConfig
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig, TaskOutline
from data_recipes.imagenet_shifted import (
    TEMPLATES,
    VARIANTS,
    ClassFolders,
    no_place,
    place_of,
    read_classnames,
    read_folders,
)

COUNTS = {"train": 1_281_167, "val": 50_000}


class ImageNetConfig(SplitConfig):
    """splits: "val" is the test set; without "train" nothing can be learned."""

    known_splits: ClassVar[tuple[str, ...]] = ("train", "val")


class ImageNet(Recipe):
    """1000 classes; with the shifted sets beside it, domain generalisation as well."""

    name = "imagenet"
    summary = "ImageNet (ILSVRC 2012) with CLIP's class names; evaluated on the validation set"
    licence = "non-commercial research and education (image-net.org's terms)"
    attribution = "ImageNet, Russakovsky et al. (arXiv 1409.0575)"
    source = "https://image-net.org"
    inputs = ("annotations", "images")
    foreseen = (
        TaskOutline("classification", "classification", "classification/1"),
        TaskOutline("base-to-new", "classification", "base-to-new/1"),
        TaskOutline("domain-generalisation", "classification", "domain-generalisation/1"),
    )
    Config: ClassVar[type[RecipeConfig]] = ImageNetConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = ImageNetConfig.model_validate(self.config.model_dump())

    @cached_property
    def names(self) -> dict[str, str]:
        """WordNet id -> class name, sorted."""
        folder = AnnotationFolder(self.folder("annotations"), ("imagenet",))
        return read_classnames(folder.find("classnames.txt"))

    @cached_property
    def splits(self) -> dict[str, ClassFolders]:
        """The chosen splits that are there, read."""
        root, found = self.folder("images"), {}
        for split in self.options.splits or self.options.known_splits:
            place = place_of(root, "imagenet", f"images/{split}")
            if place is not None:
                found[split] = read_folders(place, split, list(self.names))
            elif self.options.splits is not None or split == "val":
                raise no_place(root, "imagenet", f"images/{split}")
        if "val" not in found:
            raise DataError(
                "dataset 'imagenet': the train split alone leaves nothing to evaluate; add val"
            )
        return found

    @cached_property
    def variants(self) -> dict[str, ClassFolders]:
        """The shifted sets that lie beside `imagenet/`, read."""
        root = self.folder("images")
        return {
            name: read_folders(place, name, list(self.names), one.numbered)
            for name, one in VARIANTS.items()
            if (place := root / one.folder / one.inside).is_dir()
        }

    def images(self) -> list[ImageFile]:
        """Every image of the splits and of the shifted sets in use."""
        used = [*self.splits.values(), *(self.variants.values() if self._shifted() else ())]
        return [file for one in used for file in one.files]

    def _shifted(self) -> bool:
        return "train" in self.splits and len(self.variants) == len(VARIANTS)

    def tasks(self) -> list[Task]:
        """`classification`, `base-to-new`; `domain-generalisation` where all four sets are there.

        domain-generalisation: trained on ImageNet, evaluated on the shifted sets; the mean is
        over them, without ImageNet itself (its number is that of `classification`).
        """
        names = dict(enumerate(self.names.values()))
        train = self.splits["train"].labelled if "train" in self.splits else []
        splits = Splits(names, train, [], self.splits["val"].labelled)
        found = classification_tasks(splits, TEMPLATES)

        def candidates(name: str, one: ClassFolders) -> Collection[int]:
            return one.labels() if VARIANTS[name].subset else names

        if self._shifted():
            parts = tuple(
                classify(
                    name, one.labelled, names, one.labels() if VARIANTS[name].subset else names
                )
                for name, one in self.variants.items()
            )
            found.append(
                Task(
                    "domain-generalisation",
                    "classification",
                    "domain-generalisation/1",
                    classify("train", train, names, names),
                    parts,
                    TEMPLATES,
                )
            )
        return found

    def warnings(self) -> list[str]:
        """Counts that are not the official ones; no train split; shifted sets that lack others."""
        found = [] if len(self.names) == 1000 else [f"{len(self.names)} classes, officially 1000"]
        for split, one in self.splits.items():
            if len(one.files) != COUNTS[split]:
                found.append(f"{split} has {len(one.files)} images, officially {COUNTS[split]}")
        if "train" not in self.splits:
            found.append("the train split is not built, so no method can learn on this dataset")
        absent = [name for name in VARIANTS if name not in self.variants]
        if self.variants and absent:
            found.append(
                f"no task domain-generalisation: {', '.join(absent)} not there; it needs all four"
            )
        return found
