"""A user's own classes: one folder of images a class.

    <images>/train/<class>/*.jpg, <images>/test/<class>/*.jpg, perhaps val/ as well
    <images>/<class>/*.jpg: a share of each class, drawn by a seed, becomes the test split

A class's name is its folder's, underscores as blanks, or what `classnames.txt` beside the folders
says: lines "<folder> <name>".
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from data_recipes.core import official
from data_recipes.core.classification import Labelled, Splits, classification_tasks
from data_recipes.core.folders import ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError, Task
from data_recipes.core.recipe import Folders, PhotoConfig, Recipe, RecipeConfig

SPLITS = ("train", "val", "test")


class ImageFolderConfig(PhotoConfig):
    """template: the hand-written prompt, with one {} for the class name.

    test_share, seed: of a folder without train/ and test/: the share of each class that becomes
        the test split (at least one image, at most all but one), and the draw.
    """

    template: str = "a photo of a {}."
    test_share: float = Field(default=0.3, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("template")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value.count("{}") != 1 or value.count("{") != 1 or value.count("}") != 1:
            raise ValueError("needs exactly one {}, where the class name stands")
        return value


class ImageFolderRecipe(Recipe):
    """Any folder of class folders; the few-shot unit is the class."""

    name = "imagefolder"
    summary = "your own classes: one folder of images a class"
    licence = "the user's own data"
    source = "data_recipes/docs/your-own-data.md"
    inputs = ("images",)
    Config: ClassVar[type[RecipeConfig]] = ImageFolderConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = ImageFolderConfig.model_validate(self.config.model_dump())

    @cached_property
    def files(self) -> dict[str, dict[str, list[Path]]]:
        """Split -> class folder -> image files. Raises DataError for what is no such layout."""
        root = self.folder("images")
        if any((root / split).is_dir() for split in ("train", "test")):
            if not (root / "test").is_dir():
                raise DataError(
                    f"{root}: has train/ and no test/; add it, or name a folder of class folders "
                    "without any split"
                )
            found = {s: class_files(root / s) for s in SPLITS if (root / s).is_dir()}
            unknown = sorted({c for split in found.values() for c in split} - set(found["test"]))
            if unknown:
                raise DataError(
                    f"{root}: the class {unknown[0]!r} has no image in test/; every class needs one"
                )
            return found
        return split_files(class_files(root), root, self.options.test_share, self.options.seed)

    @cached_property
    def splits(self) -> Splits:
        """The images with their labels; labels are places in the sorted class folders."""
        root = self.folder("images")
        classes = sorted(self.files["test"])
        labels = {folder: label for label, folder in enumerate(classes)}
        written = read_names(root / "classnames.txt", classes)
        names = {
            label: written.get(folder, folder.replace("_", " ")) for folder, label in labels.items()
        }
        rows = {
            split: [
                Labelled(path.relative_to(root).as_posix(), labels[folder])
                for folder, paths in sorted(content.items())
                for path in paths
            ]
            for split, content in self.files.items()
        }
        return Splits(names, rows.get("train", []), rows.get("val", []), rows["test"])

    def images(self) -> list[ImageFile]:
        """Every image; ids are paths below the folder."""
        root = self.folder("images")
        paths = sorted(p for split in self.files.values() for c in split.values() for p in c)
        return [ImageFile(path.relative_to(root).as_posix(), path) for path in paths]

    def tasks(self) -> list[Task]:
        """`classification`; `val` where there is one; `base-to-new` with four classes or more."""
        return classification_tasks(self.splits, (self.options.template,))

    def warnings(self) -> list[str]:
        """No training split, or one that lacks classes."""
        if "train" not in self.files:
            return ["there is no train/, so no method can learn on this dataset"]
        without = sorted(set(self.files["test"]) - set(self.files["train"]))
        if without:
            return [f"{len(without)} class(es) without training images: {without[0]}"]
        return []


def class_files(root: Path) -> dict[str, list[Path]]:
    """Class folder -> its image files, sorted, folders within it included.

    Raises:
        DataError: an image beside the class folders, or a class folder without any image.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in ImageFolder(root).files():
        folder = path.relative_to(root).parts[0]
        if root / folder == path:
            raise DataError(f"{path}: lies in no class's folder; move it into {root}/<class>/")
        found[folder].append(path)
    for below in sorted(root.iterdir()):
        if below.is_dir() and not below.name.startswith(".") and below.name not in found:
            raise DataError(f"{below}: has no image file; remove the folder or fill it")
    return dict(found)


def split_files(
    content: Mapping[str, Sequence[Path]], root: Path, share: float, seed: int
) -> dict[str, dict[str, list[Path]]]:
    """Train and test of a folder without splits: each class's images by a hash of seed and path.

    Raises:
        DataError: a class has one image only.
    """
    found: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
    for folder, paths in content.items():
        if len(paths) < 2:
            raise DataError(
                f"{root / folder}: has one image; a class needs two, one of them for the test split"
            )
        order = sorted(paths, key=lambda path: _draw(seed, path.relative_to(root).as_posix()))
        count = min(max(round(share * len(paths)), 1), len(paths) - 1)
        found["test"][folder] = sorted(order[:count])
        found["train"][folder] = sorted(order[count:])
    return found


def read_names(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Class folder -> name from `classnames.txt`; empty where there is no such file.

    Raises:
        DataError: a line names no class folder, or one twice, or has no name.
    """
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(official.text_lines(path), 1):
        folder, _, name = line.strip().partition(" ")
        if folder not in classes or folder in found or not name.strip():
            raise DataError(
                f"{path}:{number}: is {line!r}, expected a class folder not named before, a blank "
                "and its name"
            )
        found[folder] = name.strip()
    return found


def _draw(seed: int, image: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{image}".encode()).digest()
