"""Marks each field of a study or cell as part of a result's identity, or as a runtime knob.

A test fails while any field is unmarked: a new option cannot silently enter, or silently stay
out of, the keys of results.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, Field

ROLE = "role"
BY = "by"


def identity(*args: Any, by: str | None = None, **kwargs: Any) -> Any:
    """A field that decides the result. by: through this attribute of its value alone."""
    return Field(*args, json_schema_extra={ROLE: "identity", BY: by}, **kwargs)


def runtime(*args: Any, **kwargs: Any) -> Any:
    """A field that does not: paths, numbers of workers, labels."""
    return Field(*args, json_schema_extra={ROLE: "runtime"}, **kwargs)


def role(model: type[BaseModel], name: str) -> str | None:
    """ "identity", "runtime", or None for an unmarked field."""
    extra = model.model_fields[name].json_schema_extra
    return str(extra[ROLE]) if isinstance(extra, dict) and ROLE in extra else None


def stands_for(model: type[BaseModel], name: str) -> str | None:
    """The attribute through which an identity field decides; None: the field as it is."""
    extra = model.model_fields[name].json_schema_extra
    by = extra.get(BY) if isinstance(extra, dict) else None
    return None if by is None else str(by)


def identity_of(value: BaseModel) -> dict[str, Any]:
    """The identity fields of `value` as JSON values.

    Raises:
        TypeError: a field is unmarked.
        ValueError: a number is NaN or infinite; pydantic would write all of them as null.
    """
    found = {}
    dumped = value.model_dump(mode="json")
    exact = value.model_dump()
    for name in type(value).model_fields:
        mark = role(type(value), name)
        if mark is None:
            raise TypeError(f"{type(value).__name__}.{name} is neither identity nor runtime")
        if mark == "identity":
            if not _is_finite(exact[name]):
                raise ValueError(f"{type(value).__name__}.{name} holds NaN or infinity")
            by, inner = stands_for(type(value), name), getattr(value, name)
            found[name] = dumped[name] if by is None or inner is None else getattr(inner, by)
    return found


def _is_finite(value: Any) -> bool:
    """True where no number inside `value` is NaN or infinite."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
