"""The one data model. A benchmark here is queries, candidates and relevance, and nothing else.

| benchmark | query | candidate | relevant | special |
|---|---|---|---|---|
| classification | image | class name (text) | one class | |
| image-text retrieval | image or caption | caption or image | one or several | two directions |
| composed retrieval | reference image + text | image | one or several | excluded, subset, gallery |

Images are named by id; their bytes live in the dataset's shards, once each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

TaskKind = Literal["classification", "image_text", "composed"]
TASK_KINDS: tuple[TaskKind, ...] = ("classification", "image_text", "composed")


class DataError(ValueError):
    """Bad input data; the message names the file or dataset, the record and the way out."""


@dataclass(frozen=True)
class Query:
    """One question to a gallery.

    id: unique in its RetrievalTask.
    image: id of the query or reference image, or None.
    text: caption or modification text, or None. At least one of image and text is set.
    relevant: ids of all right candidates; empty where the labels are withheld (or, with graded
        labels, where nothing that can be retrieved has a positive grade: a miss).
    credit: what recall@K pays for each of `relevant`, in [0, 1]; empty pays 1 for each. CIRCO pays
        for its one `target_img_id` only, CIRR's soft scorer 1, 0.5 or 0.2. mAP@K ignores it.
    excluded: candidate ids removed from this query's ranking (CIRR removes the reference).
    subset: candidate ids of an extra, small ranking (CIRR's Recall_subset), or None.
    gallery: candidate ids this query is ranked against, or None for all (GeneCIS has its own).
    group: the few-shot unit: class, garment category or kind of edit.
    cluster: queries with the same value are not independent (statistics); default: the image id.
    meta: anything a protocol's slices or an error analysis wants (JSON values only).
    """

    id: str
    image: str | None = None
    text: str | None = None
    relevant: tuple[str, ...] = ()
    credit: tuple[float, ...] = ()
    excluded: tuple[str, ...] = ()
    subset: tuple[str, ...] | None = None
    gallery: tuple[str, ...] | None = None
    group: str = ""
    cluster: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """One thing that can be retrieved: an image id, or a text (class name or caption)."""

    id: str
    image: str | None = None
    text: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RetrievalTask:
    """Queries against candidates. `name` tells the parts of one protocol apart ("dress", "i2t")."""

    name: str
    queries: tuple[Query, ...]
    candidates: tuple[Candidate, ...]

    @cached_property
    def position(self) -> dict[str, int]:
        """Candidate id -> row in `candidates`."""
        return {candidate.id: row for row, candidate in enumerate(self.candidates)}

    def image_ids(self) -> list[str]:
        """Ids of all images that the task touches, each once, in order of first use."""
        ids = [q.image for q in self.queries] + [c.image for c in self.candidates]
        return list(dict.fromkeys(i for i in ids if i is not None))

    def problems(self, images: set[str] | None = None) -> list[str]:
        """Everything wrong with the task, one line each (empty when it is sound).

        images: the ids that exist in the shards; None skips that check.
        """
        found: list[str] = []
        for what, ids in (
            ("query", [q.id for q in self.queries]),
            ("candidate", [c.id for c in self.candidates]),
        ):
            repeated = [i for i, n in Counter(ids).items() if n > 1]
            if repeated:
                found.append(f"{what} id {repeated[0]!r} occurs more than once{_more(repeated)}")
        if not self.queries:
            found.append("there is no query")
        if not self.candidates:
            found.append("there is no candidate")
        known = self.position
        for query in self.queries:
            if query.image is None and query.text is None:
                found.append(f"query {query.id!r} has neither image nor text")
            for fieldname in ("relevant", "excluded", "subset", "gallery"):
                ids_of_field: Sequence[str] = getattr(query, fieldname) or ()
                strange = [i for i in ids_of_field if i not in known]
                if strange:
                    found.append(
                        f"query {query.id!r}: {fieldname} names {strange[0]!r}, which is no "
                        f"candidate{_more(strange)}"
                    )
                if len(set(ids_of_field)) != len(ids_of_field):
                    found.append(f"query {query.id!r}: {fieldname} names a candidate twice")
            if query.credit and len(query.credit) != len(query.relevant):
                found.append(
                    f"query {query.id!r}: {len(query.credit)} credits for "
                    f"{len(query.relevant)} relevant candidates"
                )
            if any(not 0 <= value <= 1 for value in query.credit):
                found.append(f"query {query.id!r}: a credit is not in [0, 1]")
            if set(query.relevant) & set(query.excluded):
                found.append(f"query {query.id!r}: a relevant candidate is excluded")
        found += [
            f"candidate {candidate.id!r} needs an image or a text, not both"
            for candidate in self.candidates
            if (candidate.image is None) == (candidate.text is None)
        ]
        if len({query.subset is None for query in self.queries}) > 1:
            found.append("some queries have a subset and others have none")
        if images is not None:
            absent = [i for i in self.image_ids() if i not in images]
            if absent:
                found.append(f"image {absent[0]!r} is not in the shards{_more(absent)}")
        return found


@dataclass(frozen=True)
class Task:
    """What a cell trains and is scored on: a training part, and one or more evaluated parts.

    train: None where the dataset has no training split (CIRCO, GeneCIS).
    Several evaluated parts are the protocol's own (garment types, the two directions); their
    metrics are named `part/metric`, and `metric` alone is the plain mean over the parts.
    `templates` are hand-written prompts with one `{}` for the class name (classification).
    """

    name: str
    kind: TaskKind
    protocol: str
    train: RetrievalTask | None
    evaluate: tuple[RetrievalTask, ...]
    templates: tuple[str, ...] = ()

    def parts(self) -> tuple[RetrievalTask, ...]:
        """The training part, where there is one, and every evaluated part."""
        return self.evaluate if self.train is None else (self.train, *self.evaluate)

    def training(self) -> RetrievalTask:
        """The training part. Raises DataError where the dataset has none."""
        if self.train is None:
            raise DataError(
                f"task {self.name!r} has no training split; a method cannot learn on it"
            )
        return self.train

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in label order, for classification; empty otherwise."""
        if self.kind != "classification":
            return ()
        return tuple(c.text or "" for c in self.parts()[0].candidates)


def _more(found: Sequence[str]) -> str:
    return f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
