"""The leaderboard for the terminal: one short table per dataset, 100 columns wide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from results.document import visible
from results.stages import HEADER, stage_lines
from results.tables import Grid, Row, grids, titles
from results.wording import EMPTY, empty_text, shots_text

MOST_SHOT_COLUMNS = 4
"""More would not fit 100 columns; the file `leaderboard.md` has them all."""

TIED = "="


def console_leaderboard(
    board: pd.DataFrame,
    standings: pd.DataFrame | None = None,
    flags: pd.DataFrame | None = None,
) -> list[Table]:
    """Tables from `tables.leaderboard`, headline metric only; see `tables.grids`."""
    tables = grids(board, standings, flags)
    return [_console_table(grid, title) for grid, title in zip(tables, titles(tables), strict=True)]


def next_lines(out: Path, compared: bool) -> list[str]:
    """Where to read on; compared: whether there are pairs of methods to read about."""
    lines = [f"read on: {out / 'tables' / 'leaderboard.html'}"]
    if compared:
        lines[0] += ", where every pair of methods is compared (comparisons.csv has them as data)"
    return [*lines, f"make tables and plots again from the records alone: promptgrid report {out}"]


def console_stages(stages: pd.DataFrame) -> list[Table]:
    """The table of stages from `stages.stage_cells`; empty where there is none."""
    if stages.empty:
        return []
    table = Table(title=Text("stages"), title_justify="left", min_width=88)
    for number, name in enumerate(HEADER):
        table.add_column(name, justify="right" if number > 1 else "left", overflow="fold")
    for line in stage_lines(stages):
        table.add_row(*map(Text, line))
    return [table]


def _console_table(grid: Grid, title: str) -> Table:
    shots_shown = _shown(grid.columns)
    table = Table(
        title=Text(f"{visible(title)}: {grid.headline or 'not measured yet'} in %"),
        title_justify="left",
        caption=Text(_caption(grid)),
        caption_justify="left",
        min_width=88,  # room for the caption below a narrow table
    )
    table.add_column("method", overflow="fold", min_width=12, max_width=28)
    for shots in shots_shown:
        table.add_column(shots_text(shots), justify="right", no_wrap=True)
    for number, row in enumerate(grid.rows, start=1):
        cells = [_cell(row, shots, marked=len(grid.rows) > 1) for shots in shots_shown]
        last_free = not row.trains and number < len(grid.rows) and grid.rows[number].trains
        table.add_row(Text(visible(row.label)), *cells, end_section=last_free)
    return table


def _cell(row: Row, shots: int, marked: bool) -> Text:
    entry, standing = row.at(shots), row.standings.get(shots)
    if entry is None:
        return Text(EMPTY)
    if standing is None or not entry["n"] or not marked:
        return Text(_short_text(entry))
    mark = TIED if standing.tied else ""  # bold is lost in a file or a plain terminal
    value = Text(mark + _short_text(entry), style="bold" if standing.tied else "")
    return value.append(f" {standing.ranks}", style="not bold dim")


def _shown(shots: list[int]) -> list[int]:
    """All shot counts, or the largest ones."""
    return shots[-MOST_SHOT_COLUMNS:]


def _short_text(entry: Mapping[str, Any]) -> str:
    """`45.1±1.2`; a `*` marks absent cells, a dagger a flagged run."""
    if entry["n"] == 0:
        return empty_text(entry["absent"])
    text = f"{100 * entry['mean']:.1f}"
    if not math.isnan(entry["half_width"]):
        text += f"±{100 * entry['half_width']:.1f}"
    text += "*" if entry["n"] < entry["n_expected"] else ""
    return text + ("†" if entry["flagged"] else "")


def _caption(grid: Grid) -> str:
    heads = grid.board[grid.board["headline"]]
    trained = heads[heads["trains"].astype(bool) & (heads["n"] > 0)]
    parts = [f"protocol {visible(grid.protocol)}, backbone {visible(grid.backbone)}"]
    if not trained.empty:
        fewest, most = int(trained["n"].min()), int(trained["n"].max())
        runs = str(most) if fewest == most else f"{fewest}-{most}"
        parts.append("1 run" if most == 1 else f"±: 95 % Student-t, {runs} runs")
    if sum(bool(row.standings) for row in grid.rows) > 1:
        parts.append(f"{TIED} and bold: tied with the best of its column; then possible ranks")
    if grid.chance is not None:
        parts.append(f"chance {100 * grid.chance:.1f}")
    n_absent = int((heads["n_expected"] - heads["n"]).sum())
    if n_absent:
        parts.append(f"* {n_absent} cells missing or failed")
    if any(entry["flagged"] for row in grid.rows for entry in row.by_shots.values()):
        parts.append("† a run is flagged")
    hidden = len(grid.columns) - len(_shown(grid.columns))
    if hidden:
        parts.append(f"{hidden} smaller shot counts in leaderboard.md")
    return "; ".join(parts)
