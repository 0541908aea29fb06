"""Prediction files of any system: ranked ids in the official forms, or similarity matrices.

Ranked ids (JSON): {query id: [candidate ids, best first]}; CIRR's server files with "version" and
"metric"; FashionIQ's list of records with "ranking"; with two directions {"i2t": {...}, "t2i":
{...}}. Matrices: `.npy`, `.safetensors` (one tensor, or the one called "similarity"), or JSON
{"rows": [[...]], "scale": n}; rows are queries (images, with two directions). Ids of rows and
columns: "row_ids" and "column_ids" in the JSON, in the safetensors metadata (as JSON text), or in
a file NAME.ids.json beside the matrix. Without ids the order is that of the annotation file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_recipes.core import strict_json
from data_recipes.core.model import DataError
from data_recipes.core.official import kind_of


@dataclass(frozen=True)
class Lists:
    """parts: part name ("" where the file has no parts) -> query id -> candidate ids, best first.

    header: what stands beside the lists: CIRR's "version" and "metric", FashionIQ's references.
    """

    path: Path
    parts: dict[str, dict[str, list[str]]]
    header: Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """values: (rows, columns), any real type; ids None where the file has none."""

    path: Path
    values: Tensor
    row_ids: list[str] | None
    column_ids: list[str] | None


HEADER = ("version", "metric")
PARTS = ("i2t", "t2i")


def read_predictions(path: Path) -> Lists | Matrix:
    """Read a prediction file of any form.

    Raises:
        DataError: naming the file, the query or row, and what is wrong with it.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the prediction file in it")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix in (".npy", ".safetensors"):
        return _binary(path)
    return from_json(path, strict_json.read(path))


def from_json(path: Path, raw: Any) -> Lists | Matrix:
    """The predictions that the JSON value `raw` holds; `path` is named in errors.

    Raises:
        DataError: naming the file, the query or row, and what is wrong with it.
    """
    if isinstance(raw, dict) and "rows" in raw:
        return _json_matrix(path, raw)
    if isinstance(raw, list) and raw and all(isinstance(r, list) for r in raw):
        return _json_matrix(path, {"rows": raw})
    if isinstance(raw, list):
        references = [r.get("candidate") for r in raw if isinstance(r, dict)]
        return Lists(path, {"": _records(path, raw)}, {"references": references})
    if not isinstance(raw, dict):
        raise DataError(
            f"{path}: holds {kind_of(raw)}, expected an object query id -> ranked candidate ids"
        )
    if set(raw) and set(raw) <= set(PARTS):
        bad = [name for name in raw if not isinstance(raw[name], dict)]
        if bad:
            raise DataError(f"{path}: {bad[0]!r} is {kind_of(raw[bad[0]])}, expected an object")
        return Lists(path, {name: _lists(path, part) for name, part in raw.items()}, {})
    header = {key: raw[key] for key in HEADER if key in raw and not isinstance(raw[key], list)}
    lists = {key: value for key, value in raw.items() if key not in header}
    return Lists(path, {"": _lists(path, lists)}, header)


def _lists(path: Path, raw: Mapping[str, Any]) -> dict[str, list[str]]:
    """Ranked ids as text. A file's ids are all text or all whole numbers, never both."""
    if not raw:
        raise DataError(f"{path}: holds no query; expected query id -> ranked candidate ids")
    kinds: dict[type, str] = {}
    for query, names in raw.items():
        if not isinstance(names, list):
            raise DataError(
                f"{path}: query {query!r}: is {kind_of(names)}, expected a list of candidate ids"
            )
        if not names:
            raise DataError(f"{path}: query {query!r}: the list is empty; rank something")
        for name in names:
            if type(name) not in (str, int):
                raise DataError(
                    f"{path}: query {query!r}: names {name!r}, which is {kind_of(name)}; a "
                    "candidate id is text or a whole number"
                )
            kinds.setdefault(type(name), query)
    if len(kinds) == 2:
        raise DataError(
            f"{path}: ids are text in query {kinds[str]!r} and numbers in query {kinds[int]!r}, so "
            "that one image could count twice; write all of them in one form"
        )
    return {query: [str(name) for name in names] for query, names in raw.items()}


