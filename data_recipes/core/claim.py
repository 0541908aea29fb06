"""One build at a time in a folder: each process says in a file of its own that it builds there.

The file is written before the others' are read, so of two builds that start together at most one
goes on; no lock of the file system is needed. A file whose process has ended counts for nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from data_recipes.core import strict_json
from data_recipes.core.model import DataError
from data_recipes.core.write import write_whole

PREFIX = "claim-"
_SAME_START_S = 60.0  # clocks are set; a number is given again much later


@dataclass(frozen=True)
class Claim:
    """Who builds. started: seconds since 1970, tells processes of equal number apart."""

    host: str
    pid: int
    started: float

    def living(self) -> bool:
        """Whether that process still runs; taken for granted on another host."""
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and abs(process.create_time() - self.started) < _SAME_START_S
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Build in `folder`, which is made if need be, alone.

    Raises:
        DataError: another process builds there; the message names it and the way out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    me = Claim(socket.gethostname(), os.getpid(), psutil.Process().create_time())
    mine = folder / f"{PREFIX}{me.host}-{me.pid}"
    if mine.exists():
        _refuse_living(mine)
    write_whole(mine, strict_json.canonical(asdict(me)).encode())
    try:
        for other in folder.glob(f"{PREFIX}*"):
            if other != mine:
                _refuse_living(other)
        yield
    finally:
        mine.unlink(missing_ok=True)


def _refuse_living(path: Path) -> None:
    """Remove a claim whose process has ended. Raises DataError where it has not."""
    try:
        raw = strict_json.read(path)
    except DataError:
        if not path.exists():  # given up in this moment
            return
        raise
    claim = Claim(**raw)
    if claim.living():
        raise DataError(
            f"{path.parent}: process {claim.pid} on {claim.host} is building this dataset; wait "
            f"for it, or build under another --name. Where that process has ended, remove {path}"
        )
    path.unlink(missing_ok=True)
