"""The ledger of submissions to hidden test servers: `submissions.jsonl` in a run's folder.

One JSON object per line, oldest first, never changed: what was written for a server, and, as a
line of its own that names it, what the server answered. The file is replaced whole, so that a
reader never sees half a line; one process writes at a time (a person submits by hand).
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from results.atomic import write_whole
from results.schema import Name, RecordError

LEDGER_FILE = "submissions.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SentFile(_Line):
    """One file for a server: its name, size in bytes and sha256."""

    name: Name
    bytes: int = Field(ge=1)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Submission(_Line):
    """Files written from one record. when: UTC, ISO 8601. key: the record's."""

    kind: Literal["submission"] = "submission"
    id: Name
    when: Name
    key: Name
    protocol: Name
    split: Name
    queries: int = Field(ge=1)
    files: list[SentFile] = Field(min_length=1)
    note: str = ""


class Answer(_Line):
    """What the server said about the submission `of`: name -> value, as it printed them."""

    kind: Literal["score"] = "score"
    of: Name
    when: Name
    scores: dict[Name, float] = Field(min_length=1)
    note: str = ""


Entry = Annotated[Submission | Answer, Field(discriminator="kind")]
_ENTRY: TypeAdapter[Submission | Answer] = TypeAdapter(Entry)


def read_ledger(root: Path) -> list[Submission | Answer]:
    """All lines of the ledger below `root`, oldest first; empty where there is none.

    Raises:
        RecordError: naming the file, the line and what is wrong with it.
    """
    path = root / LEDGER_FILE
    if not path.is_file():
        return []
    entries: list[Submission | Answer] = []
    known: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = _ENTRY.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise RecordError(
                f"{path}:{number}: {where}: {first['msg']}; the ledger is only ever appended to by "
                "`promptgrid submit`: put the line back as it was"
            ) from None
        if isinstance(entry, Submission):
            known.add(entry.id)
        elif entry.of not in known:
            raise RecordError(f"{path}:{number}: scores of {entry.of!r}, which no line above has")
        entries.append(entry)
    return entries


def note_submission(
    root: Path,
    key: str,
    protocol: str,
    split: str,
    queries: int,
    files: list[SentFile],
    note: str = "",
) -> Submission:
    """Append a submission to the ledger below `root`; its id is a hash of all it says."""
    facts: dict[str, Any] = {
        "when": _now(),
        "key": key,
        "protocol": protocol,
        "split": split,
        "queries": queries,
        "files": [file.model_dump() for file in files],
        "note": note,
    }
    before = read_ledger(root)
    digest = hashlib.sha256(json.dumps([len(before), facts], sort_keys=True).encode()).hexdigest()
    entry = Submission(id=digest[:12], **(facts | {"files": files}))
    _append(root, entry)
    return entry


def note_answer(root: Path, sent: str, scores: dict[str, float], note: str = "") -> Answer:
    """Append a server's scores for the submission whose id starts with `sent`.

    Raises:
        RecordError: no such submission, or a score that is not finite.
    """
    for name, value in scores.items():
        if not math.isfinite(value):
            raise RecordError(f"the score {name} is {value}; note what the server printed")
    entry = Answer(of=find_submission(root, sent).id, when=_now(), scores=scores, note=note)
    _append(root, entry)
    return entry


def find_submission(root: Path, sent: str) -> Submission:
    """The submission whose id starts with `sent`.

    Raises:
        RecordError: none has, or several have; the message lists the ids.
    """
    ids = [entry for entry in read_ledger(root) if isinstance(entry, Submission)]
    found = [entry for entry in ids if sent and entry.id.startswith(sent)]
    if len(found) != 1:
        known = ", ".join(entry.id for entry in ids) or "none yet"
        what = "several submissions have" if found else "no submission has"
        raise RecordError(f"{root / LEDGER_FILE}: {what} the id {sent!r}; it has: {known}")
    return found[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _append(root: Path, entry: Submission | Answer) -> None:
    path = root / LEDGER_FILE
    before = path.read_bytes() if path.is_file() else b""
    text = json.dumps(entry.model_dump(), sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_whole(path, before + text.encode() + b"\n")
