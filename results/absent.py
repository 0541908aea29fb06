"""Cells of a study without a record: missing or failed. They are named, never left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.frames import REPLICATE, SERIES, place

ABSENT_COLUMNS = (*SERIES, "shots", *REPLICATE, "status", "reason", "key", "stage")

EXTERNAL = "external"
"""The study of records that were scored from another system's prediction files."""

UNKNOWN = "?"
"""Stands for a coordinate that neither the study nor the failure states."""

# Failure reasons are printed: strip what differs between machines, so that reports compare.
_PATH = re.compile(r"(?<![\w.])(?:~|[A-Za-z]:)?(?:[/\\][\w.+@=-]+){2,}[/\\]?")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")
_ENDPOINT = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
_LONGEST_REASON = 160
_LABELS = ("study", "variant", "backbone", "ablation_of", "oracle")


@dataclass(frozen=True)
class Absence:
    """One seed that a group of the board lacks."""

    seed: int
    status: str
    reason: str
    draw: int = -1
    """-1 where the seed draws the shots too."""

    def __str__(self) -> str:
        """`seed 3 failed: out of memory`; `draw 2, seed 3 missing`."""
        where = f"draw {self.draw}, " if self.draw >= 0 else ""
        state = f"{self.status}: {self.reason}" if self.reason else self.status
        return f"{where}seed {self.seed} {state}"


def restrict(frame: pd.DataFrame, expected: Sequence[Mapping[str, Any]] | None) -> pd.DataFrame:
    """The rows of the study's own cells, under its own names; all rows without a study.

    Labels are no part of a cell's identity: a record may have been made for another study that
    called the same variant or backbone otherwise, had it as an ablation or as a method of its own,
    or chose its options elsewhere. Systems scored from prediction files belong to every study of
    the folder they were put into.
    """
    if expected is None:
        return frame
    by_key = {
        str(cell["key"]): {**cell, "oracle": place(cell)["oracle"]} if "selection" in cell else cell
        for cell in expected
    }
    mine = frame["key"].isin(by_key) | (frame["study"] == EXTERNAL)
    own = frame[mine].reset_index(drop=True)
    for name in [name for name in _LABELS if name in own]:
        own[name] = [
            str(by_key.get(key, {}).get(name, stored) or "")
            for key, stored in zip(own["key"], own[name], strict=True)
        ]
    return own


def absent_cells(
    frame: pd.DataFrame,
    expected: Sequence[Mapping[str, Any]] | None = None,
    failures: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Cells without a record, sorted: `ABSENT_COLUMNS`, status `missing` or `failed`.

    `expected` are flat dicts with `key` and the coordinates of a record's `cell`. Without it,
    only failures are known, and their own `cell` names them. Of stages only failures are named:
    `frame` does not tell whether they have a record.
    """
    failures = failures or {}
    done = set(frame["key"])
    if expected is None:
        cells = {key: failure.get("cell") or {} for key, failure in failures.items()}
    else:
        cells = {str(cell["key"]): dict(cell) for cell in expected}
    rows = [
        {
            **place(cell, UNKNOWN),
            "status": "failed" if key in failures else "missing",
            "reason": reason_line(str(failures[key]["reason"])) if key in failures else "",
            "key": key,
            "stage": bool(cell.get("stage")),
        }
        for key, cell in cells.items()
        if key not in done and (key in failures or not cell.get("stage"))
    ]
    absent = pd.DataFrame(rows, columns=list(ABSENT_COLUMNS)).astype({"stage": bool})
    return absent.sort_values([*SERIES, "shots", *REPLICATE, "key"], ignore_index=True)


def reason_line(reason: str) -> str:
    """The line of an error that says what happened, without paths, addresses and endpoints.

    The first line; of a traceback the last one, where Python puts the exception.
    """
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    line = _PATH.sub("<path>", line)
    line = _ADDRESS.sub("<address>", line)
    line = _ENDPOINT.sub("<endpoint>", line)
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"
