"""The report: tables and plots of a study, as a pure function of its records.

Finishing a cell, interrupting a study or moving the store changes no byte of what the same
records give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.absent import absent_cells, restrict
from results.atomic import write_whole
from results.frames import from_records
from results.markdown import leaderboard_md
from results.plots import FORMATS, shot_curves
from results.stages import stage_cells
from results.store import RecordStore
from results.tables import leaderboard, leaderboard_csv
from results.withheld import to_be_measured, withheld_cells


def write_report(
    root: Path, out: Path, expected: Sequence[Mapping[str, Any]] | None = None
) -> list[Path]:
    """Write `out/tables/leaderboard.{md,csv}` and `out/plots/*`; returns the paths, sorted.

    `expected` are the study's cells (see `absent.absent_cells`): those without a record are
    named as missing or failed, and records outside the study are left out, with their count.
    Records whose targets are withheld are named with the way to submit them; stages have a table
    of their own.
    """
    store = RecordStore(root)
    records = store.read_all()
    frame = restrict(from_records(records), expected)
    failures = store.failures()
    withheld = withheld_cells(records, expected)
    measured = to_be_measured(expected, withheld)
    board = leaderboard(frame, measured, failures)
    absent = absent_cells(frame, measured, failures)
    stages = stage_cells(records, expected)
    left_out = len(records) - frame["key"].nunique() - len(withheld) - len(stages)

    tables = {
        out / "tables" / "leaderboard.md": leaderboard_md(
            board, absent, left_out, withheld, stages
        ),
        out / "tables" / "leaderboard.csv": leaderboard_csv(board),
    }
    for path, text in tables.items():
        write_whole(path, text.encode())
    plots = shot_curves(frame, out / "plots")
    _remove_stale(out / "plots", plots)
    return sorted([*tables, *plots])


def _remove_stale(folder: Path, current: Sequence[Path]) -> None:
    """Delete shot plots of an earlier report, of data sets that no longer have records."""
    for file_format in FORMATS:
        for path in folder.glob(f"shots-*.{file_format}"):
            if path not in current:
                path.unlink(missing_ok=True)
