"""Plots: there, distinct, and the same bytes every time."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from results.frames import from_records
from results.plots import COLOURS, method_styles, rendered, shot_curves, shot_figure
from results.tables import grids, leaderboard


def test_one_png_and_svg_per_table(tmp_path: Path, study: list[dict[str, Any]]) -> None:
    paths = shot_curves(from_records(study), tmp_path)
    assert len(paths) == 4
    assert {path.name.split("-")[1] for path in paths} == {"roles", "gestures"}
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            width, height = struct.unpack(">II", content[16:24])
            assert width >= 1000
            assert height >= 600
            assert b"Software" not in content
        else:
            assert b"<dc:date>" not in content


def test_bytes_do_not_depend_on_order_or_user_settings(
    tmp_path: Path, study: list[dict[str, Any]]
) -> None:
    first = shot_curves(from_records(study), tmp_path / "a")
    random.Random(1).shuffle(study)
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other"}):
        second = shot_curves(from_records(study), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_styles_are_distinct_and_stable() -> None:
    names = [f"method-{i}" for i in range(20)]
    styles = method_styles(names)
    assert len(set(styles.values())) == 20
    assert styles == method_styles(reversed(names))
    assert len({colour for colour, _ in method_styles(names[:8]).values()}) == len(COLOURS)
    assert method_styles(["coop"])["coop"] == method_styles(["coop", "zzz"])["coop"]


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


def test_no_pyplot() -> None:
    """A figure pyplot knows about would stay in memory for ever."""
    source = Path(shot_curves.__code__.co_filename).read_text()
    assert "import matplotlib.pyplot" not in source
