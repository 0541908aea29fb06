"""The heat map and the diagram of average ranks."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from results.figures import method_styles, rendered
from results.plot_overviews import heat_map, rank_diagram


def test_heat_map_writes_every_score_and_names_what_is_absent() -> None:
    scores: dict[tuple[str, str], float | str] = {
        ("a", "x/one"): 0.5,
        ("b", "x/one"): 0.25,
        ("a", "y/two"): "failed",
        ("b", "y/two"): 0.125,
    }
    figure = heat_map(["a", "b", "c"], ["x/one", "y/two"], scores, "100 %.")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["50.0", "failed", "25.0", "12.5", "", ""]
    assert rendered(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("difference", "bars"), [(1.5, [(1.0, 2.0), (2.0, 3.5)]), (0.5, []), (math.nan, [])]
)
def test_bars_join_what_the_critical_difference_leaves_open(
    difference: float, bars: list[tuple[float, float]]
) -> None:
    ranks = pd.DataFrame(
        {
            "label": ["c", "a", "b"],
            "average_rank": [3.5, 1.0, 2.0],
            "datasets": 4,
            "critical_difference": difference,
        }
    )
    figure = rank_diagram("t", ranks, method_styles("abc"))
    (axes,) = figure.axes
    drawn = [tuple(float(x) for x in line.get_xdata()) for line in axes.lines]
    assert [xs for xs in drawn if len(xs) == 2] == bars
    assert "Overview only" in figure._supxlabel.get_text()
