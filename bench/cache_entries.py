"""What is cached: frozen features in their folder, and the local mirrors of remote datasets.

Only files whose names these caches give are ever looked at or removed; whatever else lies in a
folder stays.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.feature_lock import FOLDER, Turn
from bench.feature_store import KEY, read_sidecar, sidecar_paths
from data_recipes.core.manifest import read_manifest
from data_recipes.core.model import DataError
from data_recipes.core.remote import mirrors

Kind = Literal["images", "views", "texts", "remote dataset", "damaged", "computing", "unfinished"]
SAFE_S = 3600.0  # an unfinished file this old belongs to no living writer
# An array or a part of a write; the last two forms are of versions that wrote no sidecars.
_PARTS = re.compile(
    rf"(?P<a>{KEY})-[0-9a-f]{{64}}\.npy|\.tmp-(?P<b>{KEY})[-.][^/]*"
    rf"|(?P<c>{KEY})\.npy|\.(?P<d>{KEY})-\d+-[0-9a-f]{{8}}\.npy"
)
_MIRROR = re.compile(rf"(?P<whole>{KEY})|\.(?P<part>{KEY})-[0-9a-f]{{8}}")


@dataclass(frozen=True)
class Entry:
    """One thing that can be evicted.

    used: last use, seconds since 1970. paths: in the order of their removal.
    kind: what it holds; "damaged": unreadable; "computing": a living process makes it now;
        "unfinished": what a process left that ended, or whose sidecar is gone.
    """

    key: str
    kind: Kind
    dataset: str | None
    backbone: str | None
    rows: int | None
    bytes: int
    used: float
    paths: tuple[Path, ...]

    @property
    def words(self) -> str:
        """For messages."""
        of = f" of {self.dataset}" if self.dataset else ""
        by = f" by {self.backbone}" if self.backbone else ""
        rows = f"{self.rows:,} rows, " if self.rows is not None else ""
        return f"{self.kind}{of}{by} ({rows}{self.bytes / 1e6:.1f} MB, key {self.key[:12]})"


def entries(cache: Path) -> list[Entry]:
    """All that is cached: features in `cache`, then remote datasets."""
    features = list(_features(cache))
    named = {path for entry in features for path in entry.paths}
    return [*features, *_unfinished(cache, named), *_mirrors()]


def _features(cache: Path) -> Iterator[Entry]:
    for path in sidecar_paths(cache):
        try:
            found = read_sidecar(path)
        except DataError:
            arrays = sorted(cache.glob(f"{path.stem}-*.npy"))
            yield _entry(path.stem, "damaged", (path, *arrays))
            continue
        if found is not None:
            kind: Kind = found.identity["kind"]
            paths = (path, found.array)
            yield _entry(found.key, kind, paths, found.dataset, found.backbone, found.shape[0])


def _unfinished(cache: Path, named: set[Path]) -> Iterator[Entry]:
    """What no sidecar names."""
    parts: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(cache.iterdir()) if cache.is_dir() else []:
        match = _PARTS.fullmatch(path.name)
        if match is not None and path not in named:
            parts[next(filter(None, match.groups()))].append(path)
    for who in (cache / FOLDER).glob("*.who"):
        parts[who.stem] += []
    for key, paths in parts.items():
        if _computed_by(cache, key) is not None:
            yield _entry(key, "computing", tuple(paths))
        elif paths:
            yield _entry(key, "unfinished", tuple(paths))


def _mirrors() -> Iterator[Entry]:
    folder = mirrors()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _MIRROR.fullmatch(path.name)
        if match is None or not path.is_dir():
            continue
        if match["part"]:
            yield _entry(match["part"], "unfinished", (path,))
            continue
        try:
            manifest = read_manifest(path)
        except DataError:
            yield _entry(path.name, "damaged", (path,))
            continue
        name, images = manifest.name, manifest.images
        yield _entry(path.name, "remote dataset", (path,), dataset=name, rows=images)


def _entry(
    key: str,
    kind: Kind,
    paths: tuple[Path, ...],
    dataset: str | None = None,
    backbone: str | None = None,
    rows: int | None = None,
) -> Entry:
    there = [path for path in paths if path.exists()]
    files = [file for path in there for file in ([path] if path.is_file() else path.rglob("*"))]
    size = sum(file.stat().st_size for file in files if file.is_file())
    # A sidecar's and a mirror's own time of modification is when they were last used.
    used = there[0].stat().st_mtime if there else time.time()
    return Entry(key, kind, dataset, backbone, rows, size, used, paths)


def _computed_by(cache: Path, key: str) -> str | None:
    """Which living process computes the features `key`; None: none does."""
    turn = Turn(cache, key, "its removal")
    if not (cache / FOLDER).is_dir() or turn.take():
        turn.give()
        return None
    return turn.holder()


def of_keys(found: Sequence[Entry], keys: Sequence[str]) -> list[Entry]:
    """The entries whose keys begin with these.

    Raises:
        DataError: a beginning fits no entry, or entries of several keys.
    """
    chosen: list[Entry] = []
    for begin in keys:
        fits = [entry for entry in found if entry.key.startswith(begin.lower())]
        if not fits:
            raise DataError(f"nothing cached has the key {begin!r}; see `promptgrid cache list`")
        if len({entry.key for entry in fits}) > 1:
            several = ", ".join(sorted({entry.key[:16] for entry in fits})[:4])
            raise DataError(f"the key {begin!r} is the beginning of several: {several}; give more")
        chosen += fits
    return list(dict.fromkeys(chosen))


def remove(entry: Entry, cache: Path) -> str | None:
    """Remove an entry's files; why it was kept instead, or None.

    Processes that have it mapped go on: the system keeps a removed file's bytes for them.
    """
    if entry.paths and entry.paths[0].parent == mirrors():
        return _remove_mirror(entry)
    turn = Turn(cache, entry.key, "its removal")
    if not turn.take():
        return f"{turn.holder()} computes it now"
    try:
        young = time.time() - max((p.stat().st_mtime for p in entry.paths if p.exists()), default=0)
        if entry.kind == "unfinished" and young < SAFE_S:
            return "a process may be writing it; it was touched less than an hour ago"
        for path in entry.paths:
            path.unlink(missing_ok=True)
    finally:
        turn.give()
    return None


def _remove_mirror(entry: Entry) -> str | None:
    (path,) = entry.paths
    if entry.kind == "unfinished" and time.time() - entry.used < SAFE_S:
        return "a process may be fetching it; it was touched less than an hour ago"
    aside = path
    if entry.kind != "unfinished":  # readers see it whole or not at all
        aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        path.rename(aside)
    shutil.rmtree(aside)
    return None
