"""The report: tables and plots as a pure function of records.

Finishing a cell, interrupting a study or moving the store changes no byte of what the same
records give.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from results.answers import Answers, Expected, Source, answers
from results.atomic import write_whole
from results.figures import FORMATS
from results.plots import KINDS, write_plots
from results.store import RecordStore
from results.table_files import table_files


def write_report(source: Source | Path, out: Path, expected: Expected | None = None) -> list[Path]:
    """Write `out/tables/*` and `out/plots/*` from a store; returns the paths, sorted.

    source: a run's folder, or what is read like a `RecordStore`.
    expected: the study's cells; see `answers.answers`, which has the errors too.
    """
    store = RecordStore(source) if isinstance(source, Path) else source
    return write_answers(answers(store, expected), out)


def write_answers(found: Answers, out: Path, processes: int = 1) -> list[Path]:
    """Write the report of what was computed already; returns the paths, sorted.

    Each file is written whole. Those of an earlier report that this one does not have are deleted;
    other files are left alone. processes: see `plots.write_plots`.
    """
    tables = []
    for name, text in table_files(found).items():
        path = out / "tables" / name
        write_whole(path, text.encode())
        tables.append(path)
    plots = write_plots(found, out / "plots", processes)
    _remove_stale(out / "plots", plots)
    return sorted([*tables, *plots])


def _remove_stale(folder: Path, current: Sequence[Path]) -> None:
    """Delete plots of an earlier report, of data sets that no longer have records."""
    for kind, file_format in product(KINDS, FORMATS):
        for path in folder.glob(f"{kind}-*.{file_format}"):
            if path not in current:
                path.unlink(missing_ok=True)
