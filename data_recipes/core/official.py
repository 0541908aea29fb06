"""Reading official annotation files strictly: one clear error for the first bad record.

Every error names the file, the record, the field, the record's id, and how many more cases of the
same kind there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from data_recipes.core import strict_json
from data_recipes.core.model import DataError

T = TypeVar("T")
Record = Mapping[str, Any]
_NAMES: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    return _NAMES.get(type(value), type(value).__name__)


def refuse(path: Path, cases: Iterable[str]) -> None:
    """Raise DataError with the first of `cases`, if any, and the number of further ones."""
    found = list(cases)
    if found:
        more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
        raise DataError(f"{path}: {found[0]}{more}")


def read_as(path: Path, kind: type[T], what: str) -> T:
    """The file's value, which must be a `kind` that is not empty.

    what: what the file should hold, for the message ("the captions of one category").
    """
    return _as(path, strict_json.read(path), kind, what)


def _as(path: Path, value: Any, kind: type[T], what: str) -> T:
    if not isinstance(value, kind):
        raise DataError(
            f"{path}: holds {kind_of(value)}, expected {_NAMES[kind]}: {what}; is it another file?"
        )
    if not value:
        raise DataError(f"{path}: holds {_NAMES[kind]} without any record; fetch it again")
    return value


def read_records(path: Path, what: str) -> list[dict[str, Any]]:
    """A list of JSON objects, at least one."""
    return records(path, strict_json.read(path), what)


def records(path: Path, value: Any, what: str) -> list[dict[str, Any]]:
    """`read_records` of a file that is parsed already."""
    rows = _as(path, value, list, what)
    refuse(
        path,
        (
            f"record {i}: is {kind_of(r)}, expected an object"
            for i, r in enumerate(rows)
            if not isinstance(r, dict)
        ),
    )
    return rows


def text_lines(path: Path) -> list[str]:
    """A text file's lines. Raises DataError where it is empty, not UTF-8, or has a blank line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; fetch it again") from None
    if not lines:
        raise DataError(f"{path}: the file is empty; fetch it again")
    refuse(path, (f"line {i} is blank" for i, line in enumerate(lines, 1) if not line.strip()))
    return lines


def column(
    path: Path, records: Sequence[Record], field: str, kind: type[T], ids: Sequence[object] = ()
) -> list[T]:
    """One required field of all records.

    ids: the records' ids, for messages; empty where they have none.
    """

    def cases() -> Iterable[str]:
        for i, record in enumerate(records):
            if field not in record:
                yield f"record {i}{_tag(ids, i)}: the field {field!r} is missing"
            elif not _is(record[field], kind):
                yield (
                    f"record {i}{_tag(ids, i)}: the field {field!r} is {kind_of(record[field])}, "
                    f"expected {_NAMES[kind]}"
                )

    refuse(path, cases())
    return [record[field] for record in records]


def optional(
    path: Path, records: Sequence[Record], field: str, kind: type[T], ids: Sequence[object] = ()
) -> list[T] | None:
    """A field that all records have or none (withheld targets, captions that scoring needs not)."""
    if not any(field in record for record in records):
        return None
    return column(path, records, field, kind, ids)


def elements(
    path: Path,
    lists: Sequence[Sequence[Any]],
    field: str,
    kind: type[T],
    ids: Sequence[object] = (),
) -> None:
    """Refuse lists that hold something else than `kind`."""
    refuse(
        path,
        (
            f"record {i}{_tag(ids, i)}: {field!r} holds {kind_of(value)} {value!r}, "
            f"expected {_NAMES[kind]}"
            for i, values in enumerate(lists)
            for value in values
            if not _is(value, kind)
        ),
    )


def unique(path: Path, values: Sequence[object], what: str) -> None:
    """Refuse values that occur more than once. what: "id", "image"."""
    seen = Counter(values)
    refuse(
        path,
        (
            f"record {values.index(value)}: the {what} {value!r} occurs {n} times"
            for value, n in seen.items()
            if n > 1
        ),
    )


def inside(
    path: Path,
    lists: Sequence[Sequence[str]],
    field: str,
    known: Callable[[str], bool],
    where: str,
    ids: Sequence[object] = (),
) -> None:
    """Refuse ids that are not known. where: the gallery, as the message should name it."""
    refuse(
        path,
        (
            f"record {i}{_tag(ids, i)}: {field!r} names {value!r}, which is not in {where}"
            for i, values in enumerate(lists)
            for value in values
            if not known(value)
        ),
    )


def _tag(ids: Sequence[object], i: int) -> str:
    return f" (id {ids[i]})" if ids else ""


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
