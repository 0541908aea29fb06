"""The contract of a recipe: a raw dataset's images and tasks, ready for the shard writer.

class MyData(Recipe):
    name = "my-data"
    def images(self): yield RawImage("img-1", Path("1.jpg").read_bytes(), "jpg")
    def tasks(self): return [Task("classification", "classification", ...)]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from data_recipes.core.model import Task


class RecipeConfig(BaseModel):
    """A recipe's options; every field enters the dataset's identity. Unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


@dataclass(frozen=True)
class RawImage:
    """One image: its id (unique in the dataset), encoded bytes as they are stored, file ending."""

    id: str
    data: bytes
    extension: str
    meta: Mapping[str, Any] = field(default_factory=dict)


class Recipe(ABC):
    """One dataset. Found by its module's place in `data_recipes/`, or by an entry point.

    name: the dataset's name in studies and on the command line.
    version: raised when the recipe's output changes for the same input.
    licence, attribution, source: kept in the manifest and shown beside results.
    summary: one line for `promptgrid data list`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    summary: ClassVar[str] = ""
    licence: ClassVar[str] = "unknown"
    attribution: ClassVar[str] = ""
    source: ClassVar[str] = ""
    Config: ClassVar[type[RecipeConfig]] = RecipeConfig

    def __init__(self, config: RecipeConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()

    @abstractmethod
    def images(self) -> Iterator[RawImage]:
        """Every image once, in a fixed order."""

    @abstractmethod
    def tasks(self) -> list[Task]:
        """The tasks over these images; the first one is the dataset's default."""
