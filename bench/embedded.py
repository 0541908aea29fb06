"""A part's queries and candidates as features, each image and caption encoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.available import available
from bench.embed import BATCH, Encode, Images, embed
from bench.train import Engine
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask
from methods.core.contract import Method


@dataclass(frozen=True)
class Embedded:
    """A part's available queries and candidates with their features, rows in the parts' order."""

    asked: RetrievalTask
    queries: Tensor
    candidates: Tensor

    def of(self, part: RetrievalTask) -> tuple[Tensor, Tensor]:
        """The rows of a part that holds some of these queries and candidates."""
        if part is self.asked:
            return self.queries, self.candidates
        row = {query.id: number for number, query in enumerate(self.asked.queries)}
        return (
            self.queries[[row[query.id] for query in part.queries]],
            self.candidates[[self.asked.position[c.id] for c in part.candidates]],
        )


def embedded_part(
    method: Method,
    part: RetrievalTask,
    images: Images,
    gallery: Images,
    missing: AbstractSet[str],
    engine: Engine,
    once: Mapping[str, Once],
) -> Embedded:
    """Encode a part. once: what is encoded already, so that the other direction does not repeat."""
    asked = available(part, missing)
    if not asked.queries or not asked.candidates:
        raise DataError(
            f"part {part.name!r}: no query can be asked, because the images of all queries or all "
            "candidates are missing; build the dataset again with its images"
        )
    # A method may treat the list of classes as one (a class-specific context does).
    classes = method.task.kind == "classification"
    size = len(asked.candidates) if classes else BATCH
    kind = type(method)
    same = kind.query is Method.query and kind.candidate is Method.candidate
    shared = same and not classes and gallery == images  # bound methods are equal, never the same

    def features(
        encode: Encode, rows: Sequence[Query | Candidate], given: Images, size: int
    ) -> Tensor:
        side = _side(rows) if shared else None
        if side is None:
            return embed(encode, rows, given, size, engine, everywhere=True)
        return once[side].of(
            [row.image or row.text or "" for row in rows],
            lambda numbers: embed(
                encode, [rows[n] for n in numbers], given, size, engine, everywhere=True
            ),
        )

    with torch.no_grad():
        queries = features(method.query, asked.queries, images, BATCH)
        candidates = features(method.candidate, asked.candidates, gallery, size)
        return Embedded(asked, queries, candidates)


def _side(rows: Sequence[Query | Candidate]) -> str | None:
    """What all rows are made of, where that is one image, or one text, each."""
    if all(row.text is None for row in rows):
        return "image"
    plain = all(row.image is None and "texts" not in row.meta for row in rows)
    return "text" if plain else None


class Once:
    """Features of images or of captions by name or text: each is encoded once.

    Both directions of a task then give one image the same bits.
    """

    def __init__(self) -> None:
        self._row: dict[str, int] = {}
        self._features: Tensor | None = None

    def of(self, names: Sequence[str], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """Features (N, D) of rows; `encode`: numbers of rows -> features. Only new ones are asked.

        Rows of equal name are one.
        """
        fresh: dict[str, int] = {}
        for number, name in enumerate(names):
            if name not in self._row:
                fresh.setdefault(name, number)
        if fresh:
            made = encode([*fresh.values()])
            self._row |= {name: len(self._row) + n for n, name in enumerate(fresh)}
            known = self._features
            self._features = made if known is None else torch.cat([known, made])
        assert self._features is not None, "there is a row"
        wanted = [self._row[name] for name in names]
        if wanted == [*range(len(self._features))]:
            return self._features  # no copy of a gallery
        return self._features[wanted]
