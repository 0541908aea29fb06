"""CoOp's ten fine-grained and general classification sets, in CoOp's own splits.

Nine have `split_zhou_<Name>.json`: {"train" | "val" | "test": [[path, label, class name], ...]};
FGVC-Aircraft has its official lists, `images_variant_<split>.txt` with a line "number name", and
`variants.txt` with the names in label order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from data_recipes.coop_sets_table import SETS, CoOpSet, image_file
from data_recipes.core import official
from data_recipes.core.classification import Labelled, Splits, classification_tasks
from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError, Task
from data_recipes.core.photos import named_images
from data_recipes.core.recipe import PhotoConfig, Recipe, RecipeConfig, TaskOutline

SPLITS = ("train", "val", "test")
_COOP = "splits: Zhou et al., Learning to Prompt for Vision-Language Models (arXiv 2109.01134)"


class CoOpRecipe(Recipe):
    """A classification set as CoOp uses it; the few-shot unit is the class."""

    source = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
    inputs = ("annotations", "images")
    foreseen = (
        TaskOutline("classification", "classification", "classification/1"),
        TaskOutline("val", "classification", "classification/1"),
        TaskOutline("base-to-new", "classification", "base-to-new/1"),
    )
    Config: ClassVar[type[RecipeConfig]] = PhotoConfig

    @property
    def table(self) -> CoOpSet:
        """The set's facts."""
        return SETS[self.name]

    @cached_property
    def splits(self) -> Splits:
        """The split file, read."""
        return read_zhou(self._file(self.table.split))

    def _file(self, name: str) -> Path:
        return AnnotationFolder(self.folder("annotations"), (self.table.folder,)).find(name)

    def images(self) -> list[ImageFile]:
        """Every image of the three splits, by its path in the split file."""
        folder = ImageFolder(self.folder("images"))
        return [
            ImageFile(path, image_file(folder, self.table, path))
            for path in named_images(self.tasks())
        ]

    def tasks(self) -> list[Task]:
        """`classification` (the default; evaluates test), `val` and `base-to-new`."""
        return classification_tasks(self.splits, (self.table.template,))

    def warnings(self) -> list[str]:
        """Counts that are not the official ones; images in two splits."""
        found, splits = [], self.splits
        if len(splits.names) != self.table.classes:
            found.append(f"{len(splits.names)} classes, officially {self.table.classes}")
        for name, count in zip(SPLITS, self.table.counts, strict=True):
            images = getattr(splits, name)
            if len(images) != count:
                found.append(f"{name} has {len(images)} images, officially {count}")
        return found + shared_images(splits)


class Caltech101(CoOpRecipe):
    """Objects; two of the 102 folders are not used (BACKGROUND_Google, Faces_easy)."""

    name = "caltech101"
    summary = "Caltech101 in CoOp's splits: 100 kinds of objects"
    licence = "CC BY 4.0"
    attribution = f"Caltech 101, Li et al.; {_COOP}"


class OxfordPets(CoOpRecipe):
    """Breeds of cats and dogs."""

    name = "oxford_pets"
    summary = "Oxford-IIIT Pet in CoOp's splits: 37 breeds of cats and dogs"
    licence = "CC BY-SA 4.0"
    attribution = f"The Oxford-IIIT Pet Dataset, Parkhi et al.; {_COOP}"


class StanfordCars(CoOpRecipe):
    """Makes and models of cars; the year stands first in the class names."""

    name = "stanford_cars"
    summary = "Stanford Cars in CoOp's splits: 196 makes and models"
    licence = "none stated"
    attribution = f"Cars, Krause et al.; {_COOP}"


class OxfordFlowers(CoOpRecipe):
    """Flowers; CoOp's own split, not the official one."""

    name = "oxford_flowers"
    summary = "Oxford Flowers 102 in CoOp's splits: 102 flowers"
    licence = "none stated"
    attribution = f"102 Category Flower Dataset, Nilsback and Zisserman; {_COOP}"


class Food101(CoOpRecipe):
    """Dishes."""

    name = "food101"
    summary = "Food-101 in CoOp's splits: 101 dishes"
    licence = "the owners' of the images (Foodspotting); see license_agreement.txt"
    attribution = f"Food-101, Bossard et al.; {_COOP}"


