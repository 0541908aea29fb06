"""Records as small text files under version control, read like a record store.

    folder/records/<key>.json    a record, its loss curve thinned, and what each query got
           queries/<name>.json   the queries of a data set, shared by its records
           index.json            sha256, cell and score of every record; what drew the plots
           history.jsonl         a line for each change of a cell's score (see `history.py`)
           README.md, tables/, plots/    made from the records, byte for byte; plots as SVG

Equal records give equal bytes: fields are sorted, one to a line, and queries stand in the order of
(part, id). Per query the value of the headline metric is kept, exactly; ranks, candidate lists and
weights stay in the run's folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from results.schema import RecordError, check_json_values, from_json

RECORDS, QUERIES = "records", "queries"
INDEX, HISTORY, README = "index.json", "history.jsonl", "README.md"
CURVE_POINTS = 50
OUTCOMES = "outcomes"
_SHARED = ("part", "group", "cluster", "gallery")
_DIGITS = string.digits + string.ascii_letters


@dataclass(frozen=True)
class Entry:
    """One shipped record: its file's text and what that says."""

    text: str
    record: dict[str, Any]
    """As in a record store; `loss_curve` has at most `CURVE_POINTS` points."""
    outcomes: dict[str, Any] | None
    """`queries` (name of their file), distinct `values`, and `at`: which one each query got."""

    @cached_property
    def digest(self) -> str:
        """sha256 of the file, hex."""
        return sha256(self.text)

    @property
    def score(self) -> float | None:
        """The headline metric, a fraction; None where the targets are withheld."""
        value = self.record["metrics"].get(self.record["headline"])
        return None if value is None else float(value)

    @property
    def values(self) -> list[float]:
        """Each query's value, in the order of the queries' file."""
        return (
            [] if self.outcomes is None else _picked(self.outcomes["values"], self.outcomes["at"])
        )


class ShippedRecords:
    """Reads a folder of shipped records as a `RecordStore` is read; writes nothing."""

    def __init__(self, root: Path) -> None:
        """Files are read when they are asked for."""
        self.root = Path(root)
        self._queries: dict[str, pd.DataFrame] = {}

    def keys(self) -> list[str]:
        """Keys of all records, sorted."""
        return sorted(path.stem for path in (self.root / RECORDS).glob("*.json"))

    def entry(self, key: str) -> Entry:
        """The record of `key` with its outcomes. Raises RecordError naming the file."""
        path = self.root / RECORDS / f"{key}.json"
        try:
            entry = entry_from(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise KeyError(f"no record {key!r} in {self.root / RECORDS}") from None
        except (RecordError, UnicodeDecodeError) as error:
            raise RecordError(f"{path}: {error}") from error
        if entry.record["key"] != key:
            raise RecordError(f"{path}: holds the key {entry.record['key']!r}, not its file's name")
        return entry

    def read(self, key: str) -> dict[str, Any]:
        """The record of `key`."""
        return self.entry(key).record

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, sorted by key."""
        return (self.read(key) for key in self.keys())

    def read_all(self) -> list[dict[str, Any]]:
        """All records, sorted by key."""
        return [*self.records()]

    def failures(self) -> dict[str, dict[str, Any]]:
        """None: only finished cells are shipped."""
        return {}

    def read_ranks(self, key: str) -> pd.DataFrame | None:
        """`query_id`, what the protocol knows of the query, and `value`; None without outcomes.

        Rows are sorted by (part, query_id). Raises RecordError where the files do not fit.
        """
        entry = self.entry(key)
        if entry.outcomes is None:
            return None
        name = entry.outcomes["queries"]
        if name not in self._queries:
            self._queries[name] = self._read_queries(name)
        queries = self._queries[name]
        if len(queries) != len(entry.values):
            raise RecordError(
                f"{self.root / RECORDS / key}.json: outcomes of {len(entry.values)} queries, but "
                f"{QUERIES}/{name}.json has {len(queries)}"
            )
        return queries.assign(value=entry.values)

    def _read_queries(self, name: str) -> pd.DataFrame:
        path = self.root / QUERIES / f"{name}.json"
        try:
            return queries_from(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecordError(f"{path} is missing; records name it") from None
        except (RecordError, UnicodeDecodeError) as error:
            raise RecordError(f"{path}: {error}") from error


def packed(record: Mapping[str, Any], ranks: pd.DataFrame | None) -> tuple[Entry, str | None]:
    """A record and its per-query outcomes as the texts of two files: record, queries.

    ranks: as `RecordStore.read_ranks` gives them; without `value` no outcomes are kept.

    Raises:
        RecordError: values that are not finite, or another number of queries than the record's.
    """
    small = {**record, "loss_curve": thinned(record["loss_curve"])}
    if ranks is None or "value" not in ranks.columns:
        return entry_from(record_text(small, None)), None
    shared = [name for name in _SHARED if name in ranks.columns]
    rows = ranks.sort_values([n for n in ("part", "query_id") if n in ranks.columns])
    values = [float(value) for value in rows["value"]]
    if not all(math.isfinite(value) for value in values):
        raise RecordError(f"record {record['key']}: the value of a query is not finite")
    if len(values) != record["n_queries"]:
        raise RecordError(
            f"record {record['key']}: {len(values)} outcomes, but n_queries is "
            f"{record['n_queries']}"
        )
    queries = _queries_text(rows, shared)
    distinct = sorted(set(values))
    outcomes = {"queries": sha256(queries)[:16], "values": distinct, "at": _at(values, distinct)}
    return entry_from(record_text(small, outcomes)), queries


def thinned(curve: Sequence[Any], points: int = CURVE_POINTS) -> list[Any]:
    """At most `points` of a curve's points, evenly spaced, the first and the last among them."""
    if len(curve) <= points:
        return [*curve]
    step = (len(curve) - 1) / (points - 1)
    return [curve[round(number * step)] for number in range(points)]


def record_text(record: Mapping[str, Any], outcomes: Mapping[str, Any] | None) -> str:
    """Canonical text: a field to a line, sorted."""
    return lines_of({**record, OUTCOMES: outcomes})


def entry_from(text: str) -> Entry:
    """Parse and check the text of a shipped record. Raises RecordError naming the wrong fields."""
    whole = parsed(text)
    if not isinstance(whole, dict) or OUTCOMES not in whole:
        raise RecordError(f"not a shipped record: it has no field {OUTCOMES!r}")
    outcomes = whole.pop(OUTCOMES)
    record = from_json(json.dumps(whole, ensure_ascii=False))
    if outcomes is not None:
        _check_outcomes(outcomes, record["n_queries"])
    return Entry(text, record, outcomes)


def queries_from(text: str) -> pd.DataFrame:
    """`query_id` and the shared columns of a queries' file. Raises RecordError if it is none."""
    whole = parsed(text)
    try:
        distinct = {name: whole[name] for name in _SHARED if name in whole}
        rows = whole["rows"]
        columns: dict[str, Any] = {"query_id": [row[0] for row in rows]}
        for place, (name, values) in enumerate(distinct.items(), start=1):
            columns[name] = [values[row[place]] for row in rows]
    except (KeyError, TypeError, IndexError) as error:
        raise RecordError(f"not a file of queries ({type(error).__name__}: {error})") from error
    return pd.DataFrame(columns)


def lines_of(fields: Mapping[str, Any]) -> str:
    """A JSON object with one field to a line, sorted. Raises RecordError on NaN."""
    check_json_values(fields)
    body = ",\n".join(f"{compact(name)}: {compact(fields[name])}" for name in sorted(fields))
    return f"{{\n{body}\n}}\n"


def compact(value: object) -> str:
    """JSON on one line, keys sorted."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def parsed(text: str) -> Any:
    """JSON, or a RecordError that names the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"line {error.lineno} is not JSON: {error.msg}") from error


