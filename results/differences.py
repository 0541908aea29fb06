"""The first place where two JSON values, or two texts, part; in words for a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.shipped import compact

_SHOWN = 120
_LONG = 32


def json_difference(first: Any, second: Any, path: str = "") -> tuple[str, str, str] | None:
    """The path of the first difference, in the order of names, and both values; None if equal.

    Of long lists and strings of one length the path names the first item that differs.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in sorted({*first, *second}):
            inside = f"{path}.{name}" if path else str(name)
            if name not in first or name not in second:
                return inside, _there(name, first), _there(name, second)
            if found := json_difference(first[name], second[name], inside):
                return found
        return None
    if first == second and type(first) is type(second):
        return None
    many = isinstance(first, list | str) and type(first) is type(second)
    if many and len(first) == len(second) > _LONG:
        at = next(n for n in range(len(first)) if first[n] != second[n])
        return f"{path}[{at}]", compact(first[at]), compact(second[at])
    return path, compact(first), compact(second)


def text_difference(first: bytes | str, second: bytes | str, one: str, other: str) -> str:
    """Where two files part: `line 7: ONE '| a |', OTHER '| b |'`.

    one, other: what is said before the two lines ("expected", "got").
    """
    left, right = (t.encode() if isinstance(t, str) else t for t in (first, second))
    ours, theirs = left.split(b"\n"), right.split(b"\n")
    number = _parting(ours, theirs)
    pair = [lines[number] if number < len(lines) else None for lines in (ours, theirs)]
    at = _parting(pair[0] or b"", pair[1] or b"")
    shown = ["no such line" if line is None else repr(_cut(line, at)) for line in pair]
    return f"line {number + 1}: {one} {shown[0]}, {other} {shown[1]}"


def _there(name: object, value: Mapping[Any, Any]) -> str:
    return compact(value[name]) if name in value else "missing"


def _parting(first: bytes | list[bytes], second: bytes | list[bytes]) -> int:
    """Number of the first item that differs, or the shorter one's length."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


def _cut(line: bytes, at: int) -> str:
    """The line, or of a long one what surrounds byte `at`."""
    start = max(0, at - _SHOWN // 2) if len(line) > _SHOWN else 0
    text = line[start : start + _SHOWN].decode("utf-8", errors="replace")
    return ("…" if start else "") + text + ("…" if start + _SHOWN < len(line) else "")
