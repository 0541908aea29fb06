"""The report on images that a build could not read: a summary for the eye, and the whole list."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_recipes.core.write import Failure, write_whole

SHOWN = 20


def failures_file(folder: Path) -> Path:
    """Where the list of a dataset's failures lies: beside its folder."""
    return folder.with_name(f"{folder.name}.failures.csv")


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write all failures as CSV (id, path, reason); without any, remove an earlier list."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("id", "path", "reason"))
    lines.writerows((f.id, f.path or "", f.reason) for f in failures)
    write_whole(path, text.getvalue().encode())


def describe(failures: Sequence[Failure]) -> str:
    """The first failures, one line each, and how many there are of each kind."""
    shown = "".join(
        f"  {f.id}: {f'{f.path}: ' if f.path else ''}{f.reason}\n" for f in failures[:SHOWN]
    )
    rest = len(failures) - SHOWN
    more = f"  ... and {rest} more\n" if rest > 0 else ""
    return f"{shown}{more}by reason: {by_reason(failures)}"


def by_reason(failures: Sequence[Failure]) -> str:
    """ "3 x empty file, 1 x ...", the most frequent first; numbers in reasons make no new kind."""
    kinds: dict[str, list[str]] = {}
    for failure in failures:
        kinds.setdefault(re.sub(r"\d+", "#", failure.reason), []).append(failure.reason)
    counts = Counter({kind: len(reasons) for kind, reasons in kinds.items()})
    return ", ".join(
        f"{count} x {kinds[kind][0] if len(set(kinds[kind])) == 1 else kind}"
        for kind, count in counts.most_common()
    )
