"""Classification as retrieval: labelled images to tasks, and CoCoOp's base and new classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from data_recipes.core.model import Candidate, Query, RetrievalTask, Task


@dataclass(frozen=True)
class Labelled:
    """An image's id and its class: the 0-based label."""

    image: str
    label: int


@dataclass(frozen=True)
class Splits:
    """A labelled dataset. names: label -> class name; val and train may be empty."""

    names: Mapping[int, str]
    train: Sequence[Labelled]
    val: Sequence[Labelled]
    test: Sequence[Labelled]

    @property
    def labels(self) -> list[int]:
        """All labels in order."""
        return sorted(self.names)

    def base_labels(self) -> list[int]:
        """The first half of the labels, the larger one where they are odd (CoCoOp's rule)."""
        labels = self.labels
        return labels[: -(-len(labels) // 2)]


def class_id(label: int) -> str:
    """The candidate's id, also the few-shot group: names may repeat (ImageNet), labels do not."""
    return f"class-{label:03d}"


def classify(
    name: str, images: Sequence[Labelled], names: Mapping[int, str], labels: Collection[int]
) -> RetrievalTask:
    """One part: the images of `labels`, each ranked against the names of `labels`, in order."""
    kept = set(labels)
    queries = tuple(
        Query(i.image, image=i.image, relevant=(class_id(i.label),), group=class_id(i.label))
        for i in images
        if i.label in kept
    )
    candidates = tuple(Candidate(class_id(label), text=names[label]) for label in sorted(kept))
    return RetrievalTask(name, queries, candidates)


def classification_tasks(splits: Splits, templates: tuple[str, ...]) -> list[Task]:
    """`classification`, and where there is data for them `val` and `base-to-new`.

    base-to-new (Zhou et al., arXiv 2203.05557): trained on the base classes' images; base and new
    test images are each classified among their own classes. Needs a training split, two base and
    two new classes, and test images of both.
    """
    labels, base = splits.labels, splits.base_labels()
    new = [label for label in labels if label not in set(base)]

    def part(name: str, images: Sequence[Labelled], of: Sequence[int] = labels) -> RetrievalTask:
        return classify(name, images, splits.names, of)

    def train(of: Sequence[int] = labels) -> RetrievalTask | None:
        return part("train", splits.train, of) if splits.train else None

    def task(
        name: str, protocol: str, trained: RetrievalTask | None, *parts: RetrievalTask
    ) -> Task:
        return Task(name, "classification", protocol, trained, parts, templates)

    found = []
    if splits.test:
        found.append(task("classification", "classification/1", train(), part("test", splits.test)))
    if splits.val:
        found.append(task("val", "classification/1", train(), part("val", splits.val)))
    parts = (part("base", splits.test, base), part("new", splits.test, new))
    if splits.train and len(new) >= 2 and all(p.queries for p in parts):
        found.append(task("base-to-new", "base-to-new/1", train(base), *parts))
    return found
