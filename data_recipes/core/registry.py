"""Recipes by name: every module beside `core/`, and the entry points `promptgrid.recipes`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points

import data_recipes
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Recipe

GROUP = "promptgrid.recipes"


@cache
def recipes() -> dict[str, type[Recipe]]:
    """Dataset name -> recipe class, sorted by name.

    Raises:
        DataError: two recipes have the same name.
    """
    found: dict[str, type[Recipe]] = {}
    for module in pkgutil.iter_modules(data_recipes.__path__):
        if module.name != "core":
            loaded = importlib.import_module(f"data_recipes.{module.name}")
            for value in vars(loaded).values():
                if inspect.isclass(value) and issubclass(value, Recipe) and hasattr(value, "name"):
                    _add(found, value)
    for point in entry_points(group=GROUP):
        _add(found, point.load())
    return dict(sorted(found.items()))


def _add(found: dict[str, type[Recipe]], recipe: type[Recipe]) -> None:
    known = found.get(recipe.name)
    if known is not None and known is not recipe:
        raise DataError(
            f"two recipes are called {recipe.name!r}: {known.__module__} and {recipe.__module__}; "
            "rename one of them"
        )
    found[recipe.name] = recipe


def recipe(name: str) -> type[Recipe]:
    """The recipe of the dataset called `name`. Raises DataError with a suggestion."""
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean: {near[0]}?" if near else f" Known: {', '.join(known)}."
        raise DataError(f"Unknown dataset {name!r}.{hint}")
    return known[name]
