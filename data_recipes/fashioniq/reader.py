"""FashionIQ: the official annotation files as retrieval tasks (XiaoxiaoGuo/fashion-iq @ f71b16c).

`captions/cap.<category>.<split>.json` is a list of {"target", "candidate", "captions": [c0, c1]}
(candidate: the reference image; test has no target), `image_splits/split.<category>.<split>.json`
a list of image ids. Two protocols are in use and give different numbers:

- original (CLIP4Cir, SEARLE, Pic2Word, LinCIR): the gallery is the split file, the reference stays
  in it, one query a record;
- VAL (Chen et al. 2020; CoSMo): the gallery is the sorted union of references and targets, the
  reference is removed, every caption that is not blank is a query of its own.

Three val records and one test record have a blank caption. The record stays; only captions that
are not blank are joined (the original code writes "x and ").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_recipes.core import official
from data_recipes.core.model import Candidate, Query, RetrievalTask

CATEGORIES = ("dress", "shirt", "toptee")
_STRIPPED = ".?, "


@dataclass(frozen=True)
class Captions:
    """One caption file. targets: None where the split withholds them."""

    path: Path
    references: list[str]
    targets: list[str] | None
    captions: list[list[str]]

    @property
    def category(self) -> str:
        """From the official file name `cap.<category>.<split>.json`, else the file's stem."""
        words = self.path.name.split(".")
        return words[1] if words[0] == "cap" and len(words) > 2 else self.path.stem


def _start_kit(captions: Sequence[str]) -> tuple[str, ...]:
    return (" <and> ".join(captions),)


def _clip4cir(captions: Sequence[str]) -> tuple[str, ...]:
    first, *others = (c.strip(_STRIPPED) for c in captions)
    return (" and ".join([first.capitalize(), *others]),)


def _searle(captions: Sequence[str]) -> tuple[str, ...]:
    stripped = [c.strip(_STRIPPED) for c in captions]
    return tuple(dict.fromkeys((" and ".join(stripped), " and ".join(stripped[::-1]))))


def _pic2word(captions: Sequence[str]) -> tuple[str, ...]:
    return (" and ".join(captions[::-1]),)


def _maaf(captions: Sequence[str]) -> tuple[str, ...]:
    return (" inadditiontothat ".join(captions),)


def _concat(captions: Sequence[str]) -> tuple[str, ...]:
    return ("".join(captions),)


Join = Literal["start_kit", "clip4cir", "searle", "pic2word", "maaf", "concat"]
# How published methods make one text of a record's two captions. It changes what the model reads,
# never the metric. "searle" (also LinCIR) gives two texts whose features are averaged. "concat"
# has no separator and cost one method about 20 points (SEIZE issue 2).
JOINS: dict[str, Callable[[Sequence[str]], tuple[str, ...]]] = {
    "start_kit": _start_kit,
    "clip4cir": _clip4cir,
    "searle": _searle,
    "pic2word": _pic2word,
    "maaf": _maaf,
    "concat": _concat,
}


def join(captions: Sequence[str], name: str) -> tuple[str, ...]:
    """The text (or texts) of a record; blank captions are left out, all blank give ("",)."""
    present = [c.strip() for c in captions if c.strip()]
    return JOINS[name](present) if present else ("",)


def read_split(path: Path) -> list[str]:
    """The image ids of a split file, in file order; no id twice."""
    ids = official.read_as(path, list, "the image ids of one category")
    official.elements(path, [[i] for i in ids], "image id", str)
    official.unique(path, ids, "image")
    return ids


def read_captions(path: Path, split: Sequence[str] | None = None) -> Captions:
    """A caption file.

    split: the image ids that may be named (see `read_split`); None skips that check.

    Raises:
        DataError: naming file, record, field, id and the number of further cases.
    """
    records = official.read_records(path, "the captions of one category")
    references = official.column(path, records, "candidate", str)
    targets = official.optional(path, records, "target", str, references)
    captions = official.column(path, records, "captions", list, references)
    official.elements(path, captions, "captions", str, references)
    if split is not None:
        known = set(split).__contains__
        where = "the split file"
        official.inside(path, [[r] for r in references], "candidate", known, where)
        official.inside(path, [[t] for t in targets or []], "target", known, where, references)
    return Captions(path, references, targets, captions)


def original_task(
    captions: Captions, split: Sequence[str], joined: str = "clip4cir"
) -> RetrievalTask:
    """The `original` protocol of one category: query ids are record numbers."""
    queries = []
    for i, reference in enumerate(captions.references):
        texts = join(captions.captions[i], joined)
        queries.append(
            Query(
                id=str(i),
                image=reference,
                text=texts[0],
                relevant=_target(captions, i),
                group=captions.category,
                meta={"texts": list(texts)} if len(texts) > 1 else {},
            )
        )
    return RetrievalTask(captions.category, tuple(queries), _images(split))


def val_task(captions: Captions) -> RetrievalTask:
    """The `VAL` protocol of one category: query ids are "record/caption"."""
    queries = [
        Query(
            id=f"{i}/{number}",
            image=reference,
            text=text.strip(),
            relevant=_target(captions, i),
            excluded=(reference,),
            group=captions.category,
        )
        for i, reference in enumerate(captions.references)
        for number, text in enumerate(captions.captions[i])
        if text.strip()
    ]
    gallery = sorted({*captions.references, *(captions.targets or [])})
    return RetrievalTask(captions.category, tuple(queries), _images(gallery))


def _target(captions: Captions, i: int) -> tuple[str, ...]:
    return (captions.targets[i],) if captions.targets is not None else ()


def _images(ids: Sequence[str]) -> tuple[Candidate, ...]:
    return tuple(Candidate(id=i, image=i) for i in ids)
