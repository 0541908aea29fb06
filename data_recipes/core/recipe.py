"""The contract of a recipe: a raw dataset's images and tasks, ready for the shard writer.

class MyData(Recipe):
    name = "my-data"
    inputs = ("images",)
    def images(self): return [ImageFile("img-1", self.folder("images") / "1.jpg"), ...]
    def tasks(self): return [Task("classification", "classification", ...)]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_recipes.core.images import ImageSource, Pad
from data_recipes.core.model import DataError, Task, TaskKind

Input = Literal["annotations", "images"]


class NoFolderError(DataError):
    """A recipe asks for a folder that was not named."""


class RecipeConfig(BaseModel):
    """A recipe's options; every field enters the dataset's identity. Unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PhotoConfig(RecipeConfig):
    """Options of recipes that read the user's own image files.

    image_size: the longest that an image's shorter side may be as stored; None: files as they are.
    pad: done when an image is read, before the backbone's own resizing; see `images.PADS`.
    """

    image_size: int | None = Field(default=None, ge=16)
    pad: Pad = "none"


@dataclass(frozen=True)
class Folders:
    """Where the user's files are: the official annotation files, and the images."""

    annotations: Path | None = None
    images: Path | None = None


@dataclass(frozen=True)
class TaskOutline:
    """What is known of a task before it is built. trains: it has a training part."""

    name: str
    kind: TaskKind
    protocol: str
    trains: bool = True


class Recipe(ABC):
    """One dataset. Found by its module's place in `data_recipes/`, or by an entry point.

    name: the dataset's name in studies and on the command line.
    version: raised when the recipe's output changes for the same input.
    licence, attribution, source: kept in the manifest and shown beside results.
    summary: one line for `promptgrid datasets`.
    inputs: the folders that it reads; the user names them (`--annotations`, `--images`).
    foreseen: the tasks of a whole build from such folders, the default one first; (): unknown.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    summary: ClassVar[str] = ""
    licence: ClassVar[str] = "unknown"
    attribution: ClassVar[str] = ""
    source: ClassVar[str] = ""
    inputs: ClassVar[tuple[Input, ...]] = ()
    foreseen: ClassVar[tuple[TaskOutline, ...]] = ()
    Config: ClassVar[type[RecipeConfig]] = RecipeConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        self.config = config if config is not None else self.Config()
        self.folders = folders if folders is not None else Folders()

    @classmethod
    @cache
    def outline(cls) -> tuple[TaskOutline, ...]:
        """The tasks that a whole build would have, without any file; () where that is unknown."""
        if cls.foreseen or cls.inputs:
            return cls.foreseen
        return tuple(
            TaskOutline(task.name, task.kind, task.protocol, task.train is not None)
            for task in cls().tasks()
        )

    def folder(self, which: Input) -> Path:
        """One of the user's folders. Raises DataError when it was not named or is none."""
        path: Path | None = getattr(self.folders, which)
        if path is None:
            raise NoFolderError(
                f"dataset {self.name!r} is made from files of yours: name the folder of its "
                f"{which} with --{which}; `promptgrid data build --help` has an example"
            )
        if not path.is_dir():
            raise DataError(f"{path}: no such folder (--{which} of dataset {self.name!r})")
        return path

    @abstractmethod
    def images(self) -> Iterable[ImageSource]:
        """Every image once, in a fixed order."""

    @abstractmethod
    def tasks(self) -> list[Task]:
        """The tasks over these images; the first one is the dataset's default."""

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Class name or image id -> sentences about it, for methods that learn from such."""
        return {}

    def warnings(self) -> list[str]:
        """What a reader of results should know of the files: kept in the manifest, shown beside."""
        return []
