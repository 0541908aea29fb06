"""`openmoji-conditional`: similar in which respect? One right drawing in a small gallery.

As in GeneCIS (Vaze et al. 2023), each query is a reference and a condition, with a gallery of its
own: 10 drawings for `focus`, 15 for `change`.

focus: the condition is an attribute's name ("skin tone"). The target shares this attribute with the
reference and no other one; no distractor shares it. The hard distractors are like the reference in
everything else.

change: the condition is a new value ("with dark skin tone"). The target has it and is otherwise
like the reference. The hard distractors have the value and differ elsewhere, or are like the
reference and lack the value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, zip_longest
from typing import Literal

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.openmoji import phrases
from data_recipes.openmoji.base import OpenMojiRecipe, attributes
from data_recipes.openmoji.composed import Side, gallery
from data_recipes.openmoji.descriptions import of_images
from data_recipes.openmoji.names import ADULT, Drawing, split_of, stable_hash, turning
from data_recipes.openmoji.roles import mildly

TaskName = Literal["focus", "change"]
TASKS: tuple[TaskName, ...] = ("focus", "change")

# Condition -> how `focus` says it, and (train, test) queries; these are the few-shot units.
CONDITIONS: dict[str, tuple[str, tuple[int, int]]] = {
    "role": ("type of person", (30, 80)),
    "gender": ("woman or man", (30, 80)),
    "tone": ("skin tone", (30, 80)),
    "hair": ("hair", (10, 40)),
    "direction": ("facing left or right", (16, 40)),
}
SIZES: dict[TaskName, int] = {"focus": 10, "change": 15}
PER_REFERENCE = 2  # queries of one condition with the same reference


@dataclass(frozen=True)
class Choice:
    """One query; `gallery` is the target among its distractors, sorted by code."""

    id: str
    condition: str
    reference: Drawing
    target: Drawing
    gallery: tuple[Drawing, ...]
    text: str


# The attributes in which the drawings of a gallery differ: adults have hair, those who move a
# direction. A condition that is not hair or direction is asked of the others.
OTHERS, ADULTS, TURNING = (
    ("role", "gender", "tone"),
    ("gender", "hair", "tone"),
    ("role", "gender", "direction", "tone"),
)
_POOLS = {"hair": ADULTS, "direction": TURNING}


def compared(reference: Drawing) -> tuple[str, ...]:
    """The attributes in which drawings of the reference's pool differ."""
    if reference.role == ADULT:
        return ADULTS
    return TURNING if reference.role in turning() else OTHERS


@cache
def _pool(side: Side, compares: tuple[str, ...]) -> tuple[Drawing, ...]:
    """The side's drawings that are compared in these attributes."""
    return tuple(d for d in gallery(side) if compared(d) == compares)


def shared(first: Drawing, second: Drawing) -> frozenset[str]:
    """The attributes that two drawings of one pool have in common."""
    return frozenset(a for a in compared(first) if getattr(first, a) == getattr(second, a))


@cache
def choices(task: TaskName, side: Side) -> tuple[Choice, ...]:
    """The side's queries, by condition; references and targets are held out of pre-training."""
    found: list[Choice] = []
    for condition, (_, counts) in CONDITIONS.items():
        wanted = counts[0 if side == "train" else 1]
        used: Counter[str] = Counter()
        for reference, target in _pairs(task, side, condition):
            if sum(used.values()) < wanted and used[reference.code] < PER_REFERENCE:
                used[reference.code] += 1
                found.append(_choice(task, side, condition, reference, target))
    return tuple(found)


def _pairs(task: TaskName, side: Side, condition: str) -> list[tuple[Drawing, Drawing]]:
    """All (reference, target) of a condition, in the order in which they are taken."""
    compares = _POOLS.get(condition, OTHERS)
    pool = _pool(side, compares)
    others = frozenset(compares) - {condition}
    same = frozenset({condition}) if task == "focus" else others
    held_out = [d for d in pool if split_of(d) != "pretrain"]
    pairs = [(r, t) for r in held_out for t in held_out if r != t and shared(r, t) == same]
    return sorted(pairs, key=lambda pair: _hash(task, condition, pair[0].code, pair[1].code))


