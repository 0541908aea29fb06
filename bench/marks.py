"""Marks around the phases of a cell, for `promptgrid profile`; without it they do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

from torch.profiler import record_function

Phase = Literal["load", "data", "forward", "backward", "optimizer", "evaluation", "record"]
PHASES: tuple[Phase, ...] = get_args(Phase)

_NOTHING = nullcontext()
_finish: Callable[[], object] | None = None  # None: no profile is being made


def mark(phase: Phase) -> AbstractContextManager[object]:
    """Around what belongs to a phase: named `promptgrid/PHASE` in a profile's trace."""
    return _NOTHING if _finish is None else _marked(phase, _finish)


@contextmanager
def marking(finish: Callable[[], object]) -> Iterator[None]:
    """Marks count inside this block. finish: waits for the device's work, before a phase ends."""
    global _finish
    _finish = finish
    try:
        yield
    finally:
        _finish = None


@contextmanager
def _marked(phase: Phase, finish: Callable[[], object]) -> Iterator[None]:
    with record_function(f"promptgrid/{phase}"):
        try:
            yield
        finally:
            finish()