def _records(path: Path, raw: Sequence[Any]) -> dict[str, list[str]]:
    """FashionIQ's test file form (start_kit/eval.py): the annotation list with a "ranking" each."""
    if not raw:
        raise DataError(f"{path}: holds no prediction")
    for number, record in enumerate(raw):
        if not isinstance(record, dict) or not isinstance(record.get("ranking"), list):
            raise DataError(
                f"{path}: record {number}: has no list 'ranking'; expected FashionIQ's form, or an "
                "object query id -> ranked candidate ids"
            )
    return _lists(path, {str(number): record["ranking"] for number, record in enumerate(raw)})


def _json_matrix(path: Path, raw: Mapping[str, Any]) -> Matrix:
    unknown = set(raw) - {"rows", "scale", "row_ids", "column_ids"}
    if unknown:
        raise DataError(
            f"{path}: unknown key {sorted(unknown)[0]!r} beside 'rows'; known: scale, row_ids, "
            "column_ids"
        )
    rows, scale = raw["rows"], raw.get("scale", 1)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) for r in rows):
        raise DataError(f"{path}: 'rows' is no list of rows of similarities")
    if type(scale) not in (int, float) or scale <= 0:
        raise DataError(f"{path}: 'scale' is {scale!r}, expected a number above 0")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: row {number} has {len(row)} similarities, row 0 has {len(rows[0])}"
            )
        for value in row:
            if type(value) not in (int, float):
                raise DataError(
                    f"{path}: row {number} holds {value!r}, which is {kind_of(value)}; expected "
                    "finite numbers"
                )
    values = torch.tensor(rows, dtype=torch.float64) / scale
    return _checked(path, values, raw.get("row_ids"), raw.get("column_ids"))


def _binary(path: Path) -> Matrix:
    ids: dict[str, Any] = {}
    try:
        if path.suffix == ".npy":
            # Copy on write: the file stays a memory map, and torch can hold it.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            if array.dtype.kind not in "fiu":
                raise DataError(f"{path}: holds {array.dtype}, expected real numbers")
            values = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        else:
            values, ids = _safetensors(path)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: no readable {path.suffix} file: {error}") from None
    beside = path.with_name(path.stem + ".ids.json")
    if beside.is_file():
        raw = strict_json.read(beside)
        if not isinstance(raw, dict) or not set(raw) <= {"row_ids", "column_ids"}:
            raise DataError(f"{beside}: expected an object with row_ids, column_ids or both")
        ids |= raw
    return _checked(path, values, ids.get("row_ids"), ids.get("column_ids"))


def _safetensors(path: Path) -> tuple[Tensor, dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        name = "similarity" if "similarity" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise DataError(f"{path}: has the tensors {names}; call the matrix 'similarity'")
        metadata = file.metadata() or {}
        ids = {
            key: strict_json.loads(metadata[key], f"{path} ({key})")
            for key in ("row_ids", "column_ids")
            if key in metadata
        }
        return file.get_tensor(name), ids


def _checked(path: Path, values: Tensor, row_ids: Any, column_ids: Any) -> Matrix:
    if values.dim() != 2 or 0 in values.shape:
        raise DataError(f"{path}: has the shape {tuple(values.shape)}, expected rows x columns")
    if values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"{path}: holds {values.dtype}, expected real numbers")
    ids: list[list[str] | None] = []
    for what, given, size in zip(
        ("row", "column"), (row_ids, column_ids), values.shape, strict=True
    ):
        if given is None:
            ids.append(None)
            continue
        if not isinstance(given, list) or any(type(i) not in (str, int) for i in given):
            raise DataError(f"{path}: {what}_ids is no list of ids")
        if len(given) != size:
            raise DataError(f"{path}: {len(given)} {what}_ids for {size} {what}s")
        texts = [str(i) for i in given]
        if len(set(texts)) != size:
            twice = next(i for i in texts if texts.count(i) > 1)
            raise DataError(f"{path}: {what}_ids has {twice!r} twice")
        ids.append(texts)
    return Matrix(path, values, ids[0], ids[1])
