"""What all figures share: distinct styles, safe names, the same bytes every time."""

from __future__ import annotations

import struct
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

import results
from results.figures import (
    COLOURS,
    captioned,
    escaped,
    file_name,
    legend,
    method_styles,
    new_figure,
    plain,
    save,
)


def drawn() -> Figure:
    figure = new_figure(8.0, 4.8)
    axes = figure.subplots()
    axes.plot([1, 2], [3, 5], label=escaped("a_b $x$"))
    plain(axes, "50 % of $one$ and $other")
    legend(figure, axes)
    captioned(figure, ["100 % of $it", "& more_"])
    return figure


def test_png_and_svg_without_dates(tmp_path: Path) -> None:
    png, svg = save(drawn, tmp_path, "x")
    content = png.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (1200, 720)
    assert b"Software" not in content
    assert b"<dc:date>" not in svg.read_bytes()


def test_bytes_do_not_depend_on_user_settings(tmp_path: Path) -> None:
    first = save(drawn, tmp_path / "a", "x")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other", "axes.grid": True}):
        second = save(drawn, tmp_path / "b", "x")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_styles_are_distinct_and_stable() -> None:
    names = [f"method-{i}" for i in range(20)]
    styles = method_styles(names)
    assert len(set(styles.values())) == 20
    assert styles == method_styles(reversed(names))
    assert len({colour for colour, _ in method_styles(names[:8]).values()}) == len(COLOURS)
    assert method_styles(["coop"])["coop"] == method_styles(["coop", "zzz"])["coop"]


def test_file_names_are_safe_and_unique() -> None:
    odd = file_name("shots", "../a b", "x" * 400)
    assert "/" not in odd and len(odd) < 200
    assert file_name("shots", "a/b") != file_name("shots", "a_b")
    assert file_name("shots", "a", versions=["1"]) != file_name("shots", "a", versions=["2"])


def test_no_pyplot() -> None:
    """A figure pyplot knows about would stay in memory for ever."""
    for path in Path(results.__file__).parent.rglob("*.py"):
        assert "matplotlib.pyplot" not in path.read_text(), path
