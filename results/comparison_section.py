"""Pairs of methods that were compared, as blocks: one folded table for each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from results.compare import detectable_line
from results.document import Block, Details, Paragraph, plain_table
from results.frames import label_of
from results.wording import (
    EMPTY,
    counted,
    decimal,
    interval,
    known,
    percent,
    points,
    probability,
    shots_text,
)

MOST_PAIRS = 45
"""Of more pairs (beyond ten methods) only those with the best of the column are printed."""

_HEADER = (
    "first",
    "second",
    "difference",
    "95 % interval",
    "Holm p",
    "effect",
    "won / lost",
    "detectable",
    "runs",
    "queries",
    "note",
)
_ABOUT = (
    "First minus second in percentage points; effect: mean difference over its standard "
    "deviation; won / lost: % of queries; detectable: the smallest true difference that this "
    "comparison finds with 80 % power."
)


def comparison_blocks(
    title: str, columns: Sequence[int], pairs: pd.DataFrame, standings: pd.DataFrame
) -> list[Block]:
    """Folded tables, one for each of `columns`, of one table's `comparisons` and `standings`."""
    blocks: list[Block] = []
    for shots in columns:
        column = pairs[pairs["shots"] == shots]
        stands = standings[standings["shots"] == shots]
        best = set(stands.loc[stands["best"].astype(bool), "label"])
        if not column.empty:
            blocks.append(_column(title, shots, column, best))
    return blocks


def single_blocks(intervals: pd.DataFrame) -> list[Block]:
    """One paragraph on one table's `single.single_run_intervals`; nothing where there are none."""
    if intervals.empty:
        return []
    texts = [
        f"{label_of(row)} {percent(row['value'])} ({percent(row['low'])} to {percent(row['high'])})"
        for row in intervals.to_dict("records")
    ]
    about = "Methods that train nothing, 95 % interval over queries (cluster bootstrap): "
    return [Paragraph((about + ", ".join(texts) + ".",))]


def _column(title: str, shots: int, pairs: pd.DataFrame, best: set[str]) -> Details:
    differ = int((pairs["p_holm"] < 0.05).sum())
    summary = (
        f"Comparisons at {shots_text(shots)}: {counted(len(pairs), 'pair')}, "
        f"{differ} significantly different"
    )
    if unknown := int(pairs["p_holm"].isna().sum()):
        summary += f", {unknown} that could not be compared"
    seen = detectable_line(pairs)
    shown, left = pairs, f" {seen[:1].upper()}{seen[1:]}." if seen else ""
    if len(pairs) > MOST_PAIRS and best:
        shown = pairs[pairs["first"].isin(best) | pairs["second"].isin(best)]
        left += f" Of {len(pairs)} pairs those with the best method; comparisons.csv has all."
    table = plain_table(
        f"{title}, comparisons at {shots_text(shots)}",
        _ABOUT + left,
        _HEADER,
        [_line(row) for row in shown.to_dict("records")],
        "llrrrrrrrrl",
    )
    return Details(summary, (table,))


def _line(row: dict[Any, Any]) -> list[str]:
    outcomes = EMPTY
    if row["won"] == row["won"]:  # not NaN
        outcomes = f"{percent(row['won'])} / {percent(row['lost'])}"
    return [
        row["first"],
        row["second"],
        points(row["difference"]),
        interval(row["low"], row["high"]),
        probability(row["p_holm"]),
        decimal(row["effect"]),
        outcomes,
        percent(row["detectable"]),
        known(int(row["replicates"])),
        f"{int(row['queries']):,}" if row["queries"] == row["queries"] else EMPTY,
        row["note"],
    ]
