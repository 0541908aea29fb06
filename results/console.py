"""The leaderboard for the terminal: one short table per dataset, 100 columns wide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from results.stages import HEADER, stage_lines
from results.tables import Grid, empty_text, grids

MOST_SHOT_COLUMNS = 6
"""More would not fit 100 columns; the file `leaderboard.md` has them all."""


def console_leaderboard(board: pd.DataFrame) -> list[Table]:
    """Tables from `tables.leaderboard`, headline metric only."""
    return [_console_table(grid) for grid in grids(board)]


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


def _console_table(grid: Grid) -> Table:
    shots_shown = _shown(grid.shots)
    table = Table(
        title=Text(f"{grid.title}: {grid.headline or 'not measured yet'} in %"),
        title_justify="left",
        caption=Text(_caption(grid)),
        caption_justify="left",
        min_width=88,  # room for the caption below a narrow table
    )
    table.add_column("method", overflow="fold", min_width=12, max_width=28)
    for shots in shots_shown:
        table.add_column(_heading(shots), justify="right", no_wrap=True)
    for row in grid.rows:
        cells = []
        for shots in shots_shown:
            entry = row.by_shots.get(shots)
            best = entry is not None and entry["mean"] == grid.best(shots)
            style = "bold" if best and len(grid.rows) > 1 else ""
            cells.append(Text("—" if entry is None else _short_text(entry), style=style))
        table.add_row(Text(row.label), *cells)
    return table


def _shown(shots: list[int]) -> list[int]:
    """All shot counts, or the untrained column and the largest ones."""
    if len(shots) <= MOST_SHOT_COLUMNS:
        return shots
    rest = shots[1:] if shots[0] == 0 else shots
    kept = MOST_SHOT_COLUMNS - (len(shots) - len(rest))
    return shots[: len(shots) - len(rest)] + rest[-kept:]


def _heading(shots: int) -> str:
    if shots == 0:
        return "0 shots"
    return "1 shot" if shots == 1 else f"{shots} shots"


def _short_text(entry: Mapping[str, Any]) -> str:
    """`45.1±1.2`; a `*` marks absent cells, a dagger a collapsed seed."""
    if entry["n"] == 0:
        return empty_text(entry["absent"])
    text = f"{100 * entry['mean']:.1f}"
    if not math.isnan(entry["half_width"]):
        text += f"±{100 * entry['half_width']:.1f}"
    text += "*" if entry["n"] < entry["n_expected"] else ""
    return text + ("†" if entry["collapsed_seeds"] else "")


def _caption(grid: Grid) -> str:
    heads = grid.board[grid.board["headline"]]
    trained = heads[heads["trains"].astype(bool) & (heads["n"] > 0)]
    parts = [f"protocol {grid.protocol}, backbone {grid.backbone}"]
    if not trained.empty:
        fewest, most = int(trained["n"].min()), int(trained["n"].max())
        seeds = str(most) if fewest == most else f"{fewest}-{most}"
        parts.append("1 seed" if most == 1 else f"±: 95 % Student-t, {seeds} seeds")
    if grid.chance is not None:
        parts.append(f"chance {100 * grid.chance:.1f}")
    n_absent = int((heads["n_expected"] - heads["n"]).sum())
    if n_absent:
        parts.append(f"* {n_absent} cells missing or failed")
    if heads["collapsed_seeds"].map(len).any():
        parts.append("† a seed looks collapsed")
    return "; ".join(parts)
