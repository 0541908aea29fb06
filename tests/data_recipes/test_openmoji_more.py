"""The OpenMoji sets of other protocols: several targets, own galleries, renderings, halves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from data_recipes.core.model import Query, RetrievalTask
from data_recipes.openmoji import (
    OpenMojiBaseNew,
    OpenMojiConditional,
    OpenMojiMulti,
    OpenMojiRoles,
    OpenMojiRolesGrey,
    OpenMojiRolesLines,
    OpenMojiRolesPlain,
    OpenMojiRolesShifted,
    OpenMojiSource,
)
from data_recipes.openmoji.names import ATTRIBUTES, people, split_of
from data_recipes.openmoji.roles import pictures

Values = dict[str, Any]
KNOWN: dict[str, Values] = {d.code: {a: getattr(d, a) for a in ATTRIBUTES} for d in people()}
(MULTI,) = OpenMojiMulti().tasks()
FOCUS, CHANGE = OpenMojiConditional().tasks()


def both(task: Any) -> list[RetrievalTask]:
    return [task.training(), *task.evaluate]


@pytest.mark.parametrize("part", both(MULTI), ids=["train", "test"])
def test_every_right_answer_of_multi_follows_from_the_attributes(part: RetrievalTask) -> None:
    """Computed anew: changed attributes as said, open ones any, the rest as in the reference."""
    gallery = [c.id for c in part.candidates]
    for query in part.queries:
        wanted = {**KNOWN[str(query.image)], **query.meta["changes"]}
        fixed = [a for a in ATTRIBUTES if a not in query.meta["open"]]
        right = {code for code in gallery if all(KNOWN[code][a] == wanted[a] for a in fixed)}
        assert set(query.relevant) == right
        assert query.credit == (1.0, *[0.0] * (len(right) - 1))
        assert query.image in gallery and query.image not in right and not query.excluded
        assert 1 <= len(right) <= 14


def test_the_number_of_targets_varies_as_in_circo() -> None:
    sizes = Counter(len(q.relevant) for q in MULTI.evaluate[0].queries)
    assert min(sizes) == 1 and max(sizes) >= 8 and len(sizes) >= 6
    assert sum(size * count for size, count in sizes.items()) / sum(sizes.values()) > 2


def ambiguous(query: Query, part: RetrievalTask, known: set[str]) -> int:
    """How many drawings fit when only `known` attributes of a right answer are known."""
    target = KNOWN[query.relevant[0]]
    gallery = query.gallery or [c.id for c in part.candidates]
    return sum(all(KNOWN[c][a] == target[a] for a in known) for c in gallery)


def test_neither_the_image_nor_the_text_alone_answers_multi() -> None:
    """What the text says fits many wrong drawings, and so does what stays of the reference."""
    (part,) = MULTI.evaluate
    by_text, by_image = [], []
    for query in part.queries:
        said = set(query.meta["changes"])
        kept = set(ATTRIBUTES) - said - set(query.meta["open"])
        by_text.append(len(query.relevant) / ambiguous(query, part, said))
        by_image.append(len(query.relevant) / ambiguous(query, part, kept))
    assert sum(by_text) / len(by_text) < 0.35  # chance of a hit that knows one side exactly
    assert sum(by_image) / len(by_image) < 0.5


@pytest.mark.parametrize("part", both(FOCUS), ids=["train", "test"])
def test_focus_has_one_answer_that_shares_the_condition_alone(part: RetrievalTask) -> None:
    for query in part.queries:
        reference, condition = KNOWN[str(query.image)], query.group
        assert query.gallery is not None and len(query.gallery) == 10
        sharing = [c for c in query.gallery if KNOWN[c][condition] == reference[condition]]
        assert sharing == list(query.relevant)
        assert query.image not in query.gallery


@pytest.mark.parametrize("part", both(CHANGE), ids=["train", "test"])
def test_change_has_one_answer_that_differs_in_the_condition_alone(part: RetrievalTask) -> None:
    for query in part.queries:
        (target,) = query.relevant
        reference, condition = KNOWN[str(query.image)], query.group
        wanted = {**reference, condition: KNOWN[target][condition]}
        assert query.gallery is not None and len(query.gallery) == 15
        assert [c for c in query.gallery if KNOWN[c] == wanted] == [target]
        assert reference[condition] != wanted[condition]
        assert query.image not in query.gallery
        same_value = [c for c in query.gallery if KNOWN[c][condition] == wanted[condition]]
        assert len(same_value) > 1  # so that the text alone leaves a choice


@pytest.mark.parametrize("task", [MULTI, FOCUS, CHANGE], ids=lambda task: str(task.name))
def test_the_sides_share_no_drawing_and_queries_are_held_out(task: Any) -> None:
    train, test = ({c.id for c in part.candidates} for part in both(task))
    assert not train & test
    held_out = {d.code for d in people() if split_of(d) != "pretrain"}
    for part in both(task):
        assert {q.image for q in part.queries} <= held_out
        assert {q.relevant[0] for q in part.queries} <= held_out
        assert min(Counter(q.group for q in part.queries).values()) >= 8
        assert part.problems() == []


RENDERINGS = (OpenMojiRolesShifted, OpenMojiRolesGrey, OpenMojiRolesLines)


@pytest.mark.parametrize("kind", RENDERINGS)
def test_renderings_have_the_same_classes_and_queries(kind: type[OpenMojiRolesPlain]) -> None:
    (plain,), (other,) = OpenMojiRolesPlain().tasks(), kind().tasks()
    assert other.train is None and plain.train is not None
    assert other.class_names == plain.class_names and len(other.class_names) == 138
    (mine,), (theirs,) = other.evaluate, plain.evaluate
    assert mine.candidates == theirs.candidates
    assert [(q.id, q.relevant) for q in mine.queries] == [
        (q.id, q.relevant) for q in theirs.queries
    ]
    first, again = next(kind().images()), next(kind().images())
    assert first == again
    test_image = next(i for i in OpenMojiRolesPlain().images() if i.id == first.id)
    assert first.data != test_image.data


def test_the_shifted_rendering_is_the_test_split_of_roles() -> None:
    shifted = next(OpenMojiRolesShifted().images())
    assert shifted == next(i for i in OpenMojiRoles().images() if i.id == shifted.id)


def test_base_and_new_classes_are_disjoint_halves() -> None:
    (task,) = OpenMojiBaseNew().tasks()
    base, new = ([c.text for c in part.candidates] for part in task.evaluate)
    assert len(base) == len(new) == 69 and not set(base) & set(new)
    assert [*base, *new] == [c.text for c in OpenMojiRoles().tasks()[0].training().candidates]
    assert task.class_names == tuple(base)
    assert {q.group for q in task.training().queries} == set(base)
    stored = {image.id for image in OpenMojiBaseNew().images()}
    assert stored == {i for part in task.parts() for i in part.image_ids()}


def test_the_source_shows_nothing_that_is_evaluated() -> None:
    (task,) = OpenMojiSource().tasks()
    evaluated = {p.drawing.code for p in pictures(0)} | set(KNOWN)
    shown = {q.group for part in (task.training(), task.evaluate[0]) for q in part.queries}
    assert not shown & evaluated
    assert not {q.group for q in task.training().queries} & {
        q.group for q in task.evaluate[0].queries
    }
