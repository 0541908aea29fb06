"""The end of a run: its report is written while gangs and Ray still need their seconds to end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.drawing import get_ready
from results.store import RecordStore

if TYPE_CHECKING:
    from results.answers import Answers

    Report = tuple[Answers, list[Path]]


class Ending:
    """Answers and files of a run, in a thread of its own from the last settled unit on.

    Their imports begin as soon as a gang has nothing more to do. Nothing is known to come before
    `expect`.
    """

    def __init__(self, store: RecordStore, expected: Sequence[dict[str, Any]], out: Path) -> None:
        self._store, self._expected, self._out = store, expected, out
        self._left = self._gangs = 0
        self._processes = len(os.sched_getaffinity(0))
        self._thread = ThreadPoolExecutor(1)
        self._ready: Future[None] | None = None
        self._report: Future[Report] | None = None

    def expect(self, units: int, gangs: int) -> None:
        """So many units will settle, on so many gangs."""
        self._left, self._gangs = units, gangs

    def settled(self) -> None:
        """One unit more is done or failed, and stored."""
        self._left -= 1
        if self._left < self._gangs and self._ready is None:
            self._ready = self._thread.submit(self._get_ready)
        if self._left == 0:
            self._report = self._thread.submit(self._write)

    def report(self) -> Report:
        """The report of all that is stored by now; raises what `answers` raises."""
        with self._thread:
            return (self._report or self._thread.submit(self._write)).result()

    def _get_ready(self) -> None:
        get_ready(self._expected, self._processes)
        import results.report  # noqa: F401  # scipy and matplotlib, which no rank needs

    def _write(self) -> Report:
        get_ready(self._expected, self._processes)
        from results.answers import answers
        from results.report import write_answers

        found = answers(self._store, self._expected)
        return found, write_answers(found, self._out, self._processes)
