"""The record store: one immutable folder per finished cell, one file per failed one.

    root/records/<key>/record.json           the truth
                       ranks.parquet         one row per query: query_id, rank (from 1), ...
                       lists.parquet         one row per query: its first candidates, best first
                       weights.safetensors   what the method trained
    root/failures/<key>.json                 the latest failure of a cell without a record

A database or lock file is unreliable on network file systems; renaming a folder is not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save as save_numpy

from results.atomic import (
    TEMPORARY_PREFIX,
    sync_folder,
    temporary_name,
    write_synced,
    write_whole,
)
from results.schema import RecordError, check_json_values, from_json, to_json

if TYPE_CHECKING:
    import torch

RECORD_FILE = "record.json"
RANKS_FILE = "ranks.parquet"
LISTS_FILE = "lists.parquet"
LISTS_COLUMNS = ("part", "query_id", "candidates", "subset")
WEIGHTS_FILE = "weights.safetensors"
# A record is written in seconds; an hour-old temporary folder has lost its writer.
DEAD_AFTER_SECONDS = 3600.0

Weights = Mapping[str, "torch.Tensor"] | Mapping[str, np.ndarray[Any, Any]]

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RecordStore:
    """Records and failures below one root folder; safe for many writers on many hosts."""

    def __init__(self, root: Path) -> None:
        """Nothing is created until the first write, so that reading never leaves traces."""
        self.root = Path(root)
        self._records = self.root / "records"
        self._failures = self.root / "failures"

    def has(self, key: str) -> bool:
        """Whether the cell is finished."""
        return (self.folder(key) / RECORD_FILE).is_file()

    def keys(self) -> list[str]:
        """Keys of all finished cells, sorted."""
        return _sorted_names(self._records, f"*/{RECORD_FILE}")

    def folder(self, key: str) -> Path:
        """Where the record of `key` is or will be."""
        return self._records / _checked_key(key)

    def write(
        self,
        record: dict[str, Any],
        ranks: pd.DataFrame | None = None,
        weights: Weights | None = None,
        lists: pd.DataFrame | None = None,
    ) -> bool:
        """Store a finished cell, whole or not at all.

        lists: `LISTS_COLUMNS`, one row per query; `candidates` and `subset` hold lists of ids,
        best first, `subset` None where the protocol has none.

        Returns True when this call stored it, False when a record of that key was there
        already: the existing one is kept and this one dropped. Either way an old failure of
        the key is cleared.
        """
        key = _checked_key(record.get("key"))
        contents = {RECORD_FILE: to_json(record).encode()}
        if ranks is not None:
            _check_ranks(ranks, record["n_queries"])
            contents[RANKS_FILE] = ranks.to_parquet(None, index=False)
        if lists is not None:
            _check_lists(lists, record["n_queries"])
            contents[LISTS_FILE] = lists.to_parquet(None, index=False)
        if weights:
            contents[WEIGHTS_FILE] = _weights_bytes(weights)

        stored = not self.has(key) and self._place(key, contents)
        self.clear_failure(key)
        return stored

    def _place(self, key: str, contents: dict[str, bytes]) -> bool:
        """Write the files into a temporary folder and rename it to its final name."""
        final = self.folder(key)
        temporary = self._records / temporary_name(key)
        temporary.mkdir(parents=True)
        try:
            for name, content in contents.items():
                write_synced(temporary / name, content)
            sync_folder(temporary)
            # A rename onto a folder with files in it fails, so the first writer wins.
            os.rename(temporary, final)  # noqa: PTH104  (the system call is the point)
        except OSError as error:
            if self.has(key):
                return False
            if final.is_dir():
                raise RecordError(
                    f"{final} exists without {RECORD_FILE}, so it is no record; delete it"
                ) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(self._records)
        return True

    def read(self, key: str) -> dict[str, Any]:
        """The checked content of one `record.json`."""
        path = self.folder(key) / RECORD_FILE
        try:
            record = from_json(path.read_bytes())
        except FileNotFoundError:
            raise KeyError(f"no record {key!r} in {self._records}") from None
        except RecordError as error:
            raise RecordError(
                f"{path}: {error}. To compute the cell again, delete {path.parent}"
            ) from error
        if record["key"] != key:
            raise RecordError(f"{path}: holds the key {record['key']!r}, not its folder's name")
        return record

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, sorted by key, one at a time: a large store would fill the memory."""
        return map(self.read, self.keys())

    def read_all(self) -> list[dict[str, Any]]:
        """All records at once, sorted by key."""
        return [*self.records()]

    def read_ranks(self, key: str) -> pd.DataFrame | None:
        """Per-query ranks of a record, or None where it has none."""
        path = self.folder(key) / RANKS_FILE
        return pd.read_parquet(path) if path.is_file() else None

    def read_lists(self, key: str) -> pd.DataFrame | None:
        """Each query's first candidates, as `write` took them, or None where it has none."""
        path = self.folder(key) / LISTS_FILE
        if not path.is_file():
            return None
        table = pd.read_parquet(path)
        for column in ("candidates", "subset"):
            table[column] = table[column].map(lambda row: None if row is None else list(row))
        return table

    def read_weights(self, key: str) -> dict[str, np.ndarray[Any, Any]] | None:
        """Trained weights of a record as numpy arrays, or None where it has none.

        For weights in bfloat16, which numpy lacks, open the file with `safetensors.torch`.
        """
        path = self.folder(key) / WEIGHTS_FILE
        return load_numpy(path) if path.is_file() else None

    def write_failure(self, key: str, failure: dict[str, Any]) -> None:
        """Note why a cell failed; a later failure replaces it, a record clears it.

        `failure["reason"]` is the error text (a traceback will do); `failure["cell"]`, where
        given, holds the cell's coordinates as in a record, so that tables can name the cell.
        """
        path = self._failure_path(key)
        if not isinstance(failure.get("reason"), str):
            raise RecordError(f"failure of {key}: `reason` must be a string")
        check_json_values(failure)
        text = json.dumps({**failure, "key": key}, sort_keys=True, allow_nan=False, indent=1)
        write_whole(path, text.encode() + b"\n")

    def failures(self) -> dict[str, dict[str, Any]]:
        """Failures by key, sorted, of the cells that have no record.

        A writer that dies between its rename and the clearing leaves a stale failure behind;
        the record counts.
        """
        found: dict[str, dict[str, Any]] = {}
        for key in _sorted_names(self._failures, "*.json"):
            if self.has(key):
                continue
            path = self._failure_path(key)
            try:
                failure = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:  # cleared by a record since the listing
                continue
            except ValueError as error:
                raise RecordError(f"{path}: not JSON: {error}") from error
            if not isinstance(failure, dict) or not isinstance(failure.get("reason"), str):
                raise RecordError(f"{path}: `reason` must be a string")
            found[key] = failure
        return found

    def clear_failure(self, key: str) -> None:
        """Forget the failure of a cell, if there is one."""
        self._failure_path(key).unlink(missing_ok=True)

    def sweep(self, older_than_seconds: float = DEAD_AFTER_SECONDS) -> list[Path]:
        """Delete what dead writers left behind; returns the deleted paths, sorted."""
        oldest_allowed = time.time() - older_than_seconds
        swept = []
        for folder in (self._records, self._failures):
            for path in sorted(folder.glob(f"{TEMPORARY_PREFIX}*")):
                if _last_change(path) >= oldest_allowed:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                swept.append(path)
        return swept

    def _failure_path(self, key: str) -> Path:
        return self._failures / f"{_checked_key(key)}.json"


