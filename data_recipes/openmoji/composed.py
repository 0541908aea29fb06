"""`openmoji-composed`: a reference, a text that changes it, one exact target.

An edit names the new value of one or two attributes; the target is the one drawing that has them
and is otherwise like the reference. Pairs of attributes are the rule: then drawings with only one
of them changed are in the gallery too, and neither the image nor the text alone finds the target.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.openmoji import phrases
from data_recipes.openmoji.base import OpenMojiRecipe, attributes
from data_recipes.openmoji.descriptions import of_images
from data_recipes.openmoji.names import (
    ADULT,
    ATTRIBUTES,
    Drawing,
    people,
    split_of,
    stable_hash,
    turning,
)
from data_recipes.openmoji.roles import mildly

Side = Literal["train", "test"]

# Kind of edit -> (train triplets, test queries); the kinds are the few-shot units. Texts that name
# a role nearly name the target, so edits that keep the role are the majority.
KINDS: dict[str, tuple[int, int]] = {
    "tone": (60, 150),
    "gender": (60, 100),
    "role": (60, 90),
    "gender+tone": (100, 400),
    "role+tone": (60, 40),
    "role+gender": (60, 60),
    "hair+tone": (40, 50),
    "direction+tone": (60, 100),
}
# No more queries than this of one kind share a reference.
PER_REFERENCE = 3


@dataclass(frozen=True)
class Edit:
    """One composed query. `changes` are the (attribute, new value) pairs that `text` says."""

    id: str
    kind: str
    reference: Drawing
    target: Drawing
    changes: tuple[tuple[str, str | None], ...]
    text: str


def apply(drawing: Drawing, changes: tuple[tuple[str, str | None], ...]) -> tuple[str | None, ...]:
    """The drawing's attributes (in the order of ATTRIBUTES) with `changes` made."""
    new = dict(changes)
    return tuple(new.get(name, getattr(drawing, name)) for name in ATTRIBUTES)


@cache
def sides() -> dict[tuple[str, str | None], Side]:
    """(role, hair) -> the side of the split it is on: a third is for training.

    Only roles of one woman, man or person take part. Turning roles and adults' hair are divided
    apart from the rest, so that every kind of edit exists on both sides.
    """
    genders: dict[str, set[str]] = defaultdict(set)
    for d in people():
        if d.gender and d.role not in phrases.PAIRS and not d.role.startswith("people "):
            genders[d.role].add(d.gender)
    strata: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
    for d in people():
        if len(genders[d.role]) == 3 and d.gender:
            stratum = "hair" if d.role == ADULT else "turning" if d.role in turning() else "plain"
            strata[stratum].add((d.role, d.hair))
    found: dict[tuple[str, str | None], Side] = {}
    for units in strata.values():
        order = sorted(units, key=lambda unit: stable_hash("side", unit))
        for place, unit in enumerate(order):
            found[unit] = "train" if place < round(len(order) / 3) else "test"
    return found


@cache
def gallery(side: Side) -> tuple[Drawing, ...]:
    """All variants of the side's roles, pre-trained on or not: the distractors are hard."""
    return tuple(d for d in people() if d.gender and sides().get((d.role, d.hair)) == side)


@cache
def edits(side: Side) -> tuple[Edit, ...]:
    """The side's queries, by kind; references and targets are drawings held out of pre-training."""
    held_out = [d for d in gallery(side) if split_of(d) != "pretrain"]
    pairs: dict[str, list[tuple[Drawing, Drawing]]] = defaultdict(list)
    for reference in held_out:
        for target in held_out:
            kind = "+".join(
                name for name in ATTRIBUTES if getattr(reference, name) != getattr(target, name)
            )
            # A role and a gender together are said by one noun, and "mechanic" says no gender.
            unsaid = kind == "role+gender" and target.gender == "person"
            if kind in KINDS and not unsaid:
                pairs[kind].append((reference, target))
    found: list[Edit] = []
    for kind, counts in KINDS.items():
        wanted = counts[0 if side == "train" else 1]
        used: Counter[str] = Counter()
        order = sorted(
            pairs[kind], key=lambda pair: stable_hash("edit", pair[0].code, pair[1].code)
        )
        for reference, target in order:
            if sum(used.values()) < wanted and used[reference.code] < PER_REFERENCE:
                used[reference.code] += 1
                found.append(_edit(kind, reference, target))
    return tuple(found)


def _edit(kind: str, reference: Drawing, target: Drawing) -> Edit:
    changed = kind.split("+")
    return Edit(
        id=f"{reference.code}_{target.code}",
        kind=kind,
        reference=reference,
        target=target,
        changes=tuple((name, getattr(target, name)) for name in changed),
        text=phrases.edit(target, changed, stable_hash("text", reference.code, target.code)),
    )


class OpenMojiComposed(OpenMojiRecipe):
    """Composed image retrieval with exact targets: a reference and the attributes to change."""

    name = "openmoji-composed"
    summary = "OpenMoji people; a reference and a change of tone, gender, role, hair or direction"

    def images(self) -> Iterator[RawImage]:
        """Every drawing of both galleries, once."""
        return mildly([*gallery("train"), *gallery("test")], self.options)

    def tasks(self) -> list[Task]:
        """One task; the edits' kinds are the few-shot units."""
        return [
            Task(
                name="composed",
                kind="composed",
                protocol="composed/1",
                train=_composed_part("train"),
                evaluate=(_composed_part("test"),),
            )
        ]

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Of every image: its caption."""
        return of_images([*gallery("train"), *gallery("test")])


def _composed_part(side: Side) -> RetrievalTask:
    queries = tuple(
        Query(
            id=edit.id,
            image=edit.reference.code,
            text=edit.text,
            relevant=(edit.target.code,),
            excluded=(edit.reference.code,),
            group=edit.kind,
            meta={"changes": dict(edit.changes), "reference": attributes(edit.reference)},
        )
        for edit in edits(side)
    )
    candidates = tuple(
        Candidate(id=d.code, image=d.code, meta=attributes(d)) for d in gallery(side)
    )
    return RetrievalTask(side, queries, candidates)
