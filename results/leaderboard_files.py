"""The files of a leaderboard's folder: read, and made of its records, byte for byte."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.atomic import write_whole
from results.history import current
from results.leaderboard import Leaderboard, standing
from results.provenance import drawn_with, readme
from results.report import write_report
from results.schema import RecordError
from results.shipped import (
    HISTORY,
    INDEX,
    QUERIES,
    README,
    RECORDS,
    Entry,
    ShippedRecords,
    entry_from,
    lines_of,
    sha256,
)

DRAWN = "drawn with"
PLOTS, TABLES = "plots", "tables"
BITMAP = ".png"
"""Plots are kept as SVG: half the size, and a text whose changed line can be named."""
FOLDERS = (RECORDS, QUERIES, TABLES, PLOTS)


def load(folder: Path) -> Leaderboard:
    """The leaderboard in a folder; an empty one where there is no folder.

    Raises:
        RecordError: a record that cannot be read, or a history that cannot have happened.
    """
    names = [*folder.glob(f"{RECORDS}/*.json"), *folder.glob(f"{QUERIES}/*.json"), folder / HISTORY]
    try:
        texts = {
            path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8")
            for path in names
            if path.is_file()
        }
    except UnicodeDecodeError as error:
        raise RecordError(f"{folder}: a file is not UTF-8 ({error})") from error
    board = from_texts(texts)
    current(board.history, str(folder / HISTORY))
    return board


def from_texts(texts: Mapping[str, str]) -> Leaderboard:
    """The leaderboard of these files, by path below its folder; others are passed over.

    Raises:
        RecordError: a record that cannot be read, with its path.
    """
    entries: dict[str, Entry] = {}
    queries: dict[str, str] = {}
    for name, text in sorted(texts.items()):
        folder, _, file = name.partition("/")
        if folder == RECORDS:
            try:
                entries[file.removesuffix(".json")] = entry_from(text)
            except RecordError as error:
                raise RecordError(f"{name}: {error}") from error
        elif folder == QUERIES:
            queries[file.removesuffix(".json")] = text
    return Leaderboard(entries, queries, texts.get(HISTORY, ""))


def made(board: Leaderboard, drawn: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Every file of the leaderboard's folder by its path there: a pure function of the records.

    drawn: versions of the libraries that drew the plots, for the index; None: the installed ones.
    """
    rows = sorted(board.entries.items())
    texts = {f"{RECORDS}/{key}.json": entry.text for key, entry in rows}
    texts |= {f"{QUERIES}/{name}.json": text for name, text in board.queries.items()}
    texts[INDEX] = index_text(board, drawn_with() if drawn is None else drawn)
    texts[HISTORY] = board.history
    texts[README] = readme([entry.record for _, entry in rows])
    contents = {name: text.encode() for name, text in texts.items()}
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "out"
        for name, content in contents.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for path in write_report(ShippedRecords(source), out):
            if path.suffix != BITMAP:
                contents[path.relative_to(out).as_posix()] = path.read_bytes()
    return contents


def publish(board: Leaderboard, folder: Path) -> list[str]:
    """Make the folder's files those of the leaderboard; returns what changed, by path, sorted.

    Everything is made before the first file is written. Files that are no longer made go from the
    leaderboard's own folders; others are left alone, and `check` names them.
    """
    contents = made(board)
    changed = []
    for name, content in contents.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)
            changed.append(name)
    for path in [p for name in FOLDERS for p in (folder / name).glob("*") if p.is_file()]:
        name = path.relative_to(folder).as_posix()
        if name not in contents:
            path.unlink()
            changed.append(name)
    return sorted(changed)


def index_text(board: Leaderboard, drawn: Mapping[str, str]) -> str:
    """`index.json`: a line for each record and each file of queries."""
    index: dict[str, Any] = {DRAWN: dict(drawn)}
    for name, text in board.queries.items():
        index[f"{QUERIES}/{name}.json"] = {"sha256": sha256(text)}
    for key, entry in board.entries.items():
        git = entry.record["provenance"].get("git") or {}
        index[f"{RECORDS}/{key}.json"] = {
            "cell": standing(entry).cell,
            "score": entry.score,
            "sha256": entry.digest,
            **({"changed tree": True} if git.get("changed") else {}),
        }
    return lines_of(index)
