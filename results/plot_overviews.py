"""All datasets in one figure: a heat map of scores, and average ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from results.figures import GREY, Styles, captioned, escaped, new_figure, plain

MAP = "cividis"


def heat_map(
    methods: Sequence[str],
    datasets: Sequence[str],
    scores: Mapping[tuple[str, str], float | str],
    caption: str,
) -> Figure:
    """Scores of methods (rows) on datasets (columns), coloured within each column.

    scores: (method, dataset) -> a fraction, or the word that stands for its absence; pairs that
    were never asked for are left out and stay empty.
    """
    figure = new_figure(2.6 + 1.25 * len(datasets), 1.9 + 0.34 * len(methods))
    axes = figure.subplots()
    shades = np.full((len(methods), len(datasets)), math.nan)
    for column, dataset in enumerate(datasets):
        known = [s for m in methods if isinstance(s := scores.get((m, dataset)), float)]
        low, high = min(known, default=0.0), max(known, default=1.0)
        for row, method in enumerate(methods):
            score = scores.get((method, dataset))
            if isinstance(score, float):
                shades[row, column] = (score - low) / (high - low) if high > low else 1.0
    colours = matplotlib.colormaps[MAP]
    axes.pcolormesh(shades, cmap=colours, norm=Normalize(0, 1), edgecolors="white", linewidth=1.5)
    for row, method in enumerate(methods):
        for column, dataset in enumerate(datasets):
            score = scores.get((method, dataset), "")
            known_score = isinstance(score, float)
            text = f"{100 * score:.1f}" if isinstance(score, float) else str(score)
            dark = known_score and shades[row, column] < 0.55
            axes.text(
                column + 0.5,
                row + 0.5,
                escaped(text),
                ha="center",
                va="center",
                fontsize=9 if known_score else 7,
                color="white" if dark else "black" if known_score else GREY,
            )
    plain(axes, grid="")
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(methods)) + 0.5, [escaped(name) for name in methods])
    labels = [escaped(name.replace("/", "/\n")) for name in datasets]
    axes.set_xticks(np.arange(len(datasets)) + 0.5, labels, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    captioned(figure, [caption, "Colours: from a column's lowest score to its highest."], width=70)
    return figure


def rank_diagram(title: str, ranks: pd.DataFrame, styles: Styles) -> Figure:
    """Average ranks over datasets with the critical difference: an overview, no test of methods.

    ranks: `overview.average_ranks` of one backbone and shot count. Bars below the methods join
    those whose average ranks differ by less than the critical difference (Nemenyi, 5 %;
    Demsar, JMLR 2006).
    """
    ranks = ranks.sort_values(["average_rank", "label"])
    labels = [str(label) for label in ranks["label"]]
    at = [float(rank) for rank in ranks["average_rank"]]
    difference = float(ranks["critical_difference"].iloc[0])
    groups = _groups(at, difference)
    figure = new_figure(7.5, 1.7 + 0.27 * len(labels) + 0.14 * len(groups))
    axes = figure.subplots()
    for position, (label, rank) in enumerate(zip(labels, at, strict=True)):
        colour, marker = styles[label]
        axes.plot([rank], [-position], marker, color=colour, markersize=7)
        axes.annotate(
            escaped(label), (rank, -position), (8, 0), textcoords="offset points", va="center"
        )
    base = -len(labels) + 0.2
    for number, (first, last) in enumerate(groups):
        line = base - 0.5 * number
        axes.plot([at[first], at[last]], [line, line], color=GREY, linewidth=3)
    plain(axes, title, grid="x")
    axes.set_xlim(0.7, len(labels) + 0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("average rank (1 is best)")
    datasets = int(ranks["datasets"].iloc[0])
    reach = (
        f"critical difference {difference:.2f} ranks"
        if math.isfinite(difference)
        else "too few datasets for a critical difference"
    )
    captioned(
        figure,
        [
            f"Overview only: {datasets} dataset{'s' if datasets > 1 else ''}, {reach}. What tells "
            "methods apart are the paired tests of each table."
        ],
        width=105,
    )
    return figure


def _groups(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Longest runs (first, last) of sorted ranks that lie within the critical difference."""
    if not math.isfinite(difference):
        return []
    runs: list[tuple[int, int]] = []
    for first, start in enumerate(ranks):
        last = max(i for i, rank in enumerate(ranks) if rank - start <= difference)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
