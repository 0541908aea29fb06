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
from pathlib import Path

from data_recipes.core import official
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask

VERSION = "rc2"


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
