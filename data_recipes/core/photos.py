"""What recipes over the user's own files share: the chosen splits, image ids, file warnings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import field_validator

from data_recipes.core import digests
from data_recipes.core.folders import AnnotationFolder
from data_recipes.core.model import DataError, Task
from data_recipes.core.recipe import PhotoConfig


class SplitConfig(PhotoConfig):
    """Options of recipes whose dataset has splits.

    splits: those to build (`--split`), in any order; None: every split whose files are there.
    """

    known_splits: ClassVar[tuple[str, ...]] = ()
    splits: tuple[str, ...] | None = None

    @field_validator("splits", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """YAML, JSON and the command line have lists."""
        return tuple(value) if isinstance(value, list) else value

    @field_validator("splits")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """The official order, so that equal choices have equal identities."""
        if value is None:
            return None
        if not value:
            raise ValueError("names no split; leave it out for every split that is there")
        for name in value:
            if name not in cls.known_splits:
                near = difflib.get_close_matches(name, cls.known_splits, n=1)
                hint = f"did you mean {near[0]}?" if near else ", ".join(cls.known_splits)
                raise ValueError(f"unknown split {name!r}: {hint}")
        return tuple(name for name in cls.known_splits if name in value)


def chosen_splits(
    config: SplitConfig, files: AnnotationFolder, names: Callable[[str], Sequence[str]]
) -> list[str]:
    """The splits to build: those that the options name, else all that are there.

    names: the annotation files of a split; it is there when one of them is.

    Raises:
        DataError: a named split is not there, or none is, or only `train`.
    """
    wanted = config.splits or config.known_splits
    found = [s for s in wanted if any(files.get(name) is not None for name in names(s))]
    absent = [s for s in wanted if s not in found]
    if absent and (config.splits is not None or not found):
        files.absent(*(names(split)[0] for split in absent))
    if found == ["train"]:
        raise DataError(
            f"{files.root}: the train split alone leaves nothing to evaluate; add another split: "
            + ", ".join(s for s in config.known_splits if s != "train")
        )
    return found


def named_images(tasks: Iterable[Task]) -> list[str]:
    """Ids of all images that the tasks use, each once, in order of first use."""
    parts = (part for task in tasks for part in task.parts())
    return list(dict.fromkeys(i for part in parts for i in part.image_ids()))


def file_warnings(path: Path, family: str, records: int) -> list[str]:
    """Where `path` is no known official file: that, and an unlike number of records."""
    stranger = digests.stranger(path, family)
    if stranger is None:
        return []
    same = [f for f in digests.OFFICIAL if (f.family, f.name) == (family, path.name)]
    if same and same[0].records != records:
        stranger += f"; it has {records} records, the official one {same[0].records}"
    return [stranger]
