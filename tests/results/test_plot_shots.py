"""Score over shots: every seed drawn, untrained methods as lines."""

from __future__ import annotations

from typing import Any

import pytest

from results.figures import method_styles, rendered
from results.frames import from_records
from results.plot_shots import shot_figure
from results.tables import grids, leaderboard


def test_every_seed_is_drawn_and_untrained_methods_are_lines(study: list[dict[str, Any]]) -> None:
    grid = grids(leaderboard(from_records(study)))[0]
    figure = shot_figure(grid, method_styles(row.label for row in grid.rows))
    (axes,) = figure.axes
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 3 * 4 * 3
    assert axes.get_ylabel() == "accuracy (%)"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 2
    (legend,) = figure.legends
    figure.canvas.draw()
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


@pytest.mark.parametrize("names", [["zero-shot"], ["coop"]])
def test_sparse_tables_render(make_record: Any, names: list[str]) -> None:
    shots = 0 if names == ["zero-shot"] else 4
    record = make_record(names[0], shots=shots, seed=0, notes=[])
    (grid,) = grids(leaderboard(from_records([record])))
    assert rendered(shot_figure(grid, method_styles(names)), "png").startswith(b"\x89PNG")
