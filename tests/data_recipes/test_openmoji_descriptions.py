"""Descriptions of the embedded world: enough of them, all different, true, and of the right names.
"""

from __future__ import annotations

import pytest

from data_recipes.core.recipe import Recipe
from data_recipes.openmoji import (
    OpenMojiBaseNew,
    OpenMojiComposed,
    OpenMojiConditional,
    OpenMojiMulti,
    OpenMojiRoles,
    OpenMojiRolesGrey,
    OpenMojiRolesPlain,
    phrases,
)
from data_recipes.openmoji.descriptions import of_class, of_images
from data_recipes.openmoji.names import TONES, people, roles


@pytest.mark.parametrize("role", roles())
def test_a_class_has_at_least_ten_different_sentences_that_name_it(role: str) -> None:
    told = of_class(role)
    genders = {d.gender for d in people() if d.role == role}
    nouns = {phrases.noun(role, gender) for gender in {None, *genders}}
    assert len(set(told)) == len(told) >= 10
    assert all(any(noun in sentence for noun in nouns) for sentence in told)
    assert all(sentence.endswith(".") and "{" not in sentence for sentence in told)


def test_all_tones_and_genders_are_told() -> None:
    told = of_class("farmer")
    assert all(any(f"{tone} skin" in sentence for sentence in told) for tone in ("yellow", *TONES))
    assert any("woman farmer" in s for s in told) and any(" man farmer" in s for s in told)
    hair = " ".join(of_class("adult"))
    assert "hair" in hair and "beard" in hair
    assert any("facing right" in sentence for sentence in of_class("person running"))
    assert of_class("farmer")[4] == "a drawing of a man farmer with medium-light skin tone."


def test_recipes_describe_the_classes_that_they_teach() -> None:
    assert [*OpenMojiRoles().descriptions()] == [*roles()]
    assert OpenMojiRolesPlain().descriptions() == OpenMojiRoles().descriptions()
    assert OpenMojiRolesGrey().descriptions() == {}
    recipe = OpenMojiBaseNew()
    (task,) = recipe.tasks()
    base = {c.text for c in task.training().candidates}
    assert set(recipe.descriptions()) == base and len(base) == 69


@pytest.mark.parametrize("kind", [OpenMojiComposed, OpenMojiMulti, OpenMojiConditional])
def test_every_image_of_a_composed_set_has_its_caption(kind: type[Recipe]) -> None:
    recipe = kind()
    told = recipe.descriptions()
    shown = {i for task in recipe.tasks() for part in task.parts() for i in part.image_ids()}
    assert shown <= set(told)
    by_code = {d.code: d for d in people()}
    assert all(texts == (phrases.caption(by_code[code]),) for code, texts in told.items())
    assert of_images([by_code[next(iter(told))]]).items() <= told.items()
