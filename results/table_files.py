"""All table files of a report as text: Markdown, HTML, LaTeX and CSV of the same answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from results.answers import Answers
from results.board_section import board_blocks
from results.comparison_section import comparison_blocks, single_blocks
from results.document import Block, Heading, Paragraph
from results.effect_sections import ablation_blocks, published_blocks
from results.frames import TABLE
from results.html import render_html
from results.latex import render_latex
from results.markdown import render_markdown
from results.study_sections import (
    absent_blocks,
    flag_blocks,
    is_placed,
    ledger_blocks,
    left_out_blocks,
    overview_blocks,
    stage_blocks,
    variance_blocks,
    withheld_blocks,
)
from results.tables import Grid, grids, titles

_FORMATS: dict[str, Callable[[Sequence[Block]], str]] = {
    "md": render_markdown,
    "html": render_html,
    "tex": render_latex,
}


def table_files(answers: Answers) -> dict[str, str]:
    """File name -> content, sorted by name: `leaderboard.{md,html,tex,csv}` and so on.

    The same answers give the same bytes: no times, paths or host names.
    """
    tables = answer_grids(answers)
    documents = {
        "leaderboard": leaderboard_blocks(answers, tables),
        "ablations": [Heading("Ablations", 1), *ablation_blocks(answers.ablations, _names(tables))],
        "published": [
            Heading("Published numbers", 1),
            *published_blocks(answers.gaps, _names(tables)),
        ],
        # By itself: seconds differ between runs that agree in everything else.
        "tuning": [Heading("Tuning ledger", 1), *ledger_blocks(answers.ledger)],
    }
    files = {
        f"{name}.{ending}": render(blocks)
        for name, blocks in documents.items()
        for ending, render in _FORMATS.items()
    }
    files["leaderboard.csv"] = leaderboard_csv(answers.board)
    files["standings.csv"] = plain_csv(answers.standings)
    files["comparisons.csv"] = plain_csv(answers.comparisons)
    files["ablations.csv"] = plain_csv(answers.ablations)
    files["published.csv"] = plain_csv(answers.gaps)
    files["tuning.csv"] = plain_csv(answers.ledger)
    return dict(sorted(files.items()))


def answer_grids(answers: Answers) -> list[Grid]:
    """The tables of the answers, with ties and flags."""
    board = answers.board[is_placed(answers.board, TABLE)]
    return grids(board, answers.standings, answers.flags)


def leaderboard_blocks(answers: Answers, tables: Sequence[Grid]) -> list[Block]:
    """The whole leaderboard as blocks."""
    pairs = dict(iter(answers.comparisons.groupby(list(TABLE), sort=True)))
    alone = dict(iter(answers.singles.groupby(list(TABLE), sort=True)))
    stands = dict(iter(answers.standings.groupby(list(TABLE), sort=True)))
    blocks: list[Block] = [Heading("Leaderboard", 1)]
    if not tables and answers.withheld.empty:
        blocks.append(Paragraph(("No records yet.",)))
    for grid, title in zip(tables, titles(tables), strict=True):
        compared: list[Block] = []
        if grid.table in alone:
            compared += single_blocks(alone[grid.table])
        if grid.table in pairs and grid.table in stands:
            compared += comparison_blocks(
                title, grid.columns, pairs[grid.table], stands[grid.table]
            )
        blocks += board_blocks(grid, title, compared)
    blocks += flag_blocks(answers.flags)
    blocks += stage_blocks(answers.stages)
    blocks += absent_blocks(answers.absent)
    blocks += withheld_blocks(answers.withheld)
    if not answers.gaps.empty:
        blocks.append(Heading("Published numbers"))
        blocks += published_blocks(answers.gaps, _names(tables), level=3)
    blocks += variance_blocks(answers.variance)
    blocks += overview_blocks(answers.overview)
    return blocks + left_out_blocks(answers.left_out)


def leaderboard_csv(board: pd.DataFrame) -> str:
    """The board without ablations: fractions, every run's value, absent cells with reasons."""
    flat = board[board["ablation_of"] == ""].copy()
    for column in ("seeds", "draws", "values"):
        flat[column] = [";".join(repr(entry) for entry in entries) for entries in flat[column]]
    flat["absent"] = ["; ".join(str(absence) for absence in entry) for entry in flat["absent"]]
    flat["notes"] = flat["notes"].str.replace("\n", " | ")
    return plain_csv(flat, ("mean", "half_width"))


def plain_csv(frame: pd.DataFrame, rounded: Sequence[str] | None = None) -> str:
    """A frame as CSV; six decimals in `rounded`, by default in all columns of floats.

    Beyond them scipy's quantiles and the order of sums may differ between versions.
    """
    flat = frame.copy()
    names = flat.select_dtypes("float").columns if rounded is None else rounded
    for name in names:
        flat[name] = [_decimal(float(value)) for value in flat[name]]
    return flat.to_csv(index=False, lineterminator="\n")


def _decimal(value: float) -> str:
    text = "" if math.isnan(value) else f"{value:.6f}"
    return "0.000000" if text == "-0.000000" else text


def _names(tables: Sequence[Grid]) -> dict[tuple[str, ...], str]:
    return dict(zip((grid.table for grid in tables), titles(tables), strict=True))
