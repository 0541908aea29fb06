"""Plots of records: score over shots, loss over steps. Same records, same bytes.

No pyplot: its figures are global state, and a server or a test would leak them.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from results.atomic import write_whole
from results.tables import Grid, Row, grids, leaderboard

# Okabe and Ito's colours for all kinds of colour vision, without their yellow (too pale on
# white), with Tol's wine in its place. Markers repeat the distinction without any colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#666666"

# Methods side by side within a shot count, so that their seeds do not hide one another.
DODGE_OCTAVES = 0.09
WIDEST_OCTAVES = 0.55
FORMATS = ("png", "svg")

Styles = dict[str, tuple[str, str]]


def method_styles(methods: Iterable[str]) -> Styles:
    """Colour and marker per method, the same in every figure and whatever the order.

    A name's hash picks one of eight slots; where two names meet, the later in the alphabet
    takes the next free one. So a new method leaves most of the others' colours alone. Beyond
    eight methods the colours come again, with other markers.
    """
    n_slots = len(COLOURS)
    styles: Styles = {}
    free: set[int] = set()
    for position, method in enumerate(sorted(set(methods))):
        if position % n_slots == 0:
            free = set(range(n_slots))
        wanted = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big") % n_slots
        slot = next(s for s in range(wanted, wanted + n_slots) if s % n_slots in free) % n_slots
        free.remove(slot)
        turn = position // n_slots
        styles[method] = (COLOURS[slot], MARKERS[(turn * n_slots + slot) % len(MARKERS)])
    return styles


def shot_curves(frame: pd.DataFrame, out_dir: Path) -> list[Path]:
    """One PNG and one SVG per dataset (and protocol and backbone); returns the paths."""
    tables = grids(leaderboard(frame))
    styles = method_styles(row.label for grid in tables for row in grid.rows)
    paths = []
    for grid in tables:
        with matplotlib.style.context("default"):  # whatever the user's matplotlibrc says
            figure = shot_figure(grid, styles)
        for file_format in FORMATS:
            path = out_dir / f"{figure_name(grid)}.{file_format}"
            write_whole(path, rendered(figure, file_format))
            paths.append(path)
    return paths


def figure_name(grid: Grid) -> str:
    """File name without ending, safe for any file system and unique per table."""
    versions = (grid.data_version, grid.backbone_version, "oracle" if grid.oracle else "")
    names = (grid.dataset, grid.task, grid.protocol, grid.backbone, *versions)
    plain = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", name) for name in names[:4])
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:6]
    return f"shots-{plain}-{digest}"


def shot_figure(grid: Grid, styles: Styles) -> Figure:
    """Headline metric over shots: mean line, every seed a dot, untrained methods dashed."""
    figure = Figure(figsize=(8.0, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
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
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        # Outside the axes, so that it never covers data.
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    figure.supxlabel(_caption(grid, trained), fontsize=8, color=GREY, x=0.01, ha="left")
    return figure


def rendered(figure: Figure, file_format: str) -> bytes:
    """The figure's bytes, without dates, versions or random identifiers."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[file_format]
    stream = io.BytesIO()
    with (
        matplotlib.style.context("default"),
        matplotlib.rc_context({"svg.hashsalt": "promptgrid"}),
    ):
        figure.savefig(stream, format=file_format, metadata=metadata)
    return stream.getvalue()


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
        label=row.label,
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
    label = f"{row.label} ({'0 shots' if row.trains else 'no training'})"
    axes.axhline(
        100 * entry["mean"], color=style[0], linestyle="--", linewidth=1.5, label=label, zorder=1
    )


def _near_data(axes: Axes, value: float) -> bool:
    """Whether a line at `value` leaves the data most of the height; the caption has it anyway."""
    low, high = axes.get_ylim()
    return value >= low - 0.5 * (high - low)


def _label_axes(axes: Axes, grid: Grid, shots: Sequence[int]) -> None:
    axes.set_title(grid.title, loc="left", fontweight="bold")
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
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(grid: Grid, trained: Sequence[Row]) -> str:
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
    return textwrap.fill(" ".join(parts), 130)