def sha256(text: str) -> str:
    """Of the text in UTF-8, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _queries_text(rows: pd.DataFrame, shared: Sequence[str]) -> str:
    """The distinct values of each shared column, then a row per query that numbers them."""
    plain = {name: [_plain(value) for value in rows[name]] for name in shared}
    distinct = {name: sorted(set(column), key=_order) for name, column in plain.items()}
    number = {name: {v: i for i, v in enumerate(values)} for name, values in distinct.items()}
    numbers = [[number[name][value] for value in plain[name]] for name in shared]
    listed = zip(rows["query_id"], *numbers, strict=True)
    head = "".join(f"{compact(name)}: {compact(distinct[name])},\n" for name in shared)
    body = ",\n".join(compact([*row]) for row in listed)
    return f'{{\n{head}"rows": [\n{body}\n]\n}}\n'


def _plain(value: Any) -> str | int | None:
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else int(value)


def _order(value: str | int | None) -> tuple[bool, int, str]:
    return (value is None, value if isinstance(value, int) else 0, str(value))


def _at(values: Sequence[float], distinct: Sequence[float]) -> str | list[int]:
    """Which distinct value each query got: a character each, or numbers where there are many."""
    number = {value: position for position, value in enumerate(distinct)}
    if len(distinct) <= len(_DIGITS):
        return "".join(_DIGITS[number[value]] for value in values)
    return [number[value] for value in values]


def _picked(distinct: Sequence[float], at: str | Sequence[int]) -> list[float]:
    if isinstance(at, str):
        number = {digit: position for position, digit in enumerate(_DIGITS)}
        return [distinct[number[digit]] for digit in at]
    return [distinct[position] for position in at]


def _check_outcomes(outcomes: Any, n_queries: int) -> None:
    try:
        values, at = outcomes["values"], outcomes["at"]
        fits = isinstance(outcomes["queries"], str) and len(at) == n_queries
        fits = fits and all(type(value) is float for value in values)
        fits = fits and all(n in _DIGITS if isinstance(at, str) else n >= 0 for n in at)
        _picked(values, at)
    except (KeyError, TypeError, IndexError, ValueError):
        fits = False
    if not fits:
        raise RecordError(
            f"{OUTCOMES}: not one of the listed values for each of {n_queries} queries"
        )
