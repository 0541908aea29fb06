"""Rank intervals and ablation effects: one mark per row, filled where the tests say so."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes

from results.figures import method_styles
from results.plot_intervals import ablation_figure, rank_figure


def marks(axes: Axes) -> list[tuple[list[float], bool]]:
    """Horizontal extent of every marked row, and whether its marks are filled."""
    return [
        ([float(x) for x in line.get_xdata()], line.get_markerfacecolor() != "white")
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
    ]


def test_rank_intervals() -> None:
    rows = [
        {"shots": shots, "label": label, "tied": low == 1, "rank_low": low, "rank_high": high}
        for shots in (1, 4)
        for label, low, high in (("a", 1, 2), ("b", 1, 2), ("c_%$", 3, 3))
    ]
    figure = rank_figure("t", pd.DataFrame(rows), method_styles(["a", "b", "c_%$"]))
    first, second = figure.axes
    assert marks(first) == marks(second) == [([1, 2], True), ([1, 2], True), ([3, 3], False)]
    assert [text.get_text() for text in first.get_yticklabels()] == [r"c_%\$", "b", "a"]


def test_a_method_that_lacks_some_shots_keeps_its_row() -> None:
    rows = [
        {"shots": 1, "label": "a", "tied": True, "rank_low": 1, "rank_high": 1},
        {"shots": 1, "label": "b", "tied": True, "rank_low": 1, "rank_high": 2},
        {"shots": 2, "label": "b", "tied": True, "rank_low": 1, "rank_high": 1},
    ]
    figure = rank_figure("t", pd.DataFrame(rows), method_styles("ab"))
    assert [len(marks(axes)) for axes in figure.axes] == [2, 1]


def test_ablation_effects() -> None:
    def effect(option: str, difference: float, half: float, p: float) -> dict[str, object]:
        low, high = difference - half, difference + half
        return {
            "shots": 1,
            "option": option,
            "difference": difference,
            "low": low,
            "high": high,
            "p_holm": p,
        }

    rows = [
        effect("m=16", 0.03, 0.01, 0.001),
        effect("m=8", -0.01, 0.02, 0.4),
        effect("csc=true", 0.02, math.nan, math.nan),
    ]
    (axes,) = ablation_figure("t", pd.DataFrame(rows)).axes
    assert [(round(xs[0], 6), filled) for xs, filled in marks(axes)] == [
        (3.0, True),
        (-1.0, False),
        (2.0, False),
    ]
    spans = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert len(spans) == 1 + 2  # the zero line, and two intervals: one row has none
