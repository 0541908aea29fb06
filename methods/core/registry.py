"""Methods by name: every module beside `core/`, and the entry points `promptgrid.methods`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points

import methods
from methods.core.contract import Method

GROUP = "promptgrid.methods"


class UnknownMethodError(ValueError):
    """No method has this name; the message suggests the nearest."""


@cache
def registered() -> dict[str, type[Method]]:
    """Method name -> class, sorted by name.

    Raises:
        ValueError: two methods have the same name.
    """
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(methods.__path__):
        if module.name != "core":
            loaded = importlib.import_module(f"methods.{module.name}")
            for value in vars(loaded).values():
                if inspect.isclass(value) and issubclass(value, Method) and hasattr(value, "name"):
                    _add(found, value)
    for point in entry_points(group=GROUP):
        _add(found, point.load())
    return dict(sorted(found.items()))


def _add(found: dict[str, type[Method]], method: type[Method]) -> None:
    known = found.get(method.name)
    if known is not None and known is not method:
        raise ValueError(
            f"two methods are called {method.name!r}: {known.__module__} and "
            f"{method.__module__}; rename one of them"
        )
    found[method.name] = method


def method(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        UnknownMethodError: with the nearest name.
    """
    known = registered()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean: {near[0]}?" if near else f" Known: {', '.join(known)}."
        raise UnknownMethodError(f"Unknown method {name!r}.{hint}")
    return known[name]
