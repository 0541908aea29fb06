"""Whose turn it is to compute an array of features: a lock beside the files, one for each key.

The lock is `filelock`'s, which is flock on Linux: it ends with its process, however that ends, so
nobody waits for the dead. Linux passes it to the server on NFS 4, and so between hosts. A file
system that grants it to two hosts costs the second computation and no more: files are written whole
and under names of their own content. Without any flock, `filelock` makes the file itself the lock;
one that a crash on another host left is named by the waiting message, and can be removed.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = ".locks"
POLL_S = 0.1
NOTICE_S = 5.0  # seconds of waiting before it is said
AGAIN_S = 300.0  # and between one notice and the next

log = logging.getLogger("promptgrid.features")


class Turn:
    """The right to compute what `key` names in `folder`; `what` says it in words."""

    def __init__(self, folder: Path, key: str, what: str) -> None:
        self._what = what
        self._folder = folder / FOLDER
        self._who = self._folder / f"{key}.who"
        self._lock = FileLock(self._folder / f"{key}.lock", thread_local=False)
        self._since = time.monotonic()
        self._notice = NOTICE_S

    def take(self, seconds: float = 0.0) -> bool:
        """Wait up to `seconds` for the turn; whether it was got. May be called again if not.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + seconds
        while not self._got():
            if time.monotonic() >= end:
                return False
            waited = time.monotonic() - self._since
            if waited >= self._notice:
                self._notice += AGAIN_S
                self._tell(waited)
            time.sleep(POLL_S)
        me = {"host": socket.gethostname(), "pid": os.getpid(), "what": self._what}
        with suppress(OSError):  # it only helps those who wait
            self._who.write_text(json.dumps(me))
        return True

    def give(self) -> None:
        """Give the turn up; nothing happens where it was not got."""
        if self._lock.is_locked:
            self._who.unlink(missing_ok=True)
            self._lock.release()

    def holder(self) -> str:
        """Who has the turn, in words, as far as it is known."""
        try:
            told = json.loads(self._who.read_text())
            return f"process {told['pid']} on {told['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _got(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def _tell(self, waited: float) -> None:
        log.warning(
            "waiting since %.0f s for %s: %s computes them (lock: %s)",
            waited,
            self._what,
            self.holder(),
            self._lock.lock_file,
        )


@contextmanager
def held(turn: Turn) -> Iterator[None]:
    """Wait for the turn, however long that takes, and give it up afterwards."""
    try:
        while not turn.take(AGAIN_S):
            pass
        yield
    finally:
        turn.give()
