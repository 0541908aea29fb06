"""Whether a leaderboard's files are what its records give, and its history what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.differences import text_difference
from results.history import (
    Line,
    Standing,
    jumps,
    lines_from,
    percent,
    replayed,
    title_or_cell,
    tolerance,
)
from results.leaderboard import Leaderboard, standing
from results.leaderboard_files import DRAWN, PLOTS, made
from results.provenance import drawn_with, incomplete
from results.schema import RecordError
from results.shipped import (
    HISTORY,
    INDEX,
    QUERIES,
    RECORDS,
    Entry,
    ShippedRecords,
    compact,
    entry_from,
    parsed,
    queries_from,
    sha256,
)


@dataclass
class Findings:
    """problems: what is wrong, a line each, in the order of the checks. remarks: what was not."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check(folder: Path) -> Findings:
    """Everything that a leaderboard's folder must hold to, each problem naming file and cell.

    `sound`, then the bytes of all files that are made of the records. Plots are compared only where
    the installed libraries are those that drew them.
    """
    found, board, drawn = sound(folder)
    if board is None:
        found.remarks.append("tables and plots are compared when this is mended")
    else:
        _compare(folder, board, drawn, found)
    return found


def sound(folder: Path) -> tuple[Findings, Leaderboard | None, dict[str, str]]:
    """Digests, schema, provenance and history; the leaderboard, or None if something is wrong.

    Also the versions of the libraries that drew its plots.
    """
    found = Findings()
    index = _index(folder, found)
    drawn = index.pop(DRAWN, {})
    texts = {name: _text(folder, name, found) for name in _below(folder)}
    entries = _entries(texts, index, found)
    queries = _queries(texts, index, found)
    for name in sorted({*index} - {*texts}):
        found.problems.append(f"{name}{_cell_of(index[name])} is missing")
    history = _text(folder, HISTORY, found) or ""
    lines, unread = lines_from(history, HISTORY)
    last, steps = replayed(lines, HISTORY)
    found.problems += [*unread, *steps]
    if not found.problems:  # else what follows from the above would be named as well
        _check_history(last, entries, found)
        _check_outcomes(folder, entries, found)
    if found.problems:
        return found, None, drawn
    return (
        found,
        Leaderboard({e.record["key"]: e for e in entries.values()}, queries, history),
        drawn,
    )


def since(old: Leaderboard, new: Leaderboard) -> list[str]:
    """What happened between two states of a leaderboard without the line of history it needs.

    old, new: as `leaderboard.load` gives them, or made of the files of a git revision.
    """
    before, after = old.standings(), new.standings()
    if not new.history.startswith(old.history):
        return [f"{HISTORY}: {text_difference(old.history, new.history, 'was', 'is')}"]
    fresh, problems = lines_from(new.history[len(old.history) :], HISTORY)
    reasons: dict[str, list[Line]] = {}
    for line in fresh:
        reasons.setdefault(compact(line.cell), []).append(line)
    for cell, was in sorted(before.items()):
        said = reasons.get(cell, [])
        problem = _change(was, after.get(cell), said, tolerance(was.cell, before.values()))
        if problem:
            problems.append(f"{title_or_cell(was.cell)}: {problem}")
    for key in sorted(old.entries.keys() & new.entries.keys()):
        if old.entries[key].digest != new.entries[key].digest:
            lines = text_difference(old.entries[key].text, new.entries[key].text, "was", "is")
            problems.append(f"{RECORDS}/{key}.json: a record never changes; {lines}")
    return problems


def _change(was: Standing, now: Standing | None, said: list[Line], allowed: float) -> str:
    reasoned = any(line.reason.strip() for line in said)
    if now is None:
        return "" if reasoned else "removed without a line of history that gives the reason"
    if now.key == was.key:
        return ""
    if not said:
        return "replaced without a line of history"
    if jumps(was.score, now.score, allowed) and not reasoned:
        return f"{percent(was.score)} became {percent(now.score)} without a reason"
    return ""


def _index(folder: Path, found: Findings) -> dict[str, Any]:
    text = _text(folder, INDEX, found)
    try:
        index = parsed(text or "{}")
        if isinstance(index, dict) and all(isinstance(row, dict) for row in index.values()):
            return index
        found.problems.append(f"{INDEX}: not a JSON object of objects")
    except RecordError as error:
        found.problems.append(f"{INDEX}: {error}")
    return {}


def _text(folder: Path, name: str, found: Findings) -> str | None:
    try:
        return (folder / name).read_bytes().decode("utf-8")
    except OSError as error:
        found.problems.append(f"{name}: {error.strerror}")
    except UnicodeDecodeError as error:
        found.problems.append(f"{name}: {error}")
    return None


def _below(folder: Path) -> list[str]:
    """Names of the files of records and queries."""
    return sorted(
        f"{name}/{path.name}"
        for name in (RECORDS, QUERIES)
        for path in (folder / name).glob("*.json")
    )


