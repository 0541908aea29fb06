"""Seconds of each phase of a cell."""

from __future__ import annotations

import time


class Clock:
    """Adds up the seconds of named phases; a phase may come back.

    A cell's phases: `load` (backbone, dataset), `setup` (method, shots, frozen features, engine),
    `train` (the steps), `score` (encoding, ranking, metrics). The last two are its own arithmetic.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The time since the last lap belongs to `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now