class FGVCAircraft(CoOpRecipe):
    """Variants of aircraft, in the official splits."""

    name = "fgvc_aircraft"
    summary = "FGVC-Aircraft, official splits: 100 variants of aircraft"
    licence = "non-commercial research only"
    attribution = "FGVC-Aircraft, Maji et al. (arXiv 1306.5151)"

    @cached_property
    def splits(self) -> Splits:
        """The official lists, read."""
        names = read_names(self._file("variants.txt"))
        rows = {
            split: read_list(self._file(f"images_variant_{split}.txt"), names) for split in SPLITS
        }
        return Splits(dict(enumerate(names)), rows["train"], rows["val"], rows["test"])


class SUN397(CoOpRecipe):
    """Scenes."""

    name = "sun397"
    summary = "SUN397 in CoOp's splits: 397 scenes"
    licence = "none stated"
    attribution = f"SUN database, Xiao et al.; {_COOP}"


class DTD(CoOpRecipe):
    """Textures; CoOp's own split, not one of the ten official ones."""

    name = "dtd"
    summary = "Describable Textures in CoOp's splits: 47 textures"
    licence = "research only"
    attribution = f"DTD, Cimpoi et al.; {_COOP}"


class EuroSAT(CoOpRecipe):
    """Land use seen by a satellite."""

    name = "eurosat"
    summary = "EuroSAT in CoOp's splits: 10 kinds of land use from Sentinel-2"
    licence = "MIT"
    attribution = f"EuroSAT, Helber et al.; {_COOP}"


class UCF101(CoOpRecipe):
    """Actions, one middle frame of each video."""

    name = "ucf101"
    summary = "UCF101 in CoOp's splits: 101 actions, the middle frames of the videos"
    licence = "none stated"
    attribution = f"UCF101, Soomro et al.; {_COOP}"


def read_zhou(path: Path) -> Splits:
    """The splits of a `split_zhou_<Name>.json`.

    Raises:
        DataError: naming file, split, record, field and the number of further cases.
    """
    raw = official.read_as(path, dict, "train, val and test, each a list")
    rows = {split: _rows(path, raw, split) for split in SPLITS}
    names: dict[int, str] = {}
    for split, records in rows.items():
        for number, (_, label, name) in enumerate(records):
            if names.setdefault(label, name) != name:
                raise DataError(
                    f"{path}: {split} record {number}: label {label} is {name!r} here and "
                    f"{names[label]!r} before; fetch the file again"
                )
    train, val, test = ([Labelled(p, n) for p, n, _ in rows[split]] for split in SPLITS)
    return Splits(names, train, val, test)


def _rows(path: Path, raw: Mapping[str, Any], split: str) -> list[tuple[str, int, str]]:
    (records,) = official.column(path, [raw], split, list, [split])
    official.refuse(
        path,
        (
            f"{split} record {number}: is {record!r}, expected [path, label, class name]"
            for number, record in enumerate(records)
            if not (
                isinstance(record, list)
                and [type(value) for value in record] == [str, int, str]
                and record[1] >= 0
            )
        ),
    )
    official.unique(path, [record[0] for record in records], f"image in {split}")
    if not records:
        raise DataError(f"{path}: {split} is empty; fetch the file again")
    return [(image, label, name) for image, label, name in records]


def read_names(path: Path) -> list[str]:
    """Class names, one a line. Raises DataError for a blank or repeated one."""
    names = [line.strip() for line in official.text_lines(path)]
    official.unique(path, names, "class name")
    return names


def read_list(path: Path, names: Sequence[str]) -> list[Labelled]:
    """An aircraft list: lines "0034309 707-320". Raises DataError naming file and line."""
    labels = {name: label for label, name in enumerate(names)}
    found = []
    for number, line in enumerate(official.text_lines(path), 1):
        image, _, name = line.strip().partition(" ")
        if name not in labels:
            raise DataError(f"{path}:{number}: the class {name!r} is not in variants.txt")
        found.append(Labelled(f"{image}.jpg", labels[name]))
    official.unique(path, [one.image for one in found], "image")
    return found


def shared_images(splits: Splits) -> list[str]:
    """A warning where an image is in several splits, with the first such image."""
    seen = Counter(i.image for split in SPLITS for i in getattr(splits, split))
    twice = [image for image, count in seen.items() if count > 1]
    if not twice:
        return []
    return [f"{len(twice)} image(s) are in more than one split: {twice[0]}"]
