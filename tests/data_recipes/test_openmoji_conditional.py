"""Conditions: one right drawing in each gallery, recomputed from the attributes."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from data_recipes.core.model import Query, RetrievalTask
from data_recipes.core.protocol import protocol
from data_recipes.openmoji import OpenMojiConditional
from data_recipes.openmoji.conditional import CONDITIONS, SIZES, choices
from data_recipes.openmoji.names import ADULT, Drawing, people, split_of, turning

TASKS = {task.name: task for task in OpenMojiConditional().tasks()}
PARTS = {f"{t.name}-{p.name}": p for t in TASKS.values() for p in t.parts()}
DRAWINGS = {d.code: d for d in people()}


def compared(drawing: Drawing) -> list[str]:
    """What tells the drawings of a gallery apart, written out anew."""
    if drawing.role == ADULT:
        return ["gender", "tone", "hair"]
    return ["gender", "tone", "role"] + (["direction"] if drawing.role in turning() else [])


def seen(query: Query) -> tuple[Drawing, Drawing, list[Drawing]]:
    """(reference, target, distractors)."""
    assert query.image is not None and query.gallery is not None
    wrong = [DRAWINGS[i] for i in query.gallery if i not in query.relevant]
    return DRAWINGS[query.image], DRAWINGS[query.relevant[0]], wrong


@pytest.mark.parametrize("side", ["train", "test"])
def test_focus_only_the_target_shares_the_condition_and_it_shares_nothing_else(side: str) -> None:
    for query in PARTS[f"focus-{side}"].queries:
        reference, target, wrong = seen(query)
        same = {a for a in compared(reference) if getattr(reference, a) == getattr(target, a)}
        assert same == {query.group}
        value = getattr(reference, query.group)
        assert all(getattr(d, query.group) != value for d in wrong)
        assert query.text == CONDITIONS[query.group][0]


@pytest.mark.parametrize("side", ["train", "test"])
def test_change_only_the_target_has_the_value_and_is_otherwise_the_reference(side: str) -> None:
    for query in PARTS[f"change-{side}"].queries:
        reference, target, wrong = seen(query)
        others = [a for a in compared(reference) if a != query.group]
        assert getattr(target, query.group) != getattr(reference, query.group)
        assert all(getattr(target, a) == getattr(reference, a) for a in others)
        asked = [*others, query.group]
        assert all(
            any(getattr(d, a) != getattr(target, a) for a in asked) for d in [*wrong, reference]
        )


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_galleries_have_one_size_one_pool_and_not_the_reference(part: RetrievalTask) -> None:
    assert part.problems() == []
    size = SIZES["focus" if part is PARTS[f"focus-{part.name}"] else "change"]
    for query in part.queries:
        reference, target, wrong = seen(query)
        assert query.gallery is not None and len(query.gallery) == size
        assert reference not in wrong and reference != target
        assert list(query.gallery) == sorted(query.gallery)  # the target has no place of its own
        assert {tuple(compared(d)) for d in [target, *wrong]} == {tuple(compared(reference))}
        assert "pretrain" not in {split_of(reference), split_of(target)}
        assert (reference.role == ADULT) == (query.group == "hair")
        assert (reference.role in turning()) == (query.group == "direction")


@pytest.mark.parametrize("side", ["train", "test"])
def test_hard_distractors_mislead_an_image_only_and_a_text_only_ranking(side: str) -> None:
    """Ranked by shared attributes, as a perfect image tower would; by the named value, as a text.

    In `focus` some distractor is nearer to the reference than the target, always; the text is equal
    for all queries of a condition. In `change` at least three distractors have the named value, and
    some distractor is as near to the reference as the target.
    """
    for query in PARTS[f"focus-{side}"].queries:
        reference, _, wrong = seen(query)
        near = max(sum(getattr(reference, a) == getattr(d, a) for a in compared(d)) for d in wrong)
        assert near > 1
    for query in PARTS[f"change-{side}"].queries:
        reference, target, wrong = seen(query)
        value = getattr(target, query.group)
        assert sum(getattr(d, query.group) == value for d in wrong) >= 3
        near = max(sum(getattr(reference, a) == getattr(d, a) for a in compared(d)) for d in wrong)
        assert near == len(compared(reference)) - 1


@pytest.mark.parametrize(("name", "place"), list(product(TASKS, [0, 1])))
def test_every_condition_is_there_as_often_as_planned(name: str, place: int) -> None:
    planned = {condition: counts[place] for condition, (_, counts) in CONDITIONS.items()}
    assert Counter(q.group for q in TASKS[name].parts()[place].queries) == planned
    assert min(planned.values()) >= 8


@pytest.mark.parametrize("name", TASKS)
def test_the_sides_share_no_role_and_no_drawing(name: str) -> None:
    train, test = ({c.id for c in PARTS[f"{name}-{side}"].candidates} for side in ("train", "test"))
    assert not train & test
    roles = [{(DRAWINGS[i].role, DRAWINGS[i].hair) for i in side} for side in (train, test)]
    assert not roles[0] & roles[1]


def test_the_same_reference_has_another_answer_under_another_condition() -> None:
    answers: dict[str, dict[str, set[str]]] = {}
    for query in PARTS["focus-test"].queries:
        answers.setdefault(str(query.image), {}).setdefault(query.group, set()).update(
            query.relevant
        )
    several = [by for by in answers.values() if len(by) > 1]
    assert len(several) > 20
    assert all(len(set.union(*by.values())) > 1 for by in several)


def test_ties_go_against_the_target_unlike_genecis() -> None:
    assert protocol("conditional/1").target_first_ties == 0.0
    assert {task.protocol for task in TASKS.values()} == {"conditional/1"}


def test_the_specification_is_the_same_each_time() -> None:
    before = OpenMojiConditional().tasks()
    choices.cache_clear()
    assert OpenMojiConditional().tasks() == before
