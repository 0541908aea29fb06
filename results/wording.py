"""Numbers as tables and the terminal print them: few decimals, so that no rounding shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.absent import UNKNOWN, Absence

EMPTY = "—"


def cell_text(entry: Mapping[str, Any]) -> str:
    """`45.1 ± 1.2 (3)` in percent; `(2 of 3)` where cells are absent; else why it is empty."""
    if entry["n"] == 0:
        return empty_text(entry["absent"])
    complete = entry["n"] == entry["n_expected"]
    count = f"({entry['n']})" if complete else f"({entry['n']} of {entry['n_expected']})"
    text = f"{with_half_width(entry['mean'], entry['half_width'])} {count}"
    return text + (" †" if entry.get("flagged") else "")


def empty_text(absent: Sequence[Absence]) -> str:
    """What stands in a cell none of whose seeds has a record."""
    return "failed" if any(absence.status == "failed" for absence in absent) else "missing"


def with_half_width(mean: float, half_width: float) -> str:
    """`45.1 ± 1.2` in percent; one value has no interval."""
    return percent(mean) + ("" if math.isnan(half_width) else f" ± {100 * half_width:.1f}")


def percent(fraction: float) -> str:
    """`45.1`."""
    return EMPTY if math.isnan(fraction) else f"{100 * fraction:.1f}"


def points(difference: float) -> str:
    """A difference in percentage points: `+1.2`, `-0.3`, `0.0`."""
    if math.isnan(difference):
        return EMPTY
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def interval(low: float, high: float) -> str:
    """`-0.3 to +2.7` in percentage points."""
    return EMPTY if math.isnan(low) or math.isnan(high) else f"{points(low)} to {points(high)}"


def probability(p: float) -> str:
    """`0.031`; `< 0.001` below that."""
    if math.isnan(p):
        return EMPTY
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def decimal(value: float, digits: int = 2) -> str:
    """A plain number."""
    return EMPTY if math.isnan(value) else f"{value:.{digits}f}"


def shots_text(shots: int) -> str:
    """`0 shots`, `1 shot`; what a failure does not state is `?`."""
    if shots < 0:
        return f"{UNKNOWN} shots"
    return "1 shot" if shots == 1 else f"{shots} shots"


def known(number: int) -> str:
    """A count or seed; -1 is what a failure does not state."""
    return UNKNOWN if number < 0 else str(number)


def replicate_text(draw: int, seed: int) -> str:
    """`3`; `2/3` is draw 2, seed 3, where a study crosses them."""
    return known(seed) if draw < 0 else f"{draw}/{known(seed)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 pair`, `3 pairs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
