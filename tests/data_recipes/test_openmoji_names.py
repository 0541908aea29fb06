"""The names of the world: roles, attributes, captions and the split."""

from collections import Counter, defaultdict

import pytest

from data_recipes.openmoji import phrases
from data_recipes.openmoji.names import (
    GENDERS,
    TONES,
    Drawing,
    drawings,
    people,
    roles,
    split_of,
    stable_hash,
)


def by_name(name: str) -> Drawing:
    return next(d for d in drawings() if d.name == name)


@pytest.mark.parametrize(
    ("name", "role", "gender", "tone", "direction", "hair", "kind"),
    [
        ("woman farmer dark skin tone", "farmer", "woman", "dark", None, None, "role"),
        ("farmer", "farmer", "person", None, None, None, "role"),
        (
            "man golfing medium-light skin tone",
            "person golfing",
            "man",
            "medium-light",
            None,
            None,
            "role",
        ),
        (
            "person running facing right",
            "person running",
            "person",
            None,
            "facing right",
            None,
            "role",
        ),
        ("man bald", "adult", "man", None, None, "bald", "role"),
        ("woman red hair", "adult", "woman", None, None, "red hair", "role"),
        ("raised fist dark skin tone", "raised fist", None, "dark", None, None, "gesture"),
        ("mermaid light skin tone", "merperson", "woman", "light", None, None, "role"),
        ("deaf man", "deaf person", "man", None, None, None, "role"),
        ("women with bunny ears", "people with bunny ears", "woman", None, None, None, "role"),
        ("kiss woman man dark skin tone", "kiss", None, "dark", None, None, "role"),
        ("rocket", "rocket", None, None, None, None, "other"),
    ],
)
def test_a_name_is_taken_apart(
    name: str,
    role: str,
    gender: str | None,
    tone: str | None,
    direction: str | None,
    hair: str | None,
    kind: str,
) -> None:
    drawing = by_name(name)
    assert (drawing.role, drawing.gender, drawing.tone) == (role, gender, tone)
    assert (drawing.direction, drawing.hair, drawing.kind) == (direction, hair, kind)


def test_the_world_has_138_roles_and_gestures() -> None:
    kinds = {d.role: d.kind for d in people()}
    assert Counter(kinds.values()) == {"role": 89, "gesture": 49}
    assert len(roles()) == 138
    assert len(people()) == 1980


def test_every_family_has_all_six_tones_once() -> None:
    tones = defaultdict(list)
    for d in people():
        tones[d.family].append(d.tone)
    assert len(tones) == 330
    assert all(sorted(map(str, t)) == sorted(map(str, (None, *TONES))) for t in tones.values())


def test_half_of_each_family_is_held_out_and_a_third_of_that_is_for_testing() -> None:
    parts = defaultdict(Counter)
    for d in people():
        parts[d.family][split_of(d)] += 1
    assert all(count == {"pretrain": 3, "train": 2, "test": 1} for count in parts.values())


def test_pretraining_sees_every_word() -> None:
    seen = [d for d in people() if split_of(d) == "pretrain"]
    assert {d.role for d in seen} == set(roles())
    for attribute in ("gender", "tone", "direction", "hair"):
        words = {getattr(d, attribute) for d in people()}
        assert {getattr(d, attribute) for d in seen} == words
    pairs = {(d.gender, d.tone) for d in seen}
    assert {(g, t) for g in GENDERS for t in (None, *TONES)} <= pairs


def test_the_split_is_the_same_on_every_machine() -> None:
    assert stable_hash("split", 1) == 0x2CA1BD8BABBA9EE8
    assert split_of(by_name("woman farmer dark skin tone")) == "test"


def test_captions() -> None:
    assert phrases.caption(by_name("woman farmer dark skin tone")) == (
        "a woman farmer with dark skin tone"
    )
    assert phrases.caption(by_name("man bald")) == "a man with a bald head with yellow skin tone"
    assert phrases.caption(by_name("elf")) == "an elf with yellow skin tone"
    captions = {phrases.caption(d) for d in people()}
    assert len(captions) == len(people()) - 18  # mixed and other couples read alike: 3 x 6 tones


def test_an_edit_names_every_changed_attribute() -> None:
    woman = by_name("woman farmer dark skin tone")
    assert phrases.edit(woman, ["gender", "tone"], 0) == "as a woman with dark skin tone"
    assert phrases.edit(woman, ["role", "gender"], 0) == "as a woman farmer"
    assert phrases.edit(by_name("man golfing"), ["role"], 0) == "now golfing"
    for way in range(200):
        assert "dark" in phrases.edit(woman, ["role", "tone"], way)
        assert "farmer" in phrases.edit(woman, ["role", "tone"], way)
        assert "woman" not in phrases.edit(woman, ["role", "tone"], way)
