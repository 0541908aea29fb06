"""Writing shards: one at a time, each tar file whole or not at all, and a record of what is in it.

A sample's key is its image id, percent-encoded (webdataset cuts keys at the first dot). The record
lets the next build of the same dataset use the shard again. Worker processes import this module:
it needs neither pandas nor webdataset (torch).
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from data_recipes.core import strict_json
from data_recipes.core.images import ImageError, ImageSource, RawImage
from data_recipes.core.model import DataError

IMAGES_PER_SHARD = 2_000
COLUMNS = ("id", "shard", "size", "extension", "sha256", "offset")
"""Of the index: sizes in bytes; offset: of the image's first byte in the tar file."""
TEMPORARY = ".tmp-"
_RECORD_VERSION = 1


def encode_key(image_id: str) -> str:
    """Image id -> webdataset key: percent-encoded, dots too. `decode_key` is its inverse."""
    return quote(image_id, safe="").replace(".", "%2E")


def decode_key(key: str) -> str:
    """Webdataset key -> image id."""
    return unquote(key)


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Unit:
    """The sources of one shard, and its file name."""

    name: str
    sources: tuple[ImageSource, ...]

    @property
    def images(self) -> int:
        """How many images the sources give."""
        return sum(len(source.ids) for source in self.sources)


@dataclass(frozen=True)
class Job:
    """What all shards of one build share.

    shards, records: the folders of the tar files and of their records.
    settings: digest of the recipe and its options; image_size: see `ImageSource.load`.
    """

    shards: Path
    records: Path
    settings: str
    image_size: int | None


@dataclass(frozen=True)
class Failure:
    """An image that cannot be read: its id, the source's file and the reason."""

    id: str
    path: str | None
    reason: str


@dataclass(frozen=True)
class Written:
    """A finished shard. There is no file where none of its images could be read.

    rows: of the index, one an image; its columns are `COLUMNS`.
    """

    name: str
    bytes: int
    sha256: str
    rows: list[dict[str, Any]]
    failures: list[Failure]


def cut(sources: Iterable[ImageSource], per_shard: int = IMAGES_PER_SHARD) -> Iterator[Unit]:
    """Sources in their order, at most `per_shard` images a unit (more where one source has more).

    Raises:
        DataError: an image id is empty, is no text that can be stored, or occurs twice.
    """
    seen: set[str] = set()
    held: list[ImageSource] = []
    images = number = 0
    for source in sources:
        for image_id in source.ids:
            _refuse_id(image_id, seen)
            seen.add(image_id)
        if held and images + len(source.ids) > per_shard:
            yield Unit(f"images-{number:06d}.tar", tuple(held))
            held, images, number = [], 0, number + 1
        held.append(source)
        images += len(source.ids)
    if held:
        yield Unit(f"images-{number:06d}.tar", tuple(held))


def _refuse_id(image_id: str, seen: set[str]) -> None:
    if not image_id:
        raise DataError("an image has an empty id; every image needs one")
    if image_id in seen:
        raise DataError(f"image id {image_id!r} occurs twice; ids must be unique")
    try:
        image_id.encode()
    except UnicodeEncodeError:
        raise DataError(f"image id {image_id!r} is not valid Unicode; give another id") from None


def make_shard(unit: Unit, job: Job, tick: Callable[[int], None]) -> Written:
    """The shard of `unit`: the one of an earlier build where nothing changed, else a new one.

    tick: called with the number of images after each source; may raise to stop the work.

    Raises:
        DataError: a source gives other images than it promised, or one that cannot be stored.
        OSError: the shard cannot be written.
    """
    # Before the images are read: a file that changes meanwhile is read again by the next build.
    fingerprint = _fingerprint(unit, job.settings)
    record = job.records / f"{unit.name}.json"
    known = _known(record, fingerprint, unit, job)
    if known is not None:
        tick(unit.images)
        return known
    made = _write_tar(unit, job, tick)
    value = {"fingerprint": fingerprint, "shard": asdict(made)}
    write_whole(record, strict_json.canonical(value).encode())
    return made


