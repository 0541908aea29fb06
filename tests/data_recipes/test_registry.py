"""Recipes by name: files beside `core/`, entry points, and names that clash or do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from data_recipes.core import registry
from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError, Task
from data_recipes.core.recipe import Recipe
from data_recipes.openmoji import OpenMojiRoles


class Elsewhere(Recipe):
    """A recipe of a user's own package."""

    name = "elsewhere"

    def images(self) -> Iterator[RawImage]:
        yield from ()

    def tasks(self) -> list[Task]:
        return []


class Impostor(Elsewhere):
    """A recipe whose name is taken."""

    name = "openmoji-roles"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    registry.recipes.cache_clear()
    yield
    registry.recipes.cache_clear()


def with_entry_point(monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    point = EntryPoint(recipe, f"{__name__}:{recipe}", registry.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.name])
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group else [])


def test_the_embedded_recipes_are_found_and_sorted() -> None:
    names = list(registry.recipes())
    assert {"openmoji-roles", "openmoji-composed"} <= set(names)
    assert names == sorted(names)
    assert registry.recipe("openmoji-roles") is OpenMojiRoles


def test_an_entry_point_adds_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with_entry_point(monkeypatch, "Elsewhere")
    assert registry.recipe("elsewhere") is Elsewhere


def test_two_recipes_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with_entry_point(monkeypatch, "Impostor")
    with pytest.raises(DataError, match=r"two recipes are called 'openmoji-roles'.*rename one"):
        registry.recipes()


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'openmoji-role'\. Did you mean: openmoji-roles\?"):
        registry.recipe("openmoji-role")
    with pytest.raises(DataError, match=r"'zzz'\. Known: .*openmoji-composed"):
        registry.recipe("zzz")


@pytest.mark.parametrize("name", registry.recipes())
def test_every_recipe_says_what_it_is(name: str) -> None:
    recipe = registry.recipe(name)
    assert recipe.summary and recipe.source
    assert recipe.licence != "unknown"
    assert recipe().config == recipe.Config()
