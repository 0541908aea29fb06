"""CIRR: the official annotation files as retrieval tasks (Cuberick-Orion/CIRR @ 2276fba, rc2).

`captions/cap.rc2.<split>.json` is a list of {"pairid", "reference", "target_hard", "target_soft",
"caption", "img_set": {"members": 6 names, ...}} (test1 has no target_*);
`image_splits/split.rc2.<split>.json` an object name -> path.

The gallery is every name of the split file, less the query's own reference (CIRR issue 3), and not
only the names that occur as a reference (132 of 2297 val images never do). The subset of
Recall_subset is the other 5 members of the image set. Two scorers are legal on val:

- hard: the one `target_hard`, as all later papers do;
- soft (CIRPLANT's validation): credit max(0, best `target_soft` value among the first K). A soft
  target that is the reference (37 val records have one beside another image) is never retrieved,
  and the 3 val records without any positive soft target are always misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from data_recipes.core import official
from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask, Task
from data_recipes.core.photos import SplitConfig, chosen_splits, file_warnings, named_images
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig, TaskOutline

VERSION = "rc2"
PLACES = ("captions", "image_splits", "cirr/captions", "cirr/image_splits")
TRAIN_QUERIES = 28_225  # by the paper


def read_split(path: Path) -> dict[str, str]:
    """Image name -> path below the image folder, in file order."""
    images = official.read_as(path, dict, "image name -> path")
    official.elements(path, [[v] for v in images.values()], "path", str, list(images))
    return images


def read_task(path: Path, images: Sequence[str] | None = None, soft: bool = False) -> RetrievalTask:
    """The task of one caption file; query ids are pairids.

    images: the names of the split file (`read_split`); None takes every name the captions have
        (members, references, targets), which on the official files is the same set.
    soft: graded relevance by `target_soft` instead of `target_hard`.

    Raises:
        DataError: naming file, record, field, id and the number of further cases.
    """
    records = official.read_records(path, "CIRR captions")
    ids = official.column(path, records, "pairid", int)
    official.unique(path, ids, "pairid")
    references = official.column(path, records, "reference", str, ids)
    hard = official.optional(path, records, "target_hard", str, ids)
    graded = official.optional(path, records, "target_soft", dict, ids)
    texts = official.optional(path, records, "caption", str, ids)
    members = _members(path, records, references, ids)
    if images is None:
        named = [*(m for row in members for m in row), *references, *(hard or [])]
        images = list(dict.fromkeys([*named, *(t for row in graded or [] for t in row)]))
    known = set(images).__contains__
    for field, lists in (
        ("reference", [[r] for r in references]),
        ("target_hard", [[t] for t in hard or []]),
        ("target_soft", [list(row) for row in graded or []]),
        ("img_set.members", members),
    ):
        official.inside(path, lists, field, known, "the split file", ids)
    if soft and hard is not None and graded is None:
        raise DataError(f"{path}: no record has 'target_soft'; use the protocol cirr")
    official.elements(
        path,
        [[float(v) if type(v) is int else v for v in row.values()] for row in graded or []],
        "target_soft",
        float,
        ids,
    )
    queries = []
    for i, reference in enumerate(references):
        relevant: tuple[str, ...] = (hard[i],) if hard is not None else ()
        credit: tuple[float, ...] = ()
        if soft and graded is not None:
            positive = {k: float(v) for k, v in graded[i].items() if v > 0 and k != reference}
            relevant, credit = tuple(positive), tuple(positive.values())
        queries.append(
            Query(
                id=str(ids[i]),
                image=reference,
                text=texts[i].strip() if texts is not None else None,
                relevant=relevant,
                credit=credit,
                excluded=(reference,),
                subset=tuple(m for m in members[i] if m != reference),
            )
        )
    return RetrievalTask("cirr", tuple(queries), tuple(Candidate(id=n, image=n) for n in images))


def _members(
    path: Path, records: Sequence[official.Record], references: Sequence[str], ids: Sequence[int]
) -> list[list[str]]:
    sets = official.column(path, records, "img_set", dict, ids)
    members = official.column(path, sets, "members", list, ids)
    official.elements(path, members, "img_set.members", str, ids)
    official.refuse(
        path,
        (
            f"record {i} (id {ids[i]}): 'img_set.members' names an image twice or lacks the "
            f"reference {references[i]!r}"
            for i, row in enumerate(members)
            if len(set(row)) != len(row) or references[i] not in row
        ),
    )
    return members


class CIRRConfig(SplitConfig):
    """The splits and how the images are stored."""

    known_splits: ClassVar[tuple[str, ...]] = ("train", "val", "test1")


@dataclass(frozen=True)
class Split:
    """One split: its caption file, its split file's name -> path, and its task."""

    captions: Path
    file: Path
    images: dict[str, str]
    task: RetrievalTask