def _choice(
    task: TaskName, side: Side, condition: str, reference: Drawing, target: Drawing
) -> Choice:
    pool = sorted(
        (d for d in _pool(side, compared(reference)) if d not in (reference, target)),
        key=lambda d: _hash(reference.code, target.code, d.code),
    )
    if task == "focus":
        text, kinds = CONDITIONS[condition][0], _focus_kinds(condition, reference, pool)
    else:
        way = _hash("text", reference.code, target.code) % phrases.PLAIN_WAYS
        text = phrases.edit(target, [condition], way)
        kinds = _change_kinds(condition, reference, target, pool)
    # One of each kind in turn; where a kind has no more, the others fill the gallery.
    in_turn = (d for row in zip_longest(*kinds) for d in row if d is not None)
    distractors = islice(in_turn, SIZES[task] - 1)
    shown = tuple(sorted([target, *distractors], key=lambda d: d.code))
    return Choice(
        f"{condition}_{reference.code}_{target.code}", condition, reference, target, shown, text
    )


def _focus_kinds(
    condition: str, reference: Drawing, pool: list[Drawing]
) -> tuple[list[Drawing], ...]:
    """Distractors that share all, some, or none of the other attributes."""
    others = frozenset(compared(reference)) - {condition}
    wrong = [d for d in pool if condition not in shared(reference, d)]
    return (
        [d for d in wrong if shared(reference, d) == others],
        [d for d in wrong if shared(reference, d) and shared(reference, d) != others],
        [d for d in wrong if not shared(reference, d)],
    )


def _change_kinds(
    condition: str, reference: Drawing, target: Drawing, pool: list[Drawing]
) -> tuple[list[Drawing], ...]:
    """Distractors with the value; else like the reference; with one other difference; the rest."""
    others = frozenset(compared(reference)) - {condition}
    kinds: tuple[list[Drawing], ...] = ([], [], [], [])
    for d in pool:
        same = shared(reference, d)
        if getattr(d, condition) == getattr(target, condition):
            kinds[0].append(d)
        elif same == others:
            kinds[1].append(d)
        elif condition in same and len(same) == len(others):
            kinds[2].append(d)
        else:
            kinds[3].append(d)
    return kinds


def _hash(*parts: object) -> int:
    return stable_hash("conditional", *parts)


class OpenMojiConditional(OpenMojiRecipe):
    """Conditional similarity: the same reference has another answer under another condition."""

    name = "openmoji-conditional"
    summary = "OpenMoji people; a reference, a condition (focus or change) and a small gallery"

    def images(self) -> Iterator[RawImage]:
        """Every drawing of both sides, once, in the look of `openmoji-composed`."""
        return mildly([*gallery("train"), *gallery("test")], self.options)

    def tasks(self) -> list[Task]:
        """`focus` (the default) and `change`; the conditions are the few-shot units."""
        return [
            Task(
                name=task,
                kind="composed",
                protocol="conditional/1",
                train=_part(task, "train"),
                evaluate=(_part(task, "test"),),
            )
            for task in TASKS
        ]

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        """Of every image: its caption."""
        return of_images([*gallery("train"), *gallery("test")])


def _part(task: TaskName, side: Side) -> RetrievalTask:
    found = choices(task, side)
    queries = tuple(
        Query(
            id=choice.id,
            image=choice.reference.code,
            text=choice.text,
            relevant=(choice.target.code,),
            gallery=tuple(d.code for d in choice.gallery),
            group=choice.condition,
            meta={"reference": attributes(choice.reference)},
        )
        for choice in found
    )
    shown = {d.code: d for choice in found for d in choice.gallery}
    candidates = tuple(
        Candidate(id=code, image=code, meta=attributes(d)) for code, d in sorted(shown.items())
    )
    return RetrievalTask(side, queries, candidates)
