"""A protocol's tasks from the official annotation files, ready to be scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.predictions import Lists, Matrix
from data_recipes import circo, cirr, fashioniq, fdrd, genecis, karpathy
from data_recipes.core.model import DataError, RetrievalTask
from data_recipes.core.protocol import GENECIS_TASKS, Protocol


@dataclass(frozen=True)
class OfficialSet:
    """The tasks of one annotation file.

    whole: the parts over everything; folds: the same, once per fold.
    own_galleries: a similarity matrix has a row (target, gallery...) per query, not a column per
        candidate (GeneCIS).
    closed: all candidates are known, so that another id is an error.
    """

    name: str
    whole: tuple[RetrievalTask, ...]
    folds: tuple[tuple[RetrievalTask, ...], ...]
    own_galleries: bool = False
    closed: bool = True


Predictions = Lists | Matrix
Reader = Callable[[Protocol, Path, Path | None, Predictions], OfficialSet]


def read_tasks(
    rules: Protocol, annotations: Path, gallery: Path | None, predictions: Predictions
) -> OfficialSet:
    """The tasks of `annotations` under `rules`, with or without targets.

    gallery: the split file, or the list of all images, where the protocol has one.

    Raises:
        DataError: a file is unsound, or `gallery` is missing or unused.
    """
    family = rules.name.split("/")[0]
    reader = next((read for start, read in READERS.items() if family.startswith(start)), None)
    if reader is None:
        known = ", ".join(READERS)
        raise DataError(f"{rules.name} has no official files to evaluate; those that do: {known}")
    return reader(rules, annotations, gallery, predictions)


def read_set(
    rules: Protocol, annotations: Path, gallery: Path | None, predictions: Predictions
) -> OfficialSet:
    """The tasks that `rules` scores in `annotations`, which must have their targets.

    Raises:
        DataError: as `read_tasks`, or the targets are withheld.
    """
    found = read_tasks(rules, annotations, gallery, predictions)
    if not any(query.relevant for part in found.whole for query in part.queries):
        raise DataError(
            f"{annotations}: the targets of this split are withheld, so no metric can be computed; "
            "write the file for the test server with `promptgrid submit` instead"
        )
    return found


def with_reference(official: OfficialSet, reference: Literal["keep", "remove"]) -> OfficialSet:
    """The same queries with their reference image in the gallery, or out of it."""

    def change(part: RetrievalTask) -> RetrievalTask:
        queries = tuple(
            replace(
                query,
                excluded=(query.image,)
                if reference == "remove" and query.image in part.position
                else (),
            )
            for query in part.queries
        )
        return replace(part, queries=queries)

    whole = tuple(map(change, official.whole))
    return replace(
        official, whole=whole, folds=tuple(tuple(map(change, f)) for f in official.folds)
    )


def _one(task: RetrievalTask, *, own: bool = False, closed: bool = True) -> OfficialSet:
    return OfficialSet(task.name, (task,), ((task,),), own, closed)


def _fashioniq(
    rules: Protocol, annotations: Path, gallery: Path | None, _: Predictions
) -> OfficialSet:
    split = None if gallery is None else fashioniq.read_split(gallery)
    captions = fashioniq.read_captions(annotations, split)
    if rules.name.startswith("fashioniq-val"):
        return _one(fashioniq.val_task(captions))
    if split is None:
        raise DataError(
            f"{rules.name} ranks all images of the split file; name it with --gallery, for "
            f"instance --gallery split.{captions.category}.val.json"
        )
    return _one(fashioniq.original_task(captions, split))


def _cirr(rules: Protocol, annotations: Path, gallery: Path | None, _: Predictions) -> OfficialSet:
    images = None if gallery is None else list(cirr.read_split(gallery))
    return _one(cirr.read_task(annotations, images, soft=rules.name.startswith("cirr-soft")))


def _circo(
    _: Protocol, annotations: Path, gallery: Path | None, predictions: Predictions
) -> OfficialSet:
    if gallery is not None:
        return _one(circo.read_task(annotations, circo.read_gallery(gallery)))
    task = circo.read_task(annotations)
    if isinstance(predictions, Lists):
        named: Iterable[str] = (i for row in predictions.parts.get("", {}).values() for i in row)
    else:
        named = predictions.column_ids or ()
    images = dict.fromkeys([*(c.id for c in task.candidates), *named])
    return _one(circo.read_task(annotations, list(images)), closed=False)


def _genecis(
    rules: Protocol, annotations: Path, gallery: Path | None, _: Predictions
) -> OfficialSet:
    _no_gallery(rules, gallery)
    task = genecis.read_task(annotations)
    wanted = rules.name.split("/")[0].removeprefix("genecis").removeprefix("-").replace("-", "_")
    if wanted and task.name in GENECIS_TASKS and task.name != wanted:
        raise DataError(f"{annotations}: is the task {task.name}, not {wanted} ({rules.name})")
    return _one(task, own=True)


def _karpathy(
    rules: Protocol, annotations: Path, gallery: Path | None, _: Predictions
) -> OfficialSet:
    _no_gallery(rules, gallery)
    first = 5 if "first5" in rules.name else None
    images = karpathy.read_images(annotations, captions=first)
    return OfficialSet(
        annotations.stem,
        karpathy.tasks(images),
        tuple(karpathy.tasks(fold) for fold in karpathy.folds(images, rules.fold)),
    )


def _fdrd(rules: Protocol, annotations: Path, gallery: Path | None, _: Predictions) -> OfficialSet:
    _no_gallery(rules, gallery)
    kind = rules.name.split("/")[0].removeprefix("fdrd").removeprefix("-")
    galleries: dict[str, fdrd.Gallery] = {"hard": "hard", "credit-identical": "credit-identical"}
    tasks = fdrd.read_tasks(annotations, galleries.get(kind, "plain"))
    return OfficialSet(annotations.stem, tasks, (tasks,))


def _no_gallery(rules: Protocol, gallery: Path | None) -> None:
    if gallery is not None:
        raise DataError(
            f"{rules.name} has no gallery file (its candidates are in the annotations); leave "
            f"--gallery {gallery} out"
        )


READERS: dict[str, Reader] = {
    "fashioniq": _fashioniq,
    "cirr": _cirr,
    "circo": _circo,
    "genecis": _genecis,
    "karpathy": _karpathy,
    "fdrd": _fdrd,
}
