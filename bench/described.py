"""Descriptions of a dataset's classes or images: which a study means, and whether all are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.learn import training_pairs
from data_recipes.core.dataset import Dataset
from data_recipes.core.descriptions import read_descriptions
from data_recipes.core.model import Task
from data_recipes.core.write import file_sha256


@dataclass(frozen=True)
class Described:
    """Descriptions as a study names them.

    texts: class name or image id -> sentences. sha256: of their file. file: the study's own;
    None: the dataset's.
    """

    texts: Mapping[str, tuple[str, ...]]
    sha256: str
    file: str | None


def descriptions_of(dataset: Dataset, file: str | None) -> Described | None:
    """The study's `file` of descriptions, else the dataset's own, else None.

    Raises:
        DataError: a file that is missing or damaged.
    """
    if file is not None:
        path = Path(file).resolve()
        return Described(read_descriptions(path), file_sha256(path), str(path))
    sha256 = dataset.manifest.descriptions_sha256
    return None if sha256 is None else Described(dataset.descriptions, sha256, None)


def undescribed(task: Task, texts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What training on the task meets and no description tells of, in order of first use.

    Classification: classes. Composed retrieval: reference and target images. Image-text
    retrieval needs none beside its captions.
    """
    needed: dict[str, None] = {}
    for query, candidate in training_pairs(task, task.training().queries):
        if task.kind == "classification":
            needed[candidate.text or ""] = None
        elif task.kind == "composed":
            needed |= dict.fromkeys([query.image or "", candidate.image or ""])
    return [name for name in needed if name not in texts]
