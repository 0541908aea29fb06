"""One table of the leaderboard as blocks: the comparison, further metrics, remarks, every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.document import Block, Bullets, Cell, Code, Details, Heading, Table, Text, plain_table
from results.frames import label_of
from results.statistics import sampling_half_width
from results.tables import Grid, Row
from results.wording import EMPTY, cell_text, counted, percent, replicate_text, shots_text


def board_blocks(grid: Grid, title: str, comparisons: Sequence[Block] = ()) -> list[Block]:
    """A heading and all that is known about one table; `comparisons` stand behind the remarks."""
    blocks: list[Block] = [Heading(title), main_table(grid, title)]
    if metrics := _metric_table(grid, title):
        blocks.append(metrics)
    if remarks := _remarks(grid):
        blocks.append(Bullets(tuple((line,) for line in remarks)))
    seeds = _seed_table(grid, title)
    return [*blocks, *comparisons, Details(f"Every seed: {grid.headline} in %", (seeds,))]


def main_table(grid: Grid, title: str) -> Table:
    """Value, interval, n and rank interval of every method at every shot count."""
    body = []
    for row in grid.rows:
        line = [Cell(row.label)]
        for shots in grid.columns:
            entry, standing = row.at(shots), row.standings.get(shots)
            text = EMPTY if entry is None else cell_text(entry)
            alone = sum(shots in other.standings for other in grid.rows) < 2
            if entry is None or entry["n"] == 0 or standing is None or alone:
                line.append(Cell(text))
            else:
                line.append(Cell(text, strong=standing.tied, rank=standing.ranks))
        body.append(tuple(line))
    return Table(
        title,
        _caption(grid),
        ("method", *(shots_text(shots) for shots in grid.columns)),
        tuple(body),
        "l" + "r" * len(grid.columns),
        sum(not row.trains for row in grid.rows),
    )


def _caption(grid: Grid) -> Text:
    measured = grid.board[grid.board["n"] > 0]
    compared = sum(bool(row.standings) for row in grid.rows) > 1
    first = f"{grid.headline or 'not measured yet'} in %; protocol "
    parts: list[str | Code] = [first, Code(grid.protocol), ", backbone ", Code(grid.backbone), "."]
    if grid.oracle:
        parts.append(" Options were chosen on the split that is scored here.")
    if not measured.empty:
        parts.append(" Mean ± half-width of the 95 % Student-t interval over runs (number of runs)")
        parts.append(", then the interval of possible ranks. " if compared else ".")
    if compared:
        parts.append(
            "Bold: statistically tied with the best of the column, that is not significantly "
            "below it (paired by query and seed; Holm over all pairs of the column, 5 %; what "
            "could not be compared counts as tied)."
        )
    elif sum(bool(_measured(row)) for row in grid.rows) > 1:
        parts.append(" Nothing is bold: these methods were not compared.")
    if len({row.trains for row in grid.rows}) > 1:
        parts.append(" Methods that train nothing stand in every column with their one value.")
    return tuple(parts)


def _measured(row: Row) -> list[int]:
    return [shots for shots, entry in row.by_shots.items() if entry["n"]]


def _metric_table(grid: Grid, title: str) -> Table | None:
    """Secondary metrics at the highest shot count, with the number of trained parameters."""
    measured = grid.board[~grid.board["headline"]]
    metrics = sorted(set(measured["metric"]))
    if not metrics:
        return None
    top = max(grid.columns)
    texts: dict[tuple[str, str], str] = {}
    for record in measured.to_dict("records"):
        if record["shots"] == (top if record["trains"] else 0):
            entry = {str(name): value for name, value in record.items()}
            texts[label_of(record), record["metric"]] = cell_text(entry)
    body = [
        [row.label, *(texts.get((row.label, m), EMPTY) for m in metrics), _parameters(row)]
        for row in grid.rows
    ]
    free = any(not row.trains for row in grid.rows) and top > 0
    where = f"at {shots_text(top)}" + (" (methods that train nothing: as they are)" if free else "")
    return plain_table(
        f"{title}, further metrics",
        f"Further metrics in %, {where}; no method is marked as best in them.",
        ["method", *metrics, "trained parameters"],
        body,
    )


def _parameters(row: Row) -> str:
    shots = _measured(row)
    return f"{max(row.by_shots[s]['trainable_parameters'] for s in shots):,}" if shots else EMPTY


def _remarks(grid: Grid) -> list[str]:
    """What the numbers are, and what they are not."""
    board = grid.board[grid.board["n"] > 0]
    if board.empty:
        return []
    fewest, most = int(board["n_queries_min"].min()), int(board["n_queries_max"].max())
    heads = board[board["headline"]]
    top = float(heads["mean"].max())
    asked = counted(most, "query", "queries")
    lines = [
        f"{asked if fewest == most else f'{fewest:,} to {asked}'}: sampling them alone is worth up "
        f"to ±{100 * sampling_half_width(top, fewest):.1f} points at {percent(top)} %, beside the "
        "seeds; one run has no interval over runs."
    ]
    lines.append(
        "Ties of candidates count against the method (the relevant one ranks last among equals); "
        f"at most {100 * board['tie_rate'].max():.2f} % of queries have one."
    )
    if grid.chance is not None:
        lines.append(f"Chance level: {percent(grid.chance)} %.")
    if any(entry["flagged"] for row in grid.rows for entry in row.by_shots.values()):
        lines.append("† a run is flagged (see flagged runs); it is part of the mean.")
    # Remarks often hold for all shot counts of a method: print each once.
    said = {
        f"{label_of(row)}: {remark}"
        for row in heads.to_dict("records")
        for remark in row["notes"].splitlines()
    }
    return lines + sorted(said)


def _seed_table(grid: Grid, title: str) -> Table:
    crossed = any(draw >= 0 for draws in grid.board["draws"] for draw in draws)
    body = [
        [row.label, str(shots), _seed_values(entry)]
        for row in grid.rows
        for shots, entry in sorted(row.by_shots.items())
    ]
    what = "draw/seed: value" if crossed else "seed: value"
    return plain_table(f"{title}, every seed", "", ["method", "shots", what], body, "lrl")


def _seed_values(entry: Mapping[str, Any]) -> str:
    runs = zip(entry["draws"], entry["seeds"], entry["values"], strict=True)
    texts = [f"{replicate_text(draw, seed)}: {100 * value:.2f}" for draw, seed, value in runs]
    texts += [f"{replicate_text(lost.draw, lost.seed)}: {lost.status}" for lost in entry["absent"]]
    return ", ".join(texts)
