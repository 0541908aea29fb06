"""The history of a leaderboard: one line for each change of a cell's score, never rewritten.

    {"cell": {...}, "change": "added", "key": "...", "reason": "", "score": 0.153}

`change` is added, replaced (another key at the same cell: a newer engine) or removed (key and score
are null). A removal needs a reason, and so does a jump: a new score that is more than 1 point, or
more than the 95 % interval over the row's seeds, away from the old one, whichever is less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from results.frames import REPLICATE, place, series_label
from results.schema import RecordError
from results.shipped import compact
from results.statistics import student_t_interval

ONE_POINT = 0.01
_ROUNDING = 1e-12
_NONE = ("", -1, False)


class Line(BaseModel):
    """One line of `history.jsonl`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    cell: dict[str, str | int | bool]
    change: Literal["added", "replaced", "removed"]
    key: str | None
    reason: str
    score: float | None

    def text(self) -> str:
        """The line, canonical, with its newline."""
        return compact(self.model_dump()) + "\n"


@dataclass(frozen=True)
class Standing:
    """A cell as an index or a history leaves it. score: a fraction, None if withheld."""

    cell: dict[str, Any]
    key: str
    score: float | None


def coordinates(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a cell of a leaderboard from all others; not the key, which a new engine changes.

    cell: a record's. Coordinates that it does not have are left out.
    """
    found = {**place(cell), "stage": bool(cell.get("stage"))}
    return {name: value for name, value in found.items() if value not in _NONE} | {
        "trains": found["trains"],
        "shots": found["shots"],
        "seed": found["seed"],
    }


def title(cell: Mapping[str, Any]) -> str:
    """A cell in words: `coop on openmoji-roles/classification, 4 shots, seed 2`."""
    label = series_label(
        str(cell["method"]), str(cell.get("variant", "")), str(cell.get("trained_on", ""))
    )
    shots = cell["shots"]
    words = [f"{label} on {cell['dataset']}/{cell['task']}"]
    if cell.get("stage"):
        words[0] = f"{label}, stage on {cell['dataset']}/{cell['task']}"
    elif cell["trains"]:
        words.append(f"{shots} shot{'' if shots == 1 else 's'}")
        words += [f"draw {cell['draw']}"] if "draw" in cell else []
        words.append(f"seed {cell['seed']}")
    words += [f"backbone {cell['backbone']}"]
    words += ["options chosen on the scored split"] if cell.get("oracle") else []
    return ", ".join(words)


def percent(score: float | None) -> str:
    """`15.30 %`; `withheld` for None."""
    return "withheld" if score is None else f"{100 * score:.2f} %"


def said(line: Line) -> str:
    """A line in words: `replaced: coop on ..., seed 2: 15.30 % (new ties)`."""
    score = "" if line.key is None else f": {percent(line.score)}"
    reason = f" ({line.reason})" if line.reason else ""
    return f"{line.change}: {title_or_cell(line.cell)}{score}{reason}"


def tolerance(cell: Mapping[str, Any], standings: Iterable[Standing]) -> float:
    """By how much (a fraction) the cell's score may change without a reason.

    standings: the leaderboard before the change; the cell's row in it gives the seeds' interval.
    """
    row = _row(cell)
    scores = [s.score for s in standings if s.score is not None and _row(s.cell) == row]
    half = student_t_interval(sorted(scores))[1] if len(scores) > 1 else None
    return ONE_POINT if half is None else min(ONE_POINT, half)


def jumps(before: float | None, after: float | None, allowed: float) -> bool:
    """Whether a score changed by more than `allowed`; from or to withheld is a jump."""
    if before is None or after is None:
        return before is not after
    return abs(after - before) > allowed + _ROUNDING


def lines_from(text: str, name: str) -> tuple[list[Line], list[str]]:
    """The lines of a history, and what is wrong with those that are none, named by number."""
    lines: list[Line] = []
    problems: list[str] = []
    whole, _, rest = text.rpartition("\n")  # not splitlines: a name may hold other line ends
    if rest:
        problems.append(f"{name}: the last line has no end; it is lost")
    for number, one in enumerate(whole.split("\n") if whole else (), start=1):
        try:
            line = Line.model_validate_json(one)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "line"
            problems.append(f"{name}, line {number}: {where}: {first['msg']}")
            continue
        if line.text() != one + "\n":
            problems.append(f"{name}, line {number}: not as the program writes it")
        lines.append(line)
    return lines, problems


def replayed(lines: Sequence[Line], name: str) -> tuple[dict[str, Standing], list[str]]:
    """What a history leads to, by `compact` coordinates, and the steps that are not allowed."""
    found: dict[str, Standing] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        cell = compact(line.cell)
        before = found.pop(cell, None)
        wrong = _wrong(line, before)
        if wrong:
            problems.append(f"{name}, line {number}: {title_or_cell(line.cell)}: {wrong}")
        if line.key is not None:
            found[cell] = Standing(dict(line.cell), line.key, line.score)
    return found, problems


def title_or_cell(cell: Mapping[str, Any]) -> str:
    """`title`, or the coordinates as they are where some of them are missing."""
    try:
        return title(cell)
    except KeyError:
        return compact(dict(cell))


def current(text: str, name: str) -> dict[str, Standing]:
    """`replayed`, refusing what is wrong. Raises RecordError with all problems."""
    lines, problems = lines_from(text, name)
    if not problems:
        found, problems = replayed(lines, name)
    if problems:
        raise RecordError("\n".join(problems))
    return found


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cell.items() if name not in REPLICATE}


def _wrong(line: Line, before: Standing | None) -> str:
    """Why a line cannot follow what was before it; empty if it can."""
    if (line.change == "added") == (before is not None):
        return f"{line.change}, but the cell was {'not ' if before is None else ''}there"
    if (line.change == "removed") != (line.key is None):
        return "a removal has no key, everything else has one"
    if line.change == "removed" and not line.reason.strip():
        return "removed without a reason"
    if (
        line.change == "replaced"
        and before is not None
        and jumps(before.score, line.score, ONE_POINT)
        and not line.reason.strip()
    ):
        return f"{percent(before.score)} became {percent(line.score)} without a reason"
    return ""
