"""Processes that draw plots side by side, forked from one that has imported what drawing takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, get_context
from typing import Any

MANY = 16
"""Plots that are worth processes."""
A_TABLE = 4
"""Plots of a table, as a rule."""


def get_ready(expected: Sequence[Mapping[str, Any]] | None, processes: int) -> None:
    """Begin a second of imports in a process of its own, where a study will have `MANY` plots.

    Returns at once. expected: the study's cells with `dataset` and `task`; None: not known, and
    nothing begins. processes: as in `plots.write_plots`.
    """
    tables = {(cell.get("dataset"), cell.get("task")) for cell in expected or ()}
    if processes > 1 and A_TABLE * len(tables) >= MANY:
        _begin()


def pool(processes: int) -> ProcessPoolExecutor:
    """Processes that draw, for a `with` block; quickly there after `get_ready`."""
    _begin()
    return ProcessPoolExecutor(processes, get_context("forkserver"))


def _begin() -> None:
    # Not forked from this process: what runs in threads here would not run there.
    get_context("forkserver").set_forkserver_preload(["results.plots"])
    forkserver.ensure_running()
