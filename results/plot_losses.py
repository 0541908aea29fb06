"""Loss over steps: every run a line, a panel for each method."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.curves import MOST_SEEDS
from results.figures import GREY, Styles, captioned, escaped, new_figure, plain
from results.frames import REPLICATE, label_of

ACROSS = 4


def loss_figure(title: str, curves: pd.DataFrame, styles: Styles) -> Figure:
    """Loss curves of one table, each method's at its highest shot count.

    curves: rows of `curves.Curves.frame` of the table.
    """
    labels = pd.Series([label_of(row) for row in curves.to_dict("records")], index=curves.index)
    names = sorted(set(labels))
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    figure = new_figure(0.6 + 2.5 * across, 1.1 + 2.0 * down)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, name, curves[labels == name], styles[name][0])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.suptitle(escaped(title), x=0.01, ha="left", fontweight="bold")
    captioned(
        figure,
        [
            f"One line per run, at most {MOST_SEEDS} of a method; logarithmic where the loss is "
            "positive throughout."
        ],
        width=max(60, 35 * across),
    )
    return figure


def _panel(axes: Axes, name: str, points: pd.DataFrame, colour: str) -> None:
    runs = [run for _, run in points.groupby([*REPLICATE, "key"], sort=True)]
    for run in runs:
        marker = "." if len(run) == 1 else None
        axes.plot(run["step"], run["loss"], color=colour, alpha=0.75, linewidth=1.1, marker=marker)
    plain(axes)
    axes.set_title(escaped(name), fontsize=10)
    if (points["loss"] > 0).all():
        axes.set_yscale("log")
        axes.minorticks_off()  # they cost a third of the drawing
    axes.tick_params(labelsize=8, which="both")
    axes.set_xlabel("step", fontsize=8)
    shots = int(points["shots"].iloc[0])
    axes.text(
        0.97,
        0.95,
        f"{shots} shot{'' if shots == 1 else 's'}, {len(runs)} run{'s' if len(runs) > 1 else ''}",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=8,
        color=GREY,
    )