def _fingerprint(unit: Unit, settings: str) -> str:
    found = hashlib.sha256(repr((_RECORD_VERSION, settings, unit.name)).encode())
    for source in unit.sources:
        kind = type(source)
        value = (kind.__module__, kind.__qualname__, source.ids, source.fingerprint())
        found.update(repr(value).encode())
    return found.hexdigest()


def _known(record: Path, fingerprint: str, unit: Unit, job: Job) -> Written | None:
    """The finished shard, if it is of this input and what could not be read still cannot be."""
    try:
        value = strict_json.read(record)
    except DataError:
        return None
    if not isinstance(value, dict) or value.get("fingerprint") != fingerprint:
        return None
    raw = value["shard"]
    known = Written(**{**raw, "failures": [Failure(**failure) for failure in raw["failures"]]})
    tar = job.shards / unit.name
    if known.rows and not (tar.is_file() and tar.stat().st_size == known.bytes):
        return None
    failed = {failure.id for failure in known.failures}
    failures: list[Failure] = []
    for source in unit.sources:
        if not failed.isdisjoint(source.ids):
            loaded = _load(source, job.image_size)
            if not isinstance(loaded, str):
                return None
            failures += _failures(source, loaded)
    return replace(known, failures=failures)


def _write_tar(unit: Unit, job: Job, tick: Callable[[int], None]) -> Written:
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    path = job.shards / unit.name
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with naming(path):
            with temporary.open("wb") as stream:
                with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    for source in unit.sources:
                        loaded = _load(source, job.image_size)
                        if isinstance(loaded, str):
                            failures += _failures(source, loaded)
                        else:
                            rows += [_add(tar, image, unit.name) for image in loaded]
                        tick(len(source.ids))
                stream.flush()
                os.fsync(stream.fileno())
            if not rows:
                path.unlink(missing_ok=True)
                return Written(unit.name, 0, "", [], failures)
            size, sha256 = temporary.stat().st_size, file_sha256(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
            return Written(unit.name, size, sha256, rows, failures)
    finally:
        temporary.unlink(missing_ok=True)


def _load(source: ImageSource, size: int | None) -> list[RawImage] | str:
    """The source's images, or why they cannot be read."""
    try:
        images = source.load(size)
    except ImageError as error:
        return error.reason or str(error)
    except DataError as error:
        return str(error).removeprefix(f"{source.path}: ")
    except OSError as error:
        return error.strerror or str(error)
    given = tuple(image.id for image in images)
    if given != source.ids:
        raise DataError(
            f"{source.path}: the source gives the images {given}, its `ids` are {source.ids}; "
            "mend the recipe"
        )
    return images


def _failures(source: ImageSource, reason: str) -> list[Failure]:
    path = None if source.path is None else readable(source.path)
    return [Failure(image_id, path, reason) for image_id in source.ids]


def readable(path: Path) -> str:
    """A path as text that every file can hold: names that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _add(tar: tarfile.TarFile, image: RawImage, shard: str) -> dict[str, Any]:
    """Append one sample; returns its row of the index."""
    if not image.extension.isalnum() or image.extension == "json":
        raise DataError(
            f"image {image.id!r}: the extension {image.extension!r} cannot be stored; use one like "
            "'png' or 'jpg'"
        )
    meta = strict_json.canonical({"id": image.id, **image.meta}).encode()
    row: dict[str, Any] = {
        "id": image.id,
        "shard": shard,
        "size": len(image.data),
        "extension": image.extension,
        "sha256": hashlib.sha256(image.data).hexdigest(),
    }
    for ending, data in sorted({image.extension: image.data, "json": meta}.items()):
        member = tarfile.TarInfo(f"{encode_key(image.id)}.{ending}")
        member.size = len(data)
        member.mode = 0o444
        member.uname = member.gname = "bigdata"  # as webdataset's own writer; no user, no time
        tar.addfile(member, io.BytesIO(data))
        if ending != "json":
            blocks = -(-len(data) // tarfile.BLOCKSIZE)
            row["offset"] = tar.offset - blocks * tarfile.BLOCKSIZE
    return row


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of a full disk name the file: the operating system's do not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Replace `path` in one step: a reader sees the old bytes or the new ones."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with naming(path), temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries (new and renamed names) durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
