"""What all figures share: colours and markers of methods, canvas, bytes. Same data, same bytes.

No pyplot: its figures are global state, and a server or a test would leak them.
"""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from results.atomic import write_whole

# Okabe and Ito's colours for all kinds of colour vision, without their yellow (too pale on
# white), with Tol's wine in its place. Markers repeat the distinction without any colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#666666"
FORMATS = ("png", "svg")
_CANVAS = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG}

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


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that no global state knows."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes, title: str = "", grid: str = "y") -> None:
    """The look of all axes: a title at the left, faint lines along `grid`, no box."""
    if title:
        axes.set_title(escaped(title), loc="left", fontweight="bold")
    if grid:
        axes.grid(axis="x" if grid == "x" else "y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def captioned(figure: Figure, lines: Sequence[str], width: int = 130) -> None:
    """Say below a figure what it shows."""
    text = textwrap.fill(escaped(" ".join(lines)), width)
    figure.supxlabel(text, fontsize=8, color=GREY, x=0.01, ha="left")


def legend(figure: Figure, axes: Axes) -> None:
    """A legend outside the axes, so that it never covers data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)


def escaped(text: str) -> str:
    """A name as it is: matplotlib reads what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def file_name(kind: str, *names: str, versions: Sequence[str] = ()) -> str:
    """File name without ending, safe for any file system and unique for these names."""
    readable = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", name) for name in names)
    digest = hashlib.sha256("\0".join([*names, *versions]).encode()).hexdigest()[:6]
    return f"{kind}-{readable[:150]}-{digest}"


def rendered(figure: Figure, file_format: str) -> bytes:
    """The figure's bytes, without dates, versions or random identifiers."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[file_format]
    stream = io.BytesIO()
    with (
        matplotlib.style.context("default"),
        matplotlib.rc_context({"svg.hashsalt": "promptgrid"}),
    ):
        # `savefig` would draw everything once more beforehand, to no effect.
        canvas: Any = _CANVAS[file_format](figure)
        getattr(canvas, f"print_{file_format}")(stream, metadata=metadata)
    return stream.getvalue()


def save(draw: Callable[[], Figure], folder: Path, name: str) -> list[Path]:
    """Draw a figure, whatever the user's matplotlibrc says, and write it in all `FORMATS`."""
    with matplotlib.style.context("default"):
        figure = draw()
        layout = figure.get_layout_engine()
        if layout is not None:
            layout.execute(figure)
    figure.set_layout_engine("none")  # laid out once, not again for each format
    paths = []
    for file_format in FORMATS:
        path = folder / f"{name}.{file_format}"
        write_whole(path, rendered(figure, file_format))
        paths.append(path)
    return paths