def _checked_key(key: object) -> str:
    """Keys become folder names: no separators, no leading dot."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise RecordError(f"key {key!r}: letters, digits, '.', '_', '-' only, no leading dot")
    return key


def _sorted_names(folder: Path, pattern: str) -> list[str]:
    """Keys named by `<key>/record.json` or `<key>.json` below a folder; never temporary ones."""
    names = (
        path.parent.name if "/" in pattern else path.name.removesuffix(".json")
        for path in folder.glob(pattern)
    )
    return sorted(name for name in names if _KEY.fullmatch(name))


def _check_ranks(ranks: pd.DataFrame, n_queries: int) -> None:
    """One row per query: what paired statistics rely on.

    `rank` is 1-based, of the best relevant candidate; 0 where the gallery has none. Where a
    protocol has several parts (garment types, two directions), a `part` column tells them
    apart, and a query may appear once in each.
    """
    for column in ("query_id", "rank"):
        if column not in ranks.columns:
            raise RecordError(f"ranks have no column {column!r}")
    if not all(isinstance(query, str) for query in ranks["query_id"]):
        raise RecordError("ranks: query_id must be strings")
    one_query = [name for name in ("part", "query_id") if name in ranks.columns]
    repeated = ranks.duplicated(one_query)
    if repeated.any():
        twice = ranks.loc[repeated, "query_id"].iloc[0]
        raise RecordError(f"ranks: query_id {twice!r} appears more than once")
    if not pd.api.types.is_integer_dtype(ranks["rank"].dtype) or not (ranks["rank"] >= 0).all():
        raise RecordError("ranks: rank must be whole numbers, from 1, or 0 for none")
    if len(ranks) != n_queries:
        raise RecordError(f"ranks have {len(ranks)} rows, but n_queries is {n_queries}")


def _check_lists(lists: pd.DataFrame, n_queries: int) -> None:
    """One row per query, and every id a string, none twice in a list."""
    if tuple(lists.columns) != LISTS_COLUMNS:
        raise RecordError(f"lists have the columns {list(lists.columns)}, not {LISTS_COLUMNS}")
    if len(lists) != n_queries:
        raise RecordError(f"lists have {len(lists)} rows, but n_queries is {n_queries}")
    repeated = lists.duplicated(["part", "query_id"])
    if repeated.any():
        twice = lists.loc[repeated, "query_id"].iloc[0]
        raise RecordError(f"lists: query_id {twice!r} appears more than once")
    for column in ("candidates", "subset"):
        for query, ids in zip(lists["query_id"], lists[column], strict=True):
            if ids is None and column == "subset":
                continue
            if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
                raise RecordError(f"lists: {column} of query {query!r} is no list of strings")
            if len(set(ids)) < len(ids):
                raise RecordError(f"lists: {column} of query {query!r} names an id twice")


def _weights_bytes(weights: Weights) -> bytes:
    """Safetensors bytes of numpy arrays or torch tensors (torch is imported only for those)."""
    arrays = {name: w for name, w in weights.items() if isinstance(w, np.ndarray)}
    if len(arrays) == len(weights):
        return save_numpy({name: np.ascontiguousarray(w) for name, w in arrays.items()})
    from safetensors.torch import save as save_torch

    tensors: dict[str, Any] = dict(weights)
    # A clone each, because safetensors refuses tensors that share memory (tied weights).
    return save_torch({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()})


def _last_change(path: Path) -> float:
    """Newest modification below `path`, in seconds since the epoch; now, if it just vanished."""
    try:
        return max(entry.stat().st_mtime for entry in (path, *path.glob("*")))
    except FileNotFoundError:
        return time.time()
