"""`openmoji-multi`: a reference and a text that leaves attributes open, so that several are right.

As in CIRCO (Baldrati et al. 2023), all right drawings are known, one of them is the annotated
target, and the gallery is the same for all queries and holds the reference. A text gives new values
to some attributes (`changed`) and frees others (`open`); all the rest stays as in the reference.
Something always stays, so neither the image nor the text alone says what is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.openmoji import composed, phrases
from data_recipes.openmoji.base import OpenMojiRecipe, attributes
from data_recipes.openmoji.composed import Side
from data_recipes.openmoji.descriptions import of_images
from data_recipes.openmoji.names import ATTRIBUTES, Drawing, split_of, stable_hash, turning
from data_recipes.openmoji.roles import mildly

# (changed, open) -> (train, test) queries; the pairs are the few-shot units. Texts that name a role
# say most of the answer, so they are few.
KINDS: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, int]] = {
    (("gender",), ("tone",)): (20, 45),
    (("tone",), ("gender",)): (20, 45),
    (("role",), ("tone",)): (12, 20),
    (("role",), ("gender",)): (12, 20),
    (("hair",), ("tone",)): (8, 20),
    (("direction",), ("tone",)): (12, 25),
    (("direction",), ("gender", "tone")): (12, 25),
    (("tone",), ("gender", "direction")): (12, 25),
    (("gender", "direction"), ("tone",)): (12, 25),
}
# Tenths of the drawings that are not in the gallery, so that the number of right ones varies.
LEFT_OUT = 3
MOST_TARGETS = 14  # as in CIRCO
PER_REFERENCE = 2  # queries of one kind with the same reference

_OPEN_WAYS = {
    "direction": ("facing left or right",),
    "tone": ("any skin tone", "with any skin tone", "in any skin tone"),
    "gender": ("any gender", "of any gender", "woman or man or person"),
}


@dataclass(frozen=True)
class Question:
    """One query; `targets` are all right drawings, the first one is the annotated target."""

    id: str
    changed: tuple[str, ...]
    open: tuple[str, ...]
    reference: Drawing
    targets: tuple[Drawing, ...]
    text: str

    @property
    def kind(self) -> str:
        """`gender, any tone`: the few-shot unit."""
        return f"{'+'.join(self.changed)}, any {'+'.join(self.open)}"


@cache
def gallery(side: Side) -> tuple[Drawing, ...]:
    """About seven in ten drawings of the gallery of `openmoji-composed`, chosen by a hash."""
    return tuple(d for d in composed.gallery(side) if stable_hash("multi", d.code) % 10 >= LEFT_OUT)


@cache
def questions(side: Side) -> tuple[Question, ...]:
    """The side's queries, by kind; references and annotated targets are held out drawings."""
    held_out = [d for d in gallery(side) if split_of(d) != "pretrain"]
    pairs = sorted(
        ((r, t) for r in held_out for t in held_out if r != t),
        key=lambda pair: stable_hash("multi", pair[0].code, pair[1].code),
    )
    found: list[Question] = []
    for (changed, free), counts in KINDS.items():
        wanted = counts[0 if side == "train" else 1]
        used: Counter[str] = Counter()
        asked: set[tuple[str, tuple[str | None, ...]]] = set()
        for reference, target in pairs:
            said = tuple(getattr(target, name) for name in changed)
            if (
                sum(used.values()) == wanted
                or used[reference.code] == PER_REFERENCE
                or (reference.code, said) in asked
                or not _fits(reference, target, changed, free)
            ):
                continue
            right = _right(side, reference, target, changed, free)
            if len(right) <= MOST_TARGETS:
                used[reference.code] += 1
                asked.add((reference.code, said))
                found.append(_question(reference, target, right, changed, free))
    return tuple(found)


def _fits(
    reference: Drawing, target: Drawing, changed: tuple[str, ...], free: tuple[str, ...]
) -> bool:
    """Whether the target differs in all of `changed`, and else in nothing but `free`."""
    turns = reference.role in turning()
    return all(
        (getattr(reference, name) != getattr(target, name)) == (name in changed)
        for name in ATTRIBUTES
        if name not in free
    ) and (turns or "direction" not in free)


def _right(
    side: Side,
    reference: Drawing,
    target: Drawing,
    changed: tuple[str, ...],
    free: tuple[str, ...],
) -> tuple[Drawing, ...]:
    wanted = {
        name: getattr(target if name in changed else reference, name)
        for name in ATTRIBUTES
        if name not in free
    }
    return tuple(
        d for d in gallery(side) if all(getattr(d, name) == v for name, v in wanted.items())
    )


def _question(
    reference: Drawing,
    target: Drawing,
    right: tuple[Drawing, ...],
    changed: tuple[str, ...],
    free: tuple[str, ...],
) -> Question:
    way = stable_hash("multi text", reference.code, target.code)
    said = [phrases.edit(target, changed, way % phrases.PLAIN_WAYS)]
    said += [
        ways[way // phrases.PLAIN_WAYS % len(ways)]
        for name, ways in _OPEN_WAYS.items()
        if name in free
    ]
    others = tuple(d for d in right if d != target)
    return Question(
        f"{reference.code}_{target.code}_{'-'.join(free)}",
        changed,
        free,
        reference,
        (target, *others),
        ", ".join(said),
    )


class OpenMojiMulti(OpenMojiRecipe):
    """Composed image retrieval with several right drawings, all of them known."""

    name = "openmoji-multi"
    summary = "OpenMoji people; a reference and a text that leaves attributes open: 1 to 14 targets"

    def images(self) -> Iterator[RawImage]:
        """Every drawing of both galleries, once, in the look of `openmoji-composed`."""
        return mildly([*gallery("train"), *gallery("test")], self.options)

    def tasks(self) -> list[Task]:
        """One task; what is changed and what is left open are the few-shot units."""
        return [
            Task(
                name="multi",
                kind="composed",
                protocol="composed-multi/1",
                train=_part("train"),
                evaluate=(_part("test"),),
            )
        ]

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Of every image: its caption."""
        return of_images([*gallery("train"), *gallery("test")])


def _part(side: Side) -> RetrievalTask:
    queries = tuple(
        Query(
            id=q.id,
            image=q.reference.code,
            text=q.text,
            relevant=tuple(d.code for d in q.targets),
            credit=tuple(float(place == 0) for place in range(len(q.targets))),
            group=q.kind,
            meta={
                "changes": {name: getattr(q.targets[0], name) for name in q.changed},
                "open": list(q.open),
                "reference": attributes(q.reference),
                "semantic_aspects": aspects(q),
            },
        )
        for q in questions(side)
    )
    candidates = tuple(
        Candidate(id=d.code, image=d.code, meta=attributes(d)) for d in gallery(side)
    )
    return RetrievalTask(side, queries, candidates)


def aspects(question: Question) -> list[str]:
    """Those of CIRCO's nine semantic aspects that a question has, by their names there."""
    found = []
    if len(question.changed) > 1:
        found.append("statement_with_conjunction")
    if "direction" in question.changed:
        found.append("viewpoint")
    return found
