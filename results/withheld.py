"""Records of test splits whose targets are not public: no number, but named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.absent import restrict
from results.frames import REPLICATE, SERIES, is_stage, place

WITHHELD_COLUMNS = (*SERIES, "shots", *REPLICATE, "n_queries", "study", "key")
HOW_TO_SUBMIT = "promptgrid submit RUN_FOLDER --key KEY --out DIR"


def withheld_cells(
    records: Iterable[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """`WITHHELD_COLUMNS` of the study's records without targets, sorted.

    expected: the study's cells (see `absent.absent_cells`); None takes all records.
    """
    rows = [
        {
            **place(record["cell"]),
            "study": record["cell"]["study"],
            "n_queries": record["n_queries"],
            "key": record["key"],
        }
        for record in records
        if record.get("withheld") and not is_stage(record)
    ]
    frame = restrict(pd.DataFrame(rows, columns=list(WITHHELD_COLUMNS)), expected)
    return frame.sort_values([*SERIES, "shots", *REPLICATE, "key"], ignore_index=True)


def to_be_measured(
    expected: Sequence[Mapping[str, Any]] | None, withheld: pd.DataFrame
) -> list[Mapping[str, Any]] | None:
    """The study's cells without those of `withheld`, which are finished and have no number."""
    if expected is None:
        return None
    done = set(withheld["key"])
    return [cell for cell in expected if cell["key"] not in done]


def withheld_lines(withheld: pd.DataFrame) -> list[str]:
    """What the terminal says about them; empty where there is none."""
    if withheld.empty:
        return []
    count = len(withheld)
    return [
        f"withheld: {count} cell{'s' if count > 1 else ''} ran on a split whose targets are not "
        f"public; submit with `{HOW_TO_SUBMIT}`"
    ]
