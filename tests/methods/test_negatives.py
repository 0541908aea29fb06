"""Negative captions: what changes, what stays, and that none equals its caption or another."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.core.registry import recipes
from methods.core.negatives import (
    ATTRIBUTES,
    alterations,
    names_class,
    nearest,
    negatives,
    swaps,
)

RIVALS = ("firefighter", "person kneeling", "artist", "OK hand")


@pytest.mark.parametrize(
    ("caption", "name", "expected"),
    [
        ("a photo of a bee", "bee", "a photo of an artist"),
        ("an ear and a bee", "bee", "an ear and an artist"),
        ("three bees on a leaf", "bee", "three artists on a leaf"),
        ("a farmer with dark skin tone", "farmer", "an artist with dark skin tone"),
        ("a woman farmer at work", "farmer", "a woman artist at work"),
        ("a man kneeling facing right", "person kneeling", "a man artist facing right"),
        ("a person kneeling", "person kneeling", "an artist"),
        ("many Moth-Orchids", "moth orchid", "many artists"),
        ("the pin cushion flower", "pin-cushion flower", "the artist"),
        ("a mermaid with light skin tone", "merperson", "an artist with light skin tone"),
        ("strawberries", "strawberry", "artists"),
        ("a bee beside an old bee, two bees", "bee", "an artist beside an old artist, two artists"),
    ],
)
def test_the_class_is_found_and_replaced(caption: str, name: str, expected: str) -> None:
    assert names_class(caption, name)
    assert swaps(caption, name, ["artist"]) == [expected]


@pytest.mark.parametrize(
    ("caption", "name"),
    [("a beetle", "bee"), ("a forest", "rest"), ("an empty room", "bee"), ("anything", "")],
)
def test_a_class_inside_another_word_or_unsaid_is_not_found(caption: str, name: str) -> None:
    assert not names_class(caption, name) and swaps(caption, name, ["artist"]) == []


def test_who_does_it_is_kept() -> None:
    assert swaps("a man farmer", "farmer", ["person kneeling"]) == ["a man kneeling"]
    assert swaps("men wrestling", "people wrestling", ["person in bed"]) == ["men in bed"]
    assert swaps("a farmer", "farmer", ["person kneeling"]) == ["a person kneeling"]


def test_one_attribute_changes_and_class_words_stay() -> None:
    found = alterations("a red admiral on two red petals", "red_admiral".replace("_", " "))
    assert "a red admiral on three red petals" in found
    assert "a red admiral on two red leaves" in found
    assert all(text.startswith("a red admiral on ") for text in found)
    assert not any("blue" in text for text in found)  # "red" is a word of the class
    skin = alterations("a cook with medium-light skin tone", "cook")
    assert "a cook with dark skin tone" in skin and len(skin) == 5
    assert alterations("a photo of a cook", "cook") == []
    assert "an orange cat" in alterations("a blue cat", "cat")
    assert "a blue cat" in alterations("an orange cat", "cat")
    assert not any("grey" in text for text in alterations("a gray cat", "cat"))


def test_no_word_is_of_two_kinds() -> None:
    words = [word for group in ATTRIBUTES.values() for word in group]
    assert len(set(words)) == len(words) and all(word == word.lower() for word in words)


def test_the_other_kind_fills_up() -> None:
    both = negatives("a red cook", "cook", RIVALS, 2, 2)
    assert [one.same_class for one in both] == [False, False, True, True]
    no_class = negatives("a red thing", "cook", RIVALS, 2, 2)
    assert [one.same_class for one in no_class] == [True] * 4
    no_attribute = negatives("a cook", "cook", RIVALS, 2, 2)
    assert [one.same_class for one in no_attribute] == [False] * 4
    assert len(negatives("a cook", "cook", RIVALS[:1], 2, 2)) == 1
    assert negatives("a thing", "cook", RIVALS, 2, 2) == ()


def test_another_draw_draws_others_and_the_same_the_same() -> None:
    drawn = {negatives("a red cook with two cats", "cook", RIVALS, 2, 2, n) for n in range(8)}
    assert len(drawn) > 4
    again = negatives("a red cook with two cats", "cook", RIVALS, 2, 2, 3)
    assert again == negatives("a red cook with two cats", "cook", RIVALS, 2, 2, 3)
    texts = [one.text for one in negatives("a red cook with two cats", "cook", RIVALS, 2, 2)]
    assert texts == [
        one.text for one in negatives("a red cook with two cats", "cook", RIVALS[::-1], 2, 2)
    ]


WORDS = ["a", "red", "blue", "man", "woman", "two", "cook", "cooks", "light skin tone", "left", "x"]
NAMES = ["cook", "person cook", "red cook", "x", ""]


@given(
    st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from([*RIVALS, "cook", "Red Cook", "x"]), max_size=6),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_never_the_caption_never_twice_never_too_many(
    caption: str, name: str, rivals: list[str], swapped: int, altered: int, draw: int
) -> None:
    found = negatives(caption, name, rivals, swapped, altered, draw)
    plain = [re.sub(r"\s+", " ", one.text.lower()).strip() for one in found]
    assert len(found) <= swapped + altered and len(set(plain)) == len(plain)
    assert re.sub(r"\s+", " ", caption.lower()).strip() not in plain
    possible = set(swaps(caption, name, rivals)) | set(alterations(caption, name))
    assert {one.text for one in found} <= possible


def test_nearest_is_the_sorted_order_without_oneself() -> None:
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(1500, 8), dim=-1)
    found = nearest(features, 3)
    for row in (0, 1023, 1024, 1499):
        order = (features @ features[row]).argsort(descending=True).tolist()
        order.remove(row)
        assert found[row] == order[:3]
    assert nearest(features[:2], 10) == [[1], [0]]


def test_every_openmoji_caption_names_its_class_or_has_attributes() -> None:
    """Both kinds can be made for nearly all of the training captions of openmoji-roles."""
    task = recipes()["openmoji-roles"]().tasks()[1]
    assert task.train is not None
    candidates = {c.id: c.text or "" for c in task.train.candidates}
    pairs = {(candidates[q.relevant[0]], q.group) for q in task.train.queries}
    unnamed = {caption for caption, group in pairs if not names_class(caption, group)}
    assert {re.sub(" with .*", "", text) for text in unnamed} <= {"a prince", "princess"}
    plain = {caption for caption, group in pairs if not alterations(caption, group)}
    assert plain == set()
