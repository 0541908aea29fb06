"""Score over shots: one figure per table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from results.figures import GREY, Styles, captioned, escaped, legend, new_figure, plain
from results.tables import Grid, Row

# Methods side by side within a shot count, so that their seeds do not hide one another.
DODGE_OCTAVES = 0.09
WIDEST_OCTAVES = 0.55


def shot_figure(grid: Grid, styles: Styles) -> Figure:
    """Headline metric over shots: mean line, every seed a dot, untrained methods dashed."""
    figure = new_figure(8.0, 4.8)
    axes = figure.subplots()
    trained = [row for row in grid.rows if row.trains]
    shots = [count for count in grid.shots if count > 0]

    step = min(DODGE_OCTAVES, WIDEST_OCTAVES / max(len(trained), 1))
    for position, row in enumerate(trained):
        offset = (position - (len(trained) - 1) / 2) * step
        _draw_trained(axes, row, styles[row.label], shots, offset, step)
    for row in grid.rows:
        _draw_zero_shots(axes, row, styles[row.label])
    if grid.chance is not None and _near_data(axes, 100 * grid.chance):
        axes.axhline(100 * grid.chance, color=GREY, linestyle=":", linewidth=1, label="chance")

    _label_axes(axes, grid, shots)
    legend(figure, axes)
    captioned(figure, _caption(grid, trained))
    return figure


def _draw_trained(
    axes: Axes, row: Row, style: tuple[str, str], shots: Sequence[int], offset: float, step: float
) -> None:
    """Mean line, broken where nothing was measured; seeds just right of each mean."""
    colour, marker = style
    entries = [row.by_shots.get(count) for count in shots]
    at = [math.log2(count) + offset for count in shots]
    means = [100 * entry["mean"] if entry else math.nan for entry in entries]
    if all(math.isnan(mean) for mean in means):
        return
    axes.plot(
        at,
        means,
        color=colour,
        marker=marker,
        markersize=7.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=1.8,
        label=escaped(row.label),
        zorder=3,
    )
    dots = [
        (x + step / 2, 100 * value)
        for x, entry in zip(at, entries, strict=True)
        for value in (entry["values"] if entry else ())
    ]
    xs, ys = np.array(dots).T
    axes.scatter(xs, ys, s=13, color=colour, alpha=0.6, linewidths=0, zorder=4)


def _draw_zero_shots(axes: Axes, row: Row, style: tuple[str, str]) -> None:
    entry = row.by_shots.get(0)
    if entry is None or not entry["n"]:
        return
    label = f"{escaped(row.label)} ({'0 shots' if row.trains else 'no training'})"
    axes.axhline(
        100 * entry["mean"], color=style[0], linestyle="--", linewidth=1.5, label=label, zorder=1
    )


def _near_data(axes: Axes, value: float) -> bool:
    """Whether a line at `value` leaves the data most of the height; the caption has it anyway."""
    low, high = axes.get_ylim()
    return value >= low - 0.5 * (high - low)


def _label_axes(axes: Axes, grid: Grid, shots: Sequence[int]) -> None:
    plain(axes, grid.title)
    axes.set_ylabel(f"{grid.headline} (%)")
    axes.set_xlabel("shots (log scale)" if shots else "no training")
    ticks = [math.log2(count) for count in shots]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [str(count) for count in shots])
    if shots:
        axes.set_xlim(min(ticks) - 0.35, max(ticks) + 0.35)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(y=0.08)


def _caption(grid: Grid, trained: Sequence[Row]) -> list[str]:
    counts = [e["n"] for row in trained for e in row.by_shots.values() if e["n"]]
    parts = []
    if counts:
        seeds = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        plural = "" if seeds == "1" else "s"
        parts.append(f"Line: mean over n = {seeds} seed{plural}; dots: single seeds.")
    measured = grid.board[grid.board["n"] > 0]
    if not measured.empty:
        fewest, most = int(measured["n_queries_min"].min()), int(measured["n_queries_max"].max())
        parts.append(f"{fewest if fewest == most else f'{fewest} to {most}'} queries.")
    if grid.chance is not None:
        parts.append(f"Chance: {100 * grid.chance:.1f} %.")
    parts.append(f"Protocol {grid.protocol}, backbone {grid.backbone}.")
    return parts
