"""Cost against quality: compute, trained parameters and scoring time of each method."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.figures import Styles, captioned, escaped, legend, new_figure, plain

COSTS = {
    "compute_seconds": "training, {unit}-seconds",
    "trainable_parameters": "trained parameters",
    "query_ms": "scoring, ms per query",
}


def cost_figure(title: str, metric: str, costs: pd.DataFrame, styles: Styles) -> Figure:
    """Score over three costs, a point for each method, with the interval of its score.

    costs: `costs.costs` of one table at one shot count: label, mean, half_width (fractions), gpu
    and the columns of `COSTS` (medians over runs).
    """
    unit = "GPU" if bool(costs["gpu"].any()) else "core"
    figure = new_figure(10.5, 4.0)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, (column, name) in zip(panels, COSTS.items(), strict=True):
        for row in costs.sort_values("label").to_dict("records"):
            if math.isnan(row[column]) or math.isnan(row["mean"]):
                continue
            colour, marker = styles[str(row["label"])]
            error = None if math.isnan(row["half_width"]) else 100 * row["half_width"]
            axes.errorbar(
                [row[column]],
                [100 * row["mean"]],
                yerr=error,
                fmt=marker,
                color=colour,
                markersize=8,
                elinewidth=1.3,
                label=escaped(str(row["label"])),
            )
        _scale(axes, costs[column])
        plain(axes)
        axes.set_xlabel(name.format(unit=unit))
    panels[0].set_ylabel(f"{escaped(metric)} (%)")
    figure.suptitle(escaped(title), x=0.01, ha="left", fontweight="bold")
    legend(figure, panels[1])
    captioned(
        figure,
        [
            "Points: mean over seeds with its 95 % interval; costs: medians over runs, on the "
            "machines that ran them. Seconds count every rank; scoring encodes queries and gallery."
        ],
    )
    return figure


def _scale(axes: Axes, values: pd.Series[float]) -> None:
    """Logarithmic, linear up to the smallest cost, so that a cost of nothing has a place."""
    known = values[values > 0]
    if known.empty:
        axes.set_xlim(-1, 1)
        axes.set_xticks([0])
        return
    smallest = float(known.min())
    axes.set_xscale("symlog", linthresh=smallest, linscale=1.0)
    top = math.log10(float(known.max())) + 0.4
    axes.set_xlim(-0.4 * smallest, 10**top)
