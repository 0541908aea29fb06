"""Files of frozen features: an array that is mapped into memory, and what it is, in JSON beside it.

`KEY.json` names its array `KEY-<sha256>.npy` and is written last, whole: an array that no such file
names is not there, and two writers of one key cannot mix their files. KEY is the hash of an
`Identity`. A sidecar's time of modification is when the array was last used. No torch here: what is
cached is listed at once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.feature_lock import Turn, held
from data_recipes.core import strict_json
from data_recipes.core.model import DataError
from data_recipes.core.write import naming
from results.atomic import sync_folder, temporary_name, write_whole

SCHEMA = 1
KEY = "[0-9a-f]{32}"
MADE_WITH = ("promptgrid", "torch", "open_clip_torch", "numpy", "pillow")
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
_verified: set[tuple[str, int, int, int, str]] = set()


@dataclass(frozen=True)
class Identity:
    """What decides an array's values.

    encoder: digest. dataset: digest; None for texts, which belong to none.
    transform: what happens to an image before it is encoded, beside the encoder's own transform.
    precision: of the encoding. dtype: of the stored numbers.
    rows: "all", or the sha256 of the ids, or of the texts, in order.
    """

    kind: Literal["images", "views", "texts"]
    encoder: str
    dataset: str | None
    transform: str
    precision: str
    rows: str
    dtype: str = "float32"

    @property
    def key(self) -> str:
        """32 hexadecimal digits; the files' names begin with them."""
        return strict_json.digest({"schema": SCHEMA, **asdict(self)})[:32]


@dataclass(frozen=True)
class Sidecar:
    """What `KEY.json` says of its array. backbone, dataset: in words, as they were called then."""

    path: Path
    key: str
    identity: dict[str, Any]
    backbone: str
    dataset: str | None
    file: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    bytes: int
    created: str
    made_with: dict[str, str]

    @property
    def array(self) -> Path:
        """The array's file."""
        return self.path.with_name(self.file)

    def open(self) -> Array | None:
        """The array, mapped and found whole; None where its file is gone (evicted just now).

        The sha256 of its bytes is compared once in a process for each state of the file.

        Raises:
            DataError: the file is not what was written; the message names it and the way out.
        """
        try:
            # "c": a private copy on write, because torch wants writable memory. Nothing writes.
            array: Array = np.load(self.array, mmap_mode="c")
            state = self.array.stat()
        except FileNotFoundError:
            return None
        except (ValueError, EOFError) as error:
            raise self._damaged(str(error)) from None
        if array.shape != self.shape or array.dtype.name != self.dtype:
            raise self._damaged(f"{array.dtype} of shape {array.shape}, not {self.shape}")
        seen = (str(self.array), state.st_ino, state.st_mtime_ns, state.st_size, self.sha256)
        if seen not in _verified:
            if sha256(array) != self.sha256:
                raise self._damaged("the bytes are not those that were written (sha256)")
            _verified.add(seen)
            with suppress(OSError):  # a cache that only others may write
                os.utime(self.path)
        return array

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self.array}: damaged frozen features: {why}; {way_out(self.path)}")


def way_out(sidecar: Path) -> str:
    """The command that removes an entry, for error messages."""
    return (
        f"run `promptgrid cache evict {sidecar.stem} --cache {sidecar.parent}`, and they are "
        "computed again"
    )


def sha256(array: Array) -> str:
    """Of an array's bytes (hex)."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def read_sidecar(path: Path) -> Sidecar | None:
    """What a sidecar says; None where there is none. Raises DataError where it is damaged."""
    try:
        raw = strict_json.loads(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(raw, dict) or raw.pop("schema") != SCHEMA:
            raise ValueError("of another version")
        return Sidecar(path, **{**raw, "shape": tuple(raw["shape"])})
    except FileNotFoundError:
        return None
    except (DataError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, DataError) else f"{path}: {error!r}"
        raise DataError(f"{said}: not what was written; {way_out(path)}") from None


@dataclass(frozen=True)
class Stored:
    """The place of one array in the folder `cache`. shape: what it must have."""

    cache: Path
    identity: Identity
    shape: tuple[int, ...]
    backbone: str
    dataset: str | None = None

    def open(self) -> Array | None:
        """The array, mapped; None where it is not there yet.

        Raises:
            DataError: it is damaged, or of another shape; the message names the way out.
        """
        path = self.cache / f"{self.identity.key}.json"
        found = read_sidecar(path)
        if found is None:
            return None
        if found.shape != self.shape:
            raise DataError(
                f"{path}: features of shape {found.shape}, expected {self.shape}; {way_out(path)}"
            )
        return found.open()

    def write(self, array: Array) -> None:
        """Write array and sidecar, each whole, the sidecar last."""
        key, sha = self.identity.key, sha256(array)
        assert array.shape == self.shape, (array.shape, self.shape)
        final = self.cache / f"{key}-{sha}.npy"
        self.cache.mkdir(parents=True, exist_ok=True)
        part = final.with_name(temporary_name(final.name))
        try:
            with naming(final), part.open("wb") as stream:
                np.save(stream, array)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self.cache)
        sidecar = {
            "schema": SCHEMA,
            "key": key,
            "identity": asdict(self.identity),
            "backbone": self.backbone,
            "dataset": self.dataset,
            "file": final.name,
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "sha256": sha,
            "bytes": final.stat().st_size,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "made_with": {name: version(name) for name in MADE_WITH},
        }
        text = strict_json.canonical(sidecar)
        with naming(final):
            write_whole(self.cache / f"{key}.json", text.encode())

    def turn(self) -> Turn:
        """The right to compute this array, which one process has at a time."""
        of = f" of {self.dataset}" if self.dataset else ""
        what = f"features ({self.identity.kind}{of}, {self.backbone})"
        return Turn(self.cache, self.identity.key, what)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """In turn, waiting as long as others compute it."""
        with held(self.turn()):
            yield


def sidecar_paths(cache: Path) -> list[Path]:
    """Of all arrays in a folder; other files there are none of ours."""
    return sorted(path for path in cache.glob("*.json") if re.fullmatch(KEY, path.stem))


def verify(cache: Path, datasets: set[str], encoder: str) -> None:
    """Compare what is stored of these datasets (digests), and of an encoder's texts, with its sums.

    Raises:
        DataError: of the first that differs.
    """
    for found in filter(None, map(read_sidecar, sidecar_paths(cache))):
        of_encoder = found.identity["kind"] == "texts" and found.identity["encoder"] == encoder
        if of_encoder or found.identity["dataset"] in datasets:
            found.open()
