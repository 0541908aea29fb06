"""What a person sees while a dataset is built: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from data_recipes.core.build import Progress as Report

LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")


@contextmanager
def shown(console: Console, name: str) -> Iterator[Report]:
    """Show the images tried, of all where their number is known, the rate and the time left."""
    if not console.is_terminal:
        yield _Lines(console, name).report
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"building {name}", total=None)
        yield lambda tried, total: bar.update(task, completed=tried, total=total)


class _Lines:
    """A line every ten seconds, for logs; a short build has none."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._start = self._last = time.monotonic()

    def report(self, tried: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < LINE_EVERY_S or not tried:
            return
        self._last = now
        rate = tried / (now - self._start)
        of_all = f"/{total}" if total is not None else ""
        left = f", {(total - tried) / rate:,.0f} s left" if total is not None else ""
        self._console.print(
            f"building {self._name}: {tried}{of_all} images, {rate:,.0f} images/s{left}"
        )
