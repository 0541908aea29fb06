"""Numbers that papers and repositories print, each with where it was read; read from the CSVs here.

`sources.csv`: code, title, address, year, second_hand, how (table, text, figure). Every other file
is one family of datasets with one number a row:

- `their_*`, `printed`: as the source prints it, in percent;
- `method`, `options`, `backbone`, `dataset`, `task`, `protocol`, `trained_on`, `shots`, `metric`:
  what it is called here; empty where there is no counterpart, or the source does not say. `options`
  is JSON: what the method's options must be; `backbone` is a record's label;
- `second_hand`: the value was not read where those who measured it printed it;
- `note`: what is inferred, or stands against a comparison.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import pandas as pd

PUBLISHED_COLUMNS = (
    "method",
    "options",
    "backbone",
    "dataset",
    "task",
    "protocol",
    "trained_on",
    "shots",
    "metric",
    "value",
    "source",
    "address",
    "second_hand",
    "note",
    "their_method",
    "their_backbone",
    "their_dataset",
    "their_split",
    "their_metric",
    "printed",
)
UNSTATED = -1
"""`shots` where the source does not say, or there are none to speak of."""

_SOURCES = "sources.csv"


@cache
def sources() -> pd.DataFrame:
    """The sources by their code: title, address, year, second_hand (bool), how."""
    table = _read(_SOURCES).set_index("code")
    return table.assign(
        year=table["year"].astype(int), second_hand=_flags(_SOURCES, table["second_hand"])
    )


@cache
def published() -> pd.DataFrame:
    """Every published number: `PUBLISHED_COLUMNS`, file by file.

    `value` is a fraction, `printed` the text of the source; `options` is a JSON text or "".

    Raises:
        ValueError: a CSV was edited into something else: no number, no such source, no JSON.
    """
    names = sorted(
        entry.name
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".csv") and entry.name != _SOURCES
    )
    return pd.concat([_family(name) for name in names], ignore_index=True)


def _family(name: str) -> pd.DataFrame:
    table = _read(name)
    unknown = sorted(set(table["source"]) - set(sources().index))
    if unknown:
        raise ValueError(f"results/published/{name}: no source {unknown[0]!r} in {_SOURCES}")
    try:
        value = table["printed"].astype(float) / 100
        shots = table["shots"].replace("", str(UNSTATED)).astype(int)
        for text in table["options"].unique():
            json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"results/published/{name}: {error}") from error
    table = table.assign(
        value=value,
        shots=shots,
        second_hand=_flags(name, table["second_hand"]),
        address=table["source"].map(sources()["address"]),
    )
    return table[[*PUBLISHED_COLUMNS]]


def _read(name: str) -> pd.DataFrame:
    with files(__name__).joinpath(name).open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=str, keep_default_na=False)


def _flags(name: str, column: pd.Series[str]) -> pd.Series[bool]:
    wrong = sorted(set(column) - {"yes", "no"})
    if wrong:
        raise ValueError(f"results/published/{name}: second_hand is {wrong[0]!r}, not yes or no")
    return column == "yes"
