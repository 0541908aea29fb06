"""Rows of the benchmark: a baseline and our way, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Row:
    """Baseline and ours in `unit` (medians of seconds); goal: the ratio asked for.

    goal: None where nothing is asked. limit: what `ours` must not exceed, in `unit`.
    """

    name: str
    baseline: float
    ours: float
    ratio: float
    goal: float | None
    equal: bool
    unit: str = "s"
    limit: float | None = None

    @property
    def missed(self) -> bool:
        """The ratio is below its goal, or ours above its limit."""
        too_slow = self.goal is not None and self.ratio < self.goal
        return too_slow or (self.limit is not None and self.ours > self.limit)


def compare(
    name: str,
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    same: Callable[[Any, Any], bool],
    goal: float | None,
    repeats: int,
) -> Row:
    """Run both in turn, `repeats` times after one warm-up; the medians' ratio is the result."""
    results = (baseline(), ours())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for way, run in enumerate((baseline, ours)):
            start = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - start)
    first, second = (statistics.median(t) for t in times)
    return Row(name, first, second, first / second, goal, same(*results))


def close(first: Tensor, second: Tensor) -> bool:
    """Equal to 1e-4 of the larger norm."""
    return bool((first - second).norm() <= 1e-4 * first.norm())