class CIRR(Recipe):
    """Composed retrieval over everyday photographs; the reference is removed from the gallery."""

    name = "cirr"
    summary = "CIRR (rc2): everyday photographs, with subsets of six alike images"
    licence = "MIT (annotations); not licensed by CIRR (images: NLVR2)"
    attribution = "CIRR, Liu et al., ICCV 2021 (arXiv 2108.04024); images of NLVR2"
    source = "https://github.com/Cuberick-Orion/CIRR"
    inputs = ("annotations", "images")
    foreseen = (
        TaskOutline("val", "composed", "cirr/1"),
        TaskOutline("val-soft", "composed", "cirr-soft/1"),
        TaskOutline("test1", "composed", "cirr/1"),
    )
    Config: ClassVar[type[RecipeConfig]] = CIRRConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = CIRRConfig.model_validate(self.config.model_dump())

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The chosen splits, read."""
        files = AnnotationFolder(self.folder("annotations"), PLACES)

        def read(split: str) -> Split:
            captions = files.find(_caption_file(split))
            file = files.find(f"split.{VERSION}.{split}.json")
            images = read_split(file)
            task = read_task(captions, list(images))
            if split != "test1" and not any(query.relevant for query in task.queries):
                raise DataError(
                    f"{captions}: no record has a 'target_hard', which only test1 may lack; fetch "
                    "the file again"
                )
            if any(query.text is None for query in task.queries):
                raise DataError(f"{captions}: no record has a 'caption'; fetch the file again")
            return Split(captions, file, images, replace(task, name=split))

        chosen = chosen_splits(self.options, files, lambda split: [_caption_file(split)])
        return {split: read(split) for split in chosen}

    def images(self) -> list[ImageFile]:
        """Every image of the split files: at the path given there, or by its name anywhere."""
        folder = ImageFolder(self.folder("images"))
        paths = {n: path for split in self.splits.values() for n, path in split.images.items()}
        return [
            ImageFile(name, folder.find(paths[name], f"{name}.png"))
            for name in named_images(self.tasks())
        ]

    def tasks(self) -> list[Task]:
        """`val` (the default) and `val-soft` where the val split is there; `test1` (withheld)."""
        train = self.splits["train"].task if "train" in self.splits else None
        found = []
        if "val" in self.splits:
            val = self.splits["val"]
            soft = replace(read_task(val.captions, list(val.images), soft=True), name="val")
            found.append(Task("val", "composed", "cirr/1", train, (val.task,)))
            found.append(Task("val-soft", "composed", "cirr-soft/1", train, (soft,)))
        if "test1" in self.splits:
            test = self.splits["test1"].task
            found.append(Task("test1", "composed", "cirr/1", train, (test,)))
        return found

    def warnings(self) -> list[str]:
        """Files that are not official, blank captions, no train split."""
        found = []
        for name, split in self.splits.items():
            found += file_warnings(split.captions, "cirr", len(split.task.queries))
            found += file_warnings(split.file, "cirr", len(split.images))
            blank = sum(not query.text for query in split.task.queries)
            if blank:
                found.append(f"{blank} blank caption(s) in {name}: the query is kept")
        if "train" not in self.splits:
            found.append("the train split is not built, so no method can learn on this dataset")
        elif (count := len(self.splits["train"].task.queries)) != TRAIN_QUERIES:
            found.append(f"train has {count} queries, {TRAIN_QUERIES} by the paper")
        return found


def _caption_file(split: str) -> str:
    return f"cap.{VERSION}.{split}.json"
