"""The recipe: FashionIQ from the official files and the user's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask, Task
from data_recipes.core.photos import SplitConfig, chosen_splits, file_warnings, named_images
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig, TaskOutline
from data_recipes.fashioniq.reader import (
    CATEGORIES,
    Captions,
    Join,
    original_task,
    read_captions,
    read_split,
    val_task,
)

PLACES = ("captions", "image_splits")


class FashionIQConfig(SplitConfig):
    """join: how a record's two captions become one text (`reader.JOINS`).

    leak: shirt and toptee share images, so that 811 train images are val images of the other (803
        test images): train records with one are left out ("exclude") or kept.
    """

    known_splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    join: Join = "clip4cir"
    leak: Literal["exclude", "keep"] = "exclude"


@dataclass(frozen=True)
class Split:
    """One split: the captions and the split file's images, by category."""

    captions: dict[str, Captions]
    images: dict[str, list[str]]

    def all_images(self) -> set[str]:
        """The images of all categories."""
        return {image for row in self.images.values() for image in row}


class FashionIQ(Recipe):
    """Composed retrieval of garments in three categories; a query is a garment and two captions."""

    name = "fashioniq"
    summary = "FashionIQ: dress, shirt and toptee; a garment and what should differ"
    licence = "CDLA, variant not stated (annotations); none stated (images: Amazon products)"
    attribution = "FashionIQ, Wu et al., CVPR 2021 (arXiv 1905.12794)"
    source = "https://github.com/XiaoxiaoGuo/fashion-iq"
    inputs = ("annotations", "images")
    foreseen = (
        TaskOutline("original", "composed", "fashioniq-original/1"),
        TaskOutline("val", "composed", "fashioniq-val/1"),
        TaskOutline("test", "composed", "fashioniq-original/1"),
    )
    Config: ClassVar[type[RecipeConfig]] = FashionIQConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = FashionIQConfig.model_validate(self.config.model_dump())

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The chosen splits, read. A split is there when one of its caption files is."""
        files = AnnotationFolder(self.folder("annotations"), PLACES)
        chosen = chosen_splits(
            self.options, files, lambda split: [f"cap.{c}.{split}.json" for c in CATEGORIES]
        )
        return {split: _read(files, split) for split in chosen}

    @cached_property
    def leaked(self) -> dict[str, set[str]]:
        """Evaluated split -> images that the train split has too."""
        if "train" not in self.splits:
            return {}
        train = self.splits["train"].all_images()
        return {
            name: train & split.all_images()
            for name, split in self.splits.items()
            if name != "train"
        }

    def images(self) -> list[ImageFile]:
        """Every image that the tasks use, `<id>.jpg` in one folder or in one a category."""
        folder = ImageFolder(self.folder("images"))
        category: dict[str, str] = {}
        for split in self.splits.values():
            for name, ids in split.images.items():
                for i in ids:
                    category.setdefault(i, name)
        return [
            ImageFile(i, folder.get(f"{category[i]}/{i}.jpg") or folder.find(f"{i}.jpg"))
            for i in named_images(self.tasks())
        ]

    def tasks(self) -> list[Task]:
        """`original` (the default) and `val` where the val split is there; `test` (withheld)."""

        def original(captions: Captions, images: list[str]) -> RetrievalTask:
            return original_task(captions, images, self.options.join)

        def val(captions: Captions, images: list[str]) -> RetrievalTask:
            return val_task(captions)

        found = []
        if "val" in self.splits:
            found.append(self._task("original", "fashioniq-original/1", "val", original))
            found.append(self._task("val", "fashioniq-val/1", "val", val))
        if "test" in self.splits:
            found.append(self._task("test", "fashioniq-original/1", "test", original))
        return found

    def _task(
        self,
        name: str,
        protocol: str,
        split: str,
        read: Callable[[Captions, list[str]], RetrievalTask],
    ) -> Task:
        def parts(of: str) -> list[RetrievalTask]:
            found = self.splits[of]
            return [read(found.captions[c], found.images[c]) for c in CATEGORIES]

        train = self._train(parts("train")) if "train" in self.splits else None
        return Task(name, "composed", protocol, train, tuple(parts(split)))

    def _train(self, categories: Sequence[RetrievalTask]) -> RetrievalTask:
        """All categories in one; query ids are "category/id". Candidates: the images in use."""
        left_out = self._leaked_images() if self.options.leak == "exclude" else set[str]()
        queries = [
            replace(query, id=f"{part.name}/{query.id}")
            for part in categories
            for query in part.queries
            if not left_out.intersection(_used(query))
        ]
        used = sorted({image for query in queries for image in _used(query)})
        candidates = tuple(Candidate(id=i, image=i) for i in used)
        return RetrievalTask("train", tuple(queries), candidates)

    def _leaked_images(self) -> set[str]:
        return set().union(*self.leaked.values())

    def warnings(self) -> list[str]:
        """Files that are not official, blank captions, no train split, images in two splits."""
        found = []
        for name, split in self.splits.items():
            for category, captions in split.captions.items():
                found += file_warnings(captions.path, "fashioniq", len(captions.references))
                blank = sum(not text.strip() for row in captions.captions for text in row)
                if blank:
                    found.append(
                        f"{blank} blank caption(s) in {category} {name}: the record is kept, only "
                        "captions that are not blank are joined"
                    )
        if "train" not in self.splits:
            return [*found, "the train split is not built, so no method can learn on this dataset"]
        for name, images in self.leaked.items():
            if images:
                found.append(
                    f"{len(images)} images of the train split are {name} images of another category"
                )
        leaked = self._leaked_images()
        using = sum(
            bool(leaked.intersection((reference, target)))
            for one in self.splits["train"].captions.values()
            for reference, target in zip(one.references, one.targets or (), strict=True)
        )
        if using:
            done = "are left out" if self.options.leak == "exclude" else "were kept (leak: keep)"
            found.append(f"{using} train records that use an evaluated image {done}")
        return found


def _read(files: AnnotationFolder, split: str) -> Split:
    images = {c: read_split(files.find(f"split.{c}.{split}.json")) for c in CATEGORIES}
    captions = {
        c: read_captions(files.find(f"cap.{c}.{split}.json"), images[c]) for c in CATEGORIES
    }
    for one in captions.values():
        if one.targets is None and split != "test":
            raise DataError(
                f"{one.path}: no record has a 'target', which only the test split may lack; fetch "
                "the file again"
            )
    return Split(captions, images)


def _used(query: Query) -> tuple[str, ...]:
    return (*query.relevant, *((query.image,) if query.image else ()))
