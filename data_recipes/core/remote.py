"""Built datasets behind `s3://bucket/prefix` and `http(s)://`, read through fsspec.

The small files (manifest, index, tasks) are fetched once into a local mirror that is named by the
manifest's content; of the shards only the bytes that are needed travel. s3fs and aiohttp come with
the extra `promptgrid[remote]`. Endpoint and credentials are AWS' usual ones.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import fsspec

from data_recipes.core.descriptions import DESCRIPTIONS
from data_recipes.core.manifest import INDEX, MANIFEST, Manifest, Shard, read_manifest
from data_recipes.core.model import DataError

PAUSES = (0.2, 0.5, 1.5, 4.0)  # seconds before each further attempt, times 1 to 2 at random
WORKERS = 8  # requests at a time
_URL = re.compile(r"(s3|https?):/+(.+)")
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A folder or file at a URL; `/` joins names as with a Path."""

    url: str

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def resolve(self) -> Remote:
        """Itself: a URL is absolute."""
        return self

    def read(self, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes from `start` to `stop`; all of them where the server knows no ranges.

        Raises:
            DataError: nothing there, no access, a missing extra, or still failing when repeated.
        """
        data: bytes = self._tried(lambda files: files.cat_file(self.url, start=start, end=stop))
        return data

    def size(self) -> int | None:
        """Bytes, or None where the server does not say. Raises DataError as `read` does."""
        size: int | None = self._tried(lambda files: files.info(self.url)["size"])
        return size

    def _tried(self, call: Callable[[Any], T]) -> T:
        """Call with fsspec's file system; errors of the moment are waited out.

        s3fs and botocore repeat requests themselves; fsspec's HTTP does not.
        """
        files = _files(self.url)
        for pause in (*PAUSES, None):
            try:
                return call(files)
            except Exception as error:
                cause = _cause(error)
                if pause is None or not _passing(cause):
                    raise _explained(self.url, cause) from error
                time.sleep(pause * random.uniform(1, 2))
        raise AssertionError("the last attempt returns or raises")


class _AbsentError(DataError):
    """Nothing at this address."""


Place = Path | Remote


def place(text: str | Path | Remote) -> Place:
    """A local path, or a Remote for s3:// and http(s)://, also where Path ate a slash of it."""
    if isinstance(text, Remote):
        return text
    match = _URL.fullmatch(str(text))
    return Remote(f"{match[1]}://{match[2].rstrip('/')}") if match else Path(text)


def _files(url: str) -> Any:
    try:
        return fsspec.filesystem(url.partition(":")[0])
    except ImportError as error:
        raise DataError(
            f"{url}: {error}; install what remote datasets need with "
            "`pip install 'promptgrid[remote]'`"
        ) from None


def _cause(error: BaseException) -> BaseException:
    """fsspec's HTTP calls every failed look-up "not found"; the reason hangs below it."""
    below = error.__cause__
    if isinstance(error, FileNotFoundError) and below is not None and _status(below) != 404:
        return below
    return error


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _passing(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, (FileNotFoundError, PermissionError, NotImplementedError)):
        return False
    if (status := _status(error)) is not None:
        return status in _TRY_AGAIN
    own = type(error).__module__.partition(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or own == "aiohttp"


def _explained(url: str, error: BaseException) -> DataError:
    said = str(error) or type(error).__name__
    more = "" if url.endswith(said.removeprefix("s3://")) else f" ({said})"
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError) or _status(error) == 404 or kind == "NoSuchBucket":
        return _AbsentError(f"{url}: nothing there{more}; is the address right?")
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return DataError(f"{url}: access denied{more}; the credentials in use may not read it")
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return DataError(
            f"{url}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or "
            "AWS_PROFILE), or FSSPEC_S3_ANON=true for a public bucket"
        )
    return DataError(f"{url}: cannot be read: {kind}: {said}")


def mirrors() -> Path:
    """Folder of the local mirrors, one folder each; see `promptgrid cache list`."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "promptgrid" / "remote"


def mirror(remote: Remote, verify: Callable[[Path, Manifest], None]) -> Path:
    """Local folder with the manifest, index, tasks and descriptions of the dataset at `remote`.

    The manifest is fetched every time, the rest once for each content of the manifest. verify is
    called before a new mirror is kept.

    Raises:
        DataError: no dataset there, or what is there does not fit its manifest.
    """
    try:
        content = (remote / MANIFEST).read()
    except _AbsentError as error:
        raise DataError(f"{error}; a built dataset has a {MANIFEST}") from None
    final = mirrors() / hashlib.sha256(content).hexdigest()[:32]
    if final.is_dir():
        with suppress(OSError):  # when it was last used; a cache may be read-only
            os.utime(final)
        return final
    part = final.with_name(f".{final.name}-{uuid.uuid4().hex[:8]}")
    part.mkdir(parents=True)
    try:
        (part / MANIFEST).write_bytes(content)
        try:
            manifest = read_manifest(part)
        except DataError as error:
            raise DataError(str(error).replace(str(part), str(remote))) from None
        names = [INDEX, *_task_files(manifest)]
        names += [DESCRIPTIONS] if manifest.descriptions_sha256 is not None else []
        with ThreadPoolExecutor(WORKERS) as pool:
            found = pool.map(lambda name: (remote / name).read(), names)
            for name, data in zip(names, found, strict=True):
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(data)
        try:
            verify(part, manifest)
        except DataError as error:
            raise DataError(str(error).replace(str(part), str(remote))) from None
        try:
            part.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was faster: equal content
                raise
        return final
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _task_files(manifest: Manifest) -> list[str]:
    return [
        f"tasks/{entry.name}/{part.name}.{what}.jsonl"
        for entry in manifest.tasks
        for part in entry.parts
        for what in ("queries", "candidates")
    ]


class RemoteShards:
    """Byte ranges of remote shards; whole shards kept locally where the server knows no ranges."""

    def __init__(self, remote: Remote, mirrored: Path, shards: Mapping[str, Shard]) -> None:
        self.remote = remote
        self._mirrored = mirrored
        self._shards = shards
        self._ranges = True
        self._lock = Lock()

    def check_sizes(self) -> None:
        """Raise DataError where a shard is missing or has another size than in the manifest."""
        with ThreadPoolExecutor(WORKERS) as pool:
            sizes = pool.map(lambda name: (self.remote / name).size(), self._shards)
            for shard, size in zip(self._shards.values(), sizes, strict=True):
                if size is not None and size != shard.bytes:
                    raise self._cut(shard, size)

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a shard. Raises DataError when the shard is cut."""
        kept = self._mirrored / name
        if self._ranges and not kept.is_file():
            data = (self.remote / name).read(start, stop)
            if len(data) == stop - start:
                return data
            if len(data) < stop - start:
                raise self._cut(self._shards[name], start + len(data))
            self._ranges = False
        with self._lock:
            if not kept.is_file():
                self._keep(kept, self._shards[name])
        with kept.open("rb") as stream:
            stream.seek(start)
            return stream.read(stop - start)

    def _keep(self, kept: Path, shard: Shard) -> None:
        """Fetch a whole shard into the mirror, once its size and sha256 fit the manifest."""
        data = (self.remote / shard.name).read()
        if len(data) != shard.bytes:
            raise self._cut(shard, len(data))
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise DataError(
                f"{self.remote / shard.name}: content differs from the manifest (sha256); copy it "
                "there again"
            )
        part = kept.with_name(f".{kept.name}-{uuid.uuid4().hex[:8]}")
        part.write_bytes(data)
        part.replace(kept)

    def _cut(self, shard: Shard, size: int) -> DataError:
        return DataError(
            f"{self.remote / shard.name}: {size} bytes there, the manifest says {shard.bytes}; "
            "copy the shard there again"
        )
