"""Points with intervals, one row each: rank intervals of methods, effects of ablations."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.figures import COLOURS, GREY, Styles, captioned, escaped, new_figure, plain

ROW_INCHES = 0.3


def rank_figure(title: str, standings: pd.DataFrame, styles: Styles) -> Figure:
    """Rank intervals of one table's methods, a panel for each shot count.

    standings: `standings.standings` of one table. An interval holds every rank that a method may
    have when Holm's family-wise error is 5 %; filled: tied with the best.
    """
    shots = sorted(int(count) for count in standings["shots"].unique())
    last = standings[standings["shots"] == shots[-1]]
    order = _by_rank(last) + [
        label for label in _by_rank(standings) if label not in set(last["label"])
    ]
    figure = new_figure(2.6 + 1.9 * len(shots), 1.5 + ROW_INCHES * len(order))
    panels = figure.subplots(1, len(shots), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, shots, strict=True):
        rows = standings[standings["shots"] == count].to_dict("records")
        for row in rows:
            label = str(row["label"])
            colour, marker = styles[label]
            at = len(order) - 1 - order.index(label)
            low, high = int(row["rank_low"]), int(row["rank_high"])
            axes.plot([low, high], [at, at], color=colour, linewidth=2.5, solid_capstyle="round")
            face = colour if row["tied"] else "white"
            axes.plot([low, high], [at, at], marker, color=colour, markerfacecolor=face)
        plain(axes, grid="x")
        axes.set_xlim(0.5, max(len(rows), 2) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_xlabel("rank")
        axes.set_title("no training" if count == 0 else f"{count} shot{'s' if count > 1 else ''}")
    panels[0].set_yticks(range(len(order)), [escaped(label) for label in reversed(order)])
    figure.suptitle(escaped(title), x=0.01, ha="left", fontweight="bold")
    captioned(
        figure,
        ["Ranks that paired tests leave open (Holm, 5 % family-wise); filled: tied with the best."],
        width=max(40, 24 * len(shots) + 30),
    )
    return figure


def ablation_figure(title: str, effects: pd.DataFrame) -> Figure:
    """Difference of each ablation to its base in points, with the paired 95 % interval.

    effects: `ablations.ablation_effects` of one base in one table, a panel for each shot count.
    """
    shots = sorted(int(count) for count in effects["shots"].unique())
    options = list(dict.fromkeys(effects.sort_values(["shots", "option"])["option"]))
    figure = new_figure(3.0 + 2.6 * len(shots), 1.5 + ROW_INCHES * len(options))
    panels = figure.subplots(1, len(shots), sharex=True, sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, shots, strict=True):
        axes.axvline(0.0, color=GREY, linewidth=1)
        for row in effects[effects["shots"] == count].to_dict("records"):
            _effect(axes, len(options) - 1 - options.index(row["option"]), row)
        plain(axes, grid="x")
        axes.set_xlabel("difference to the base (points)")
        axes.set_title(f"{count} shot{'s' if count > 1 else ''}" if count else "no training")
    panels[0].set_yticks(range(len(options)), [escaped(option) for option in reversed(options)])
    figure.suptitle(escaped(title), x=0.01, ha="left", fontweight="bold")
    captioned(
        figure,
        [
            "Paired 95 % intervals, queries clustered by reference; filled: different from the "
            "base (Holm, 5 % family-wise). No line: too few runs for an interval."
        ],
        width=max(50, 30 * len(shots) + 40),
    )
    return figure


def _effect(axes: Axes, at: int, row: dict[Any, Any]) -> None:
    colour = COLOURS[0] if row["difference"] >= 0 else COLOURS[1]
    marker = "o" if row["difference"] >= 0 else "s"
    if not math.isnan(row["low"]):
        ends = [100 * row["low"], 100 * row["high"]]
        axes.plot(ends, [at, at], color=colour, linewidth=2.0, solid_capstyle="round")
    clear = not math.isnan(row["p_holm"]) and row["p_holm"] < 0.05
    face = colour if clear else "white"
    axes.plot([100 * row["difference"]], [at], marker, color=colour, markerfacecolor=face)


def _by_rank(standings: pd.DataFrame) -> list[Any]:
    ordered = standings.sort_values(["rank_low", "rank_high", "label"])
    return list(dict.fromkeys(ordered["label"]))
