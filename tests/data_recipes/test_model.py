"""The data model: what a sound task is, and that every kind of unsound one is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_recipes.core.model import Candidate, Query, RetrievalTask

QUERY = Query(id="q1", image="i1", relevant=("a",))
GALLERY = (
    Candidate(id="a", image="i1"),
    Candidate(id="b", image="i2"),
    Candidate(id="c", text="x"),
)
SOUND = RetrievalTask("part", (QUERY, replace(QUERY, id="q2", text="bluer")), GALLERY)


def with_query(**changes: object) -> RetrievalTask:
    return replace(SOUND, queries=(replace(QUERY, **changes),))  # type: ignore[arg-type]


def test_a_sound_task_has_no_problem() -> None:
    assert SOUND.problems() == []
    assert SOUND.problems({"i1", "i2"}) == []


@pytest.mark.parametrize("field", ["relevant", "excluded", "subset", "gallery"])
def test_a_name_that_is_no_candidate_is_reported(field: str) -> None:
    (line,) = with_query(**{"relevant": (), field: ("a", "nowhere", "lost")}).problems()
    assert line == (
        f"query 'q1': {field} names 'nowhere', which is no candidate (and 1 more like it)"
    )


@pytest.mark.parametrize("field", ["relevant", "excluded", "subset", "gallery"])
def test_a_candidate_named_twice_is_reported(field: str) -> None:
    (line,) = with_query(**{"relevant": (), field: ("b", "b")}).problems()
    assert line == f"query 'q1': {field} names a candidate twice"


def test_an_excluded_relevant_candidate_is_reported() -> None:
    (line,) = with_query(excluded=("a",)).problems()
    assert line == "query 'q1': a relevant candidate is excluded"


def test_credits_that_do_not_fit_are_reported() -> None:
    assert with_query(credit=(0.5,)).problems() == []
    assert with_query(credit=(0.5, 1.0)).problems() == [
        "query 'q1': 2 credits for 1 relevant candidates"
    ]
    assert with_query(credit=(1.5,)).problems() == ["query 'q1': a credit is not in [0, 1]"]


def test_a_query_without_image_and_text_is_reported() -> None:
    (line,) = with_query(image=None).problems()
    assert line == "query 'q1' has neither image nor text"


def test_a_candidate_has_either_an_image_or_a_text() -> None:
    both = Candidate(id="d", image="i1", text="x")
    neither = Candidate(id="e")
    lines = replace(SOUND, candidates=(*GALLERY, both, neither)).problems()
    assert lines == [
        "candidate 'd' needs an image or a text, not both",
        "candidate 'e' needs an image or a text, not both",
    ]


def test_all_queries_or_none_have_a_subset() -> None:
    """The engine ranks subsets of a whole task; a part of them would be counted as misses."""
    one, two = SOUND.queries
    mixed = replace(SOUND, queries=(one, replace(two, subset=("a", "b"))))
    assert mixed.problems() == ["some queries have a subset and others have none"]
    both = replace(SOUND, queries=tuple(replace(q, subset=("a",)) for q in SOUND.queries))
    assert both.problems() == []


def test_ids_that_occur_twice_are_reported() -> None:
    lines = RetrievalTask("p", (QUERY, QUERY), (*GALLERY, *GALLERY)).problems()
    assert "query id 'q1' occurs more than once" in lines
    assert "candidate id 'a' occurs more than once (and 2 more like it)" in lines


def test_empty_tasks_are_reported() -> None:
    assert RetrievalTask("p", (), ()).problems() == ["there is no query", "there is no candidate"]


def test_images_that_are_not_in_the_shards_are_reported() -> None:
    assert SOUND.problems({"i2"}) == ["image 'i1' is not in the shards"]
    assert SOUND.problems(set()) == ["image 'i1' is not in the shards (and 1 more like it)"]


def test_every_problem_is_reported_at_once() -> None:
    task = RetrievalTask(
        "p", (Query(id="q"), replace(QUERY, relevant=("z",), excluded=("z",))), GALLERY
    )
    assert len(task.problems(set())) == 5


def test_image_ids_come_once_each_in_order_of_first_use() -> None:
    assert SOUND.image_ids() == ["i1", "i2"]


def test_positions_are_candidate_rows() -> None:
    assert SOUND.position == {"a": 0, "b": 1, "c": 2}
