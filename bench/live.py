"""What a person sees while cells run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from data_recipes.core.model import DataError

STALE_S = 10.0


class Progression:
    """Prints each settled cell; on a terminal it also draws a bar and what each gang does."""

    def __init__(self, console: Console, titles: Mapping[str, str], status_path: Path) -> None:
        self.console = console
        self.titles = titles
        self.total = len(titles)
        self.status_path = status_path
        self.settled = 0
        self.bar = Progress(
            TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self.task = self.bar.add_task("cells", total=self.total)

    def event(self, event: dict[str, Any]) -> None:
        """Take a `done` or `failed` event of the queue."""
        self.settled += 1
        self.bar.update(self.task, completed=self.settled)
        title = self.titles[event["key"]]
        head = f"[{self.settled}/{self.total}] {title}"
        if event["kind"] == "failed":
            reason = (event["error"] or "").strip().splitlines()[-1:]
            self.console.print(Text(f"{head}: FAILED: {''.join(reason)}", style="red"))
            return
        summary = event["summary"] or {}
        value = summary["value"]
        score = "targets withheld" if value is None else f"{summary['metric']} {100 * value:.1f} %"
        self.console.print(Text(f"{head}: {score} ({summary['seconds']:.1f} s)"))

    def __rich__(self) -> RenderableType:
        state = read_status(self.status_path)
        return Group(gang_table(state, self.titles), self.bar) if state else self.bar

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs (terminal only)."""
        if not self.console.is_terminal:
            yield
            return
        with Live(self, console=self.console, refresh_per_second=4, transient=True):
            yield


def read_status(path: Path) -> dict[str, Any] | None:
    """The status file's content, or None when there is none. Raises DataError if it is damaged."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); delete it, records are kept") from None
    return state


def gang_table(state: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    """One row per gang: what it does and since when."""
    table = Table(box=None, pad_edge=False)
    for column in ("gang", "state", "cell", "since", "cells done", "restarts"):
        table.add_column(column)
    now = time.time()
    for name, gang in (state.get("gangs") or {}).items():
        key = gang["key"]
        first, _, more = (key or "").partition("+")  # a unit of several cells: `run_group.key`
        title = titles.get(first, first[:12]) + (f" and {more} more" if more else "")
        table.add_row(
            name,
            gang["state"],
            Text(title),
            f"{now - gang['since']:.0f} s",
            str(gang["cells_done"]),
            str(gang["restarts"]),
        )
    return table


def phase(state: Mapping[str, Any]) -> str:
    """How the run stands, in words; a driver that went silent is said to have died."""
    name = str(state["phase"])
    silent = time.time() - float(state["heartbeat"])
    if name in ("starting", "running") and silent > STALE_S:
        return f"stopped without a word {silent:.0f} s ago; the same command continues it"
    return name
