"""`leaderboard.md`: the board laid out for reading. Pure functions from frames to text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.absent import UNKNOWN, Absence
from results.frames import TABLE, label_of
from results.stages import ABOUT, HEADER, stage_lines
from results.statistics import sampling_half_width
from results.tables import Grid, Row, cell_text, grids
from results.withheld import HOW_TO_SUBMIT

EMPTY = "—"


def leaderboard_md(
    board: pd.DataFrame,
    absent: pd.DataFrame,
    left_out: int = 0,
    withheld: pd.DataFrame | None = None,
    stages: pd.DataFrame | None = None,
) -> str:
    """The whole leaderboard; `left_out` counts stored records that are not the study's.

    withheld: from `withheld.withheld_cells`; they have no number and get a list of their own.
    stages: from `stages.stage_cells`; they get a table of their own.
    Holds no times, no paths or host names: the same records give the same bytes.
    """
    blocks = ["# Leaderboard"]
    tables = grids(board[(board[list(TABLE)] != UNKNOWN).all(axis="columns")])
    unscored = withheld is not None and not withheld.empty
    if not tables and not unscored:
        blocks.append("No records yet.")
    for grid in tables:
        blocks += _table_blocks(grid)
    if stages is not None and not stages.empty:
        blocks += ["## Stages", ABOUT, _pipe_table(HEADER, stage_lines(stages))]
    if not absent.empty:
        blocks += _absent_blocks(absent)
    if withheld is not None and unscored:
        blocks += _withheld_blocks(withheld)
    if left_out:
        blocks.append(
            f"{left_out} stored record{'s' if left_out > 1 else ''} of other studies or older "
            "configurations left out."
        )
    return "\n\n".join(blocks) + "\n"


def _table_blocks(grid: Grid) -> list[str]:
    blocks = [
        f"## {grid.title} · {grid.backbone}",
        f"{grid.headline or 'not measured yet'} in %; protocol `{grid.protocol}`, "
        f"backbone `{grid.backbone}`.",
        _shot_table(grid),
    ]
    if secondary := _metric_table(grid):
        blocks += [f"Further metrics in %, {_where(grid)}:", secondary]
    if footnotes := _footnotes(grid):
        blocks.append("\n".join(f"- {line}" for line in footnotes))
    blocks.append(
        f"<details><summary>Every seed: {grid.headline} in %</summary>\n\n{_seed_table(grid)}"
        "\n\n</details>"
    )
    return blocks


def _shot_table(grid: Grid) -> str:
    header = ["method", *(_shots_heading(shots) for shots in grid.shots)]
    body = []
    for row in grid.rows:
        line = [row.label]
        for shots in grid.shots:
            entry = row.by_shots.get(shots)
            text = EMPTY if entry is None else cell_text(entry)
            is_best = entry is not None and entry["mean"] == grid.best(shots)
            line.append(f"**{text}**" if is_best and len(grid.rows) > 1 else text)
        body.append(line)
    return _pipe_table(header, body)


def _shots_heading(shots: int) -> str:
    if shots == 0:
        return "0 shots"
    return "1 shot" if shots == 1 else f"{shots} shots"


def _metric_table(grid: Grid) -> str:
    """Secondary metrics at the highest shot count, with the number of trained parameters."""
    measured = grid.board[~grid.board["headline"]]
    metrics = sorted(set(measured["metric"]))
    if not metrics:
        return ""
    top = max(grid.shots)
    at = {row.label: top if max(row.by_shots) > 0 else 0 for row in grid.rows}
    texts: dict[tuple[str, str], str] = {}
    for record in measured.to_dict("records"):
        label = label_of(record)
        if record["shots"] == at[label]:
            entry = {str(name): value for name, value in record.items()}
            texts[label, record["metric"]] = cell_text(entry)
    body = [
        [row.label, *(texts.get((row.label, m), EMPTY) for m in metrics), _parameters(row)]
        for row in grid.rows
    ]
    return _pipe_table(["method", *metrics, "trained parameters"], body)


def _parameters(row: Row) -> str:
    measured = [entry for entry in row.by_shots.values() if entry["n"]]
    return f"{max(e['trainable_parameters'] for e in measured):,}" if measured else EMPTY


def _where(grid: Grid) -> str:
    top = max(grid.shots)
    if top == 0:
        return "0 shots"
    free = any(not row.trains for row in grid.rows)
    return f"at {_shots_heading(top)}" + (" (untrained methods: as they are)" if free else "")


def _footnotes(grid: Grid) -> list[str]:
    """What the numbers are, and what they are not."""
    board = grid.board[grid.board["n"] > 0]
    if board.empty:
        return []
    fewest, most = int(board["n_queries_min"].min()), int(board["n_queries_max"].max())
    heads = board[board["headline"]]
    top = float(heads["mean"].max())
    sampling = 100 * sampling_half_width(top, fewest)
    lines = [
        "mean ± half-width of the 95 % Student-t interval over seeds (number of seeds); "
        "one seed has no interval.",
        f"{fewest if fewest == most else f'{fewest} to {most}'} queries: sampling them alone is "
        f"worth up to ±{sampling:.1f} points at {100 * top:.1f} %, beside the seeds. "
        "**Bold** is the highest mean of a column, not a significant difference.",
        "Ties count against the method (the relevant candidate ranks last among equals); "
        f"at most {100 * board['tie_rate'].max():.2f} % of queries have one.",
    ]
    if grid.chance is not None:
        lines.append(f"Chance level: {100 * grid.chance:.1f} %.")
    for row in heads[heads["collapsed_seeds"].map(len) > 0].to_dict("records"):
        seeds = ", ".join(str(seed) for seed in row["collapsed_seeds"])
        lines.append(
            f"† {label_of(row)}, {_shots_heading(row['shots'])}: "
            f"seed {seeds} has less than half of the best seed's score and looks collapsed. "
            "It is part of the mean."
        )
    # Remarks often hold for all shot counts of a method: print each once.
    said = {
        f"{label_of(row)}: {remark}"
        for row in heads.to_dict("records")
        for remark in row["notes"].splitlines()
    }
    return lines + sorted(said)


def _seed_table(grid: Grid) -> str:
    body = [
        [row.label, str(shots), _seed_values(entry["seeds"], entry["values"], entry["absent"])]
        for row in grid.rows
        for shots, entry in sorted(row.by_shots.items())
    ]
    return _pipe_table(["method", "shots", "seed: value"], body, align=":--")


def _seed_values(seeds: Sequence[int], values: Sequence[float], absent: Sequence[Absence]) -> str:
    texts = [f"{seed}: {100 * value:.2f}" for seed, value in zip(seeds, values, strict=True)]
    texts += [f"{absence.seed}: {absence.status}" for absence in absent]
    return ", ".join(texts)


def _absent_blocks(absent: pd.DataFrame) -> list[str]:
    body = [
        [
            f"{row['dataset']}/{row['task']}",
            label_of(row) + (" (stage)" if row["stage"] else ""),
            UNKNOWN if row["shots"] < 0 else str(row["shots"]),
            UNKNOWN if row["seed"] < 0 else str(row["seed"]),
            row["protocol"],
            row["backbone"],
            row["status"] + (f": {row['reason']}" if row["reason"] else ""),
            row["key"],
        ]
        for row in absent.to_dict("records")
    ]
    header = ["dataset", "method", "shots", "seed", "protocol", "backbone", "state", "key"]
    failed = int((absent["status"] == "failed").sum())
    return [
        "## Missing and failed cells",
        f"{len(absent) - failed} missing, {failed} failed.",
        _pipe_table(header, body, align=":--"),
    ]


def _withheld_blocks(withheld: pd.DataFrame) -> list[str]:
    header = ["dataset", "method", "shots", "seed", "protocol", "backbone", "queries", "key"]
    body = [
        [
            f"{row['dataset']}/{row['task']}",
            label_of(row),
            str(row["shots"]),
            str(row["seed"]),
            row["protocol"],
            row["backbone"],
            str(row["n_queries"]),
            row["key"],
        ]
        for row in withheld.to_dict("records")
    ]
    return [
        "## Withheld targets",
        "The targets of these splits are not public, so no metric can be computed here. Write and "
        f"check the files for the test server with `{HOW_TO_SUBMIT}`, and note its answer with "
        "`promptgrid submit RUN_FOLDER --sent ID --score NAME=VALUE`.",
        _pipe_table(header, body, align=":--"),
    ]


def _pipe_table(header: Sequence[str], body: Sequence[Sequence[str]], align: str = "--:") -> str:
    """A GitHub table: first column left, the others aligned right, as numbers are."""
    rules = [":--", *(align for _ in header[1:])]
    lines = [[_escape(text) for text in line] for line in [header, *body]]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rules, *lines[1:]])


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
