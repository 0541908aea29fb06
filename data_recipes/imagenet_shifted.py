"""ImageNet's four shifted test sets, and what is shared with ImageNet: class names and folders.

`classnames.txt` (CLIP's names) has a line "n01440764 tench" a class; labels are places in the
sorted WordNet ids. Images lie in one folder a class.
Facts: KaiyangZhou/CoOp, `DATASETS.md` and `datasets/imagenet*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from data_recipes.core import official
from data_recipes.core.classification import Labelled, Splits, classification_tasks
from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError, Task
from data_recipes.core.recipe import PhotoConfig, Recipe, RecipeConfig, TaskOutline

TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class Variant:
    """A shifted test set. folder, inside: where CoOp puts its class folders.

    numbered: the folders are labels, not WordNet ids. subset: it has some of the classes, and
    only these are candidates. images, classes: official counts.
    """

    folder: str
    inside: str
    images: int
    classes: int
    numbered: bool = False
    subset: bool = False


VARIANTS = {
    "imagenetv2": Variant(
        "imagenetv2", "imagenetv2-matched-frequency-format-val", 10_000, 1000, numbered=True
    ),
    "imagenet_sketch": Variant("imagenet-sketch", "images", 50_889, 1000),
    "imagenet_a": Variant("imagenet-adversarial", "imagenet-a", 7_500, 200, subset=True),
    "imagenet_r": Variant("imagenet-rendition", "imagenet-r", 30_000, 200, subset=True),
}


@dataclass(frozen=True)
class ClassFolders:
    """The images of one folder of class folders."""

    labelled: list[Labelled]
    files: list[ImageFile]

    def labels(self) -> set[int]:
        """The classes that have an image."""
        return {one.label for one in self.labelled}


class ShiftedImageNet(Recipe):
    """A shifted test set alone: for methods that do not learn."""

    inputs = ("annotations", "images")
    foreseen = (TaskOutline("classification", "classification", "classification/1", trains=False),)
    Config: ClassVar[type[RecipeConfig]] = PhotoConfig

    @property
    def variant(self) -> Variant:
        """The set's facts."""
        return VARIANTS[self.name]

    @cached_property
    def names(self) -> dict[str, str]:
        """WordNet id -> class name, sorted."""
        places = (self.variant.folder, "imagenet")
        folder = AnnotationFolder(self.folder("annotations"), places)
        return read_classnames(folder.find("classnames.txt"))

    @cached_property
    def content(self) -> ClassFolders:
        """The class folders, read."""
        root, one = self.folder("images"), self.variant
        place = place_of(root, one.folder, one.inside)
        if place is None:
            raise no_place(root, one.folder, one.inside)
        return read_folders(place, self.name, list(self.names), one.numbered)

    def images(self) -> list[ImageFile]:
        """Every image."""
        return self.content.files

    def tasks(self) -> list[Task]:
        """`classification`; A and R are ranked against their own 200 classes."""
        names = dict(enumerate(self.names.values()))
        if self.variant.subset:
            names = {label: names[label] for label in sorted(self.content.labels())}
        return classification_tasks(Splits(names, [], [], self.content.labelled), TEMPLATES)

    def warnings(self) -> list[str]:
        """Counts that are not the official ones."""
        counts = {
            "images": (len(self.content.files), self.variant.images),
            "classes": (len(self.content.labels()), self.variant.classes),
        }
        return [f"{n} {what}, officially {m}" for what, (n, m) in counts.items() if n != m]


class ImageNetV2(ShiftedImageNet):
    """New test images, drawn as the first were (matched frequency)."""

    name = "imagenetv2"
    summary = "ImageNetV2, matched frequency: new test images of ImageNet's classes"
    licence = "MIT (repository); the owners' (images: Flickr)"
    attribution = "ImageNetV2, Recht et al. (arXiv 1902.10811)"
    source = "https://github.com/modestyachts/ImageNetV2"


class ImageNetSketch(ShiftedImageNet):
    """Sketches."""

    name = "imagenet_sketch"
    summary = "ImageNet-Sketch: black and white sketches of ImageNet's classes"
    licence = "MIT (repository); the owners' (images)"
    attribution = "ImageNet-Sketch, Wang et al. (arXiv 1905.13549)"
    source = "https://github.com/HaohanWang/ImageNet-Sketch"


class ImageNetA(ShiftedImageNet):
    """Photographs that a ResNet-50 gets wrong."""

    name = "imagenet_a"
    summary = "ImageNet-A: natural adversarial photographs of 200 of ImageNet's classes"
    licence = "MIT (repository); the owners' (images)"
    attribution = "ImageNet-A, Hendrycks et al. (arXiv 1907.07174)"
    source = "https://github.com/hendrycks/natural-adv-examples"


class ImageNetR(ShiftedImageNet):
    """Art, cartoons, toys and other renditions."""

    name = "imagenet_r"
    summary = "ImageNet-R: renditions (art, cartoons, toys) of 200 of ImageNet's classes"
    licence = "MIT (repository); the owners' (images)"
    attribution = "ImageNet-R, Hendrycks et al. (arXiv 2006.16241)"
    source = "https://github.com/hendrycks/imagenet-r"


def read_classnames(path: Path) -> dict[str, str]:
    """WordNet id -> class name, in the order of the ids. Raises DataError naming file and line."""
    found = []
    for number, line in enumerate(official.text_lines(path), 1):
        wnid, _, name = line.strip().partition(" ")
        if not re.fullmatch(r"n\d{8}", wnid) or not name.strip():
            raise DataError(
                f"{path}:{number}: is {line!r}, expected a line such as 'n01440764 tench'"
            )
        found.append((wnid, name.strip()))
    official.unique(path, [wnid for wnid, _ in found], "class")
    return dict(sorted(found))


def read_folders(
    root: Path, prefix: str, wnids: Sequence[str], numbered: bool = False
) -> ClassFolders:
    """All images below the class folders in `root`; ids are "<prefix>/<folder>/<file>".

    Raises:
        DataError: an image lies in no class's folder, or there is none at all.
    """
    names = map(str, range(len(wnids))) if numbered else wnids
    labels = {name: label for label, name in enumerate(names)}
    what = "a label" if numbered else "a WordNet id of classnames.txt"
    labelled, files = [], []
    for path in ImageFolder(root).files():
        relative = path.relative_to(root)
        label = labels.get(relative.parts[0]) if len(relative.parts) > 1 else None
        if label is None:
            raise DataError(
                f"{path}: lies in no class's folder: {relative.parts[0]!r} in {root} is not {what}"
            )
        image = f"{prefix}/{relative.as_posix()}"
        labelled.append(Labelled(image, label))
        files.append(ImageFile(image, path))
    order = sorted(range(len(files)), key=lambda row: (labelled[row].label, files[row].id))
    return ClassFolders([labelled[row] for row in order], [files[row] for row in order])


def _places(root: Path, folder: str, inside: str) -> list[Path]:
    return [root / folder / inside, root / inside, root / Path(inside).name]


def place_of(root: Path, folder: str, inside: str) -> Path | None:
    """The folder `inside` of a set: below the root of all sets, below the set's own, or `root`."""
    here = [root] if root.resolve().name == Path(inside).name else []
    return next((p for p in (*_places(root, folder, inside), *here) if p.is_dir()), None)


def no_place(root: Path, folder: str, inside: str) -> DataError:
    looked = ", ".join(dict.fromkeys(map(str, _places(root, folder, inside))))
    return DataError(
        f"{root}: no folder {inside} there; looked for {looked}; name it with --images"
    )