def _entries(
    texts: Mapping[str, str | None], index: Mapping[str, Any], found: Findings
) -> dict[str, Entry]:
    """The records that can be read, by file name; one problem for each that is wrong."""
    entries = {}
    for name, text in texts.items():
        if text is None or not name.startswith(RECORDS):
            continue
        row = index.get(name, {})
        wrong = _wrong_digest(name, text, index)
        try:
            entry = entry_from(text)
        except RecordError as error:
            found.problems.append(f"{name}{_cell_of(row)}: {'; '.join([*wrong, str(error)])}")
            continue
        entries[name] = entry
        now = standing(entry)
        if wrong and row.get("score") != now.score:
            wrong.append(f"score {now.score!r}, {row.get('score')!r} in {INDEX}")
        if name != f"{RECORDS}/{now.key}.json":
            wrong.append(f"holds the key {now.key!r}, not its file's name")
        if lacks := incomplete(entry.record["provenance"]):
            wrong.append(lacks)
        if wrong:
            where = f"{name}{_cell_of(row or {'cell': now.cell})}"
            found.problems.append(f"{where}: {'; '.join(wrong)}")
    return entries


def _queries(
    texts: Mapping[str, str | None], index: Mapping[str, Any], found: Findings
) -> dict[str, str]:
    """The files of queries that can be read, by their name without folder and ending."""
    queries = {}
    for name, text in texts.items():
        if text is None or not name.startswith(QUERIES):
            continue
        wrong = _wrong_digest(name, text, index)
        try:
            queries_from(text)
            queries[Path(name).stem] = text
        except RecordError as error:
            wrong.append(str(error))
        if wrong:
            found.problems.append(f"{name}: {'; '.join(wrong)}")
    return queries


def _wrong_digest(name: str, text: str, index: Mapping[str, Any]) -> list[str]:
    if name not in index:
        return [f"{INDEX} does not know it"]
    given, expected = sha256(text), str(index[name].get("sha256"))
    return [] if given == expected else [f"was changed: sha256 {given[:12]}, not {expected[:12]}"]


def _cell_of(row: Mapping[str, Any]) -> str:
    return f" ({title_or_cell(row['cell'])})" if isinstance(row.get("cell"), dict) else ""


def _check_outcomes(folder: Path, entries: Mapping[str, Entry], found: Findings) -> None:
    """Each record's outcomes fit the queries that it names."""
    store = ShippedRecords(folder)
    for entry in entries.values():
        try:
            store.read_ranks(entry.record["key"])
        except RecordError as error:
            found.problems.append(str(error))


def _check_history(
    last: Mapping[str, Standing], entries: Mapping[str, Entry], found: Findings
) -> None:
    """The last line of each cell is its record, and no cell went without a reason."""
    there: dict[str, Standing] = {}
    for name, entry in entries.items():
        now = standing(entry)
        cell, called = compact(now.cell), f"{name} ({title_or_cell(now.cell)})"
        if cell in there:
            found.problems.append(f"{called}: the cell has another record, {there[cell].key}")
        elif cell not in last:
            found.problems.append(f"{called}: the cell is not in {HISTORY}")
        elif (last[cell].key, last[cell].score) != (now.key, now.score):
            found.problems.append(
                f"{called}: has the score {now.score!r} (key {now.key[:12]}); the last line of "
                f"{HISTORY} says {last[cell].score!r} (key {last[cell].key[:12]})"
            )
        there[cell] = now
    for cell in sorted({*last} - {*there}):
        found.problems.append(
            f"{title_or_cell(last[cell].cell)}: in {HISTORY}, but its record "
            f"{last[cell].key[:12]} is gone; `promptgrid leaderboard --remove` says why"
        )


def _compare(folder: Path, board: Leaderboard, drawn: Mapping[str, str], found: Findings) -> None:
    """The folder's files against those that its records give."""
    made_of = made(board, drawn)
    there = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    same_pens = dict(drawn) == drawn_with()
    for name in sorted({*made_of, *there}):
        if name not in made_of:
            found.problems.append(f"{name}: no part of this leaderboard; move it elsewhere")
        elif name not in there:
            found.problems.append(f"{name} is missing")
        elif name.startswith(f"{PLOTS}/") and not same_pens:
            continue
        elif (given := there[name].read_bytes()) != made_of[name]:
            lines = text_difference(made_of[name], given, "the records give", "the file has")
            found.problems.append(f"{name}: {lines}")
    if not same_pens:
        found.remarks.append(
            f"plots were not compared: drawn with {_versions(drawn)}, installed are "
            f"{_versions(drawn_with())}"
        )


def _versions(drawn: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {drawn[name]}" for name in sorted(drawn)) or "unknown versions"
