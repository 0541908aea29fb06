"""All plots of a report, drawn when asked for and written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from results.answers import Answers
from results.drawing import MANY, pool
from results.figures import Styles, file_name, method_styles, save
from results.frames import TABLE
from results.plot_costs import cost_figure
from results.plot_intervals import ablation_figure, rank_figure
from results.plot_losses import loss_figure
from results.plot_overviews import heat_map, rank_diagram
from results.plot_shots import shot_figure
from results.tables import Grid, grids
from results.wording import empty_text

KINDS = ("shots", "ranks", "losses", "costs", "scores", "average-ranks", "ablation")
"""What a plot's file name begins with."""


@dataclass(frozen=True)
class Drawing:
    """A plot that can be drawn."""

    kind: str
    """One of `KINDS`."""
    about: str
    """`dataset/task`, or the backbone where it shows several datasets."""
    name: str
    """File name without ending."""
    draw: Callable[[], Figure]


def write_plots(answers: Answers, out: Path, processes: int = 1) -> list[Path]:
    """Draw everything there is to draw below `out`; returns the paths, sorted.

    Same answers, same bytes. processes: that draw side by side, where there are `MANY` plots; a
    script that asks for more than one needs the usual `if __name__ == "__main__"`.
    """
    every = [*drawings(answers)]
    if processes == 1 or len(every) < MANY:
        return sorted(path for one in every for path in save(one.draw, out, one.name))
    with pool(min(processes, len(every))) as drawing:
        written = [drawing.submit(save, one.draw, out, one.name) for one in every]
        return sorted(path for paths in written for path in paths.result())


def drawings(answers: Answers) -> Iterator[Drawing]:
    """Everything there is to draw.

    For each table: score over shots, rank intervals, loss curves, costs. For each backbone: a
    heat map of all datasets and, at two datasets and more, average ranks. For each ablated base:
    its effects.
    """
    tables = grids(answers.board)
    styles = method_styles(row.label for grid in tables for row in grid.rows)
    for grid in tables:
        yield from _of_table(grid, answers, styles)
    yield from _of_backbones(tables, answers, styles)
    yield from _of_ablations(answers.ablations)


def table_plot(kind: str, grid: Grid) -> str:
    """File name, without ending, of one plot of a table."""
    return file_name(kind, *grid.table[:4], versions=grid.table[4:])


def _of_table(grid: Grid, answers: Answers, styles: Styles) -> Iterator[Drawing]:
    yield _drawing("shots", grid, partial(shot_figure, grid, styles))
    standings = _rows_of(answers.standings, grid)
    if len(set(standings["label"])) > 1:
        draw = partial(rank_figure, f"{grid.title}: {grid.headline}", standings, styles)
        yield _drawing("ranks", grid, draw)
    curves = _rows_of(answers.curves[answers.curves["ablation_of"] == ""], grid)
    if not curves.empty:
        draw = partial(loss_figure, f"{grid.title}: training loss", curves, styles)
        yield _drawing("losses", grid, draw)
    costs = _rows_of(answers.costs, grid)
    costs = costs[(costs["shots"] == costs["shots"].max()) | ~costs["trains"]]
    if len(costs) > 1:
        title = f"{grid.title}: cost and quality, {_at(grid)}"
        draw = partial(cost_figure, title, grid.headline, costs, styles)
        yield _drawing("costs", grid, draw)


def _drawing(kind: str, grid: Grid, draw: Callable[[], Figure]) -> Drawing:
    return Drawing(kind, grid.title, table_plot(kind, grid), draw)


def _at(grid: Grid) -> str:
    most = max(grid.shots)
    return "no training" if most == 0 else f"{most} shot{'' if most == 1 else 's'}"


def _of_backbones(tables: list[Grid], answers: Answers, styles: Styles) -> Iterator[Drawing]:
    """Heat map and average ranks of the tables that share a backbone."""
    by_backbone: dict[tuple[str, str, bool], list[Grid]] = {}
    for grid in tables:
        shared = (grid.backbone, grid.backbone_version, grid.oracle)
        by_backbone.setdefault(shared, []).append(grid)
    for (backbone, version, oracle), mine in sorted(by_backbone.items()):
        titles = _distinct_titles(mine)
        scores: dict[tuple[str, str], float | str] = {}
        for grid, title in zip(mine, titles, strict=True):
            for row in grid.rows:
                entry = row.by_shots[max(row.by_shots)]
                shown = float(entry["mean"]) if entry["n"] else empty_text(entry["absent"])
                scores[row.label, title] = shown
        methods = sorted({label for label, _ in scores})
        caption = f"Backbone {backbone}; headline metric in %, each method at its most shots."
        name = file_name("scores", backbone, versions=(version, "oracle" if oracle else ""))
        draw = partial(heat_map, methods, titles, scores, caption)
        yield Drawing("scores", backbone, name, draw)
    for _, ranks in answers.overview.groupby(["backbone", "shots"], sort=True):
        if ranks["datasets"].max() > 1:
            backbone, shots = str(ranks["backbone"].iloc[0]), int(ranks["shots"].iloc[0])
            title = f"{backbone}, {shots} shot{'' if shots == 1 else 's'}: average ranks"
            name = file_name("average-ranks", backbone, f"{shots}shots")
            draw = partial(rank_diagram, title, ranks, styles)
            yield Drawing("average-ranks", backbone, name, draw)


def _distinct_titles(tables: list[Grid]) -> list[str]:
    """`dataset/task`, with protocol and version of the data where two are called the same."""
    titles = [grid.title for grid in tables]
    return [
        title if titles.count(title) == 1 else f"{title} ({grid.protocol}, {grid.data_version})"
        for grid, title in zip(tables, titles, strict=True)
    ]


def _of_ablations(effects: pd.DataFrame) -> Iterator[Drawing]:
    for group, rows in effects.groupby([*TABLE, "base"], sort=True):
        names = [str(name) for name in group]
        title = f"{names[0]}/{names[1]}: {names[-1]}"
        name = file_name("ablation", *names[:4], names[-1], versions=names[4:-1])
        about = f"{names[0]}/{names[1]}"
        yield Drawing("ablation", about, name, partial(ablation_figure, title, rows))


def _rows_of(frame: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """The rows of one table."""
    mask = pd.Series(True, index=frame.index)
    for name, value in zip(TABLE, grid.table, strict=True):
        mask &= frame[name] == value
    return frame[mask]
