"""The status file of a run: what a person, or another process, reads to see how it goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Phase = Literal["starting", "running", "finished", "interrupted", "error"]
WRITE_EVERY_S = 2.0


@dataclass
class StatusFile:
    """Writes `path` at most every two seconds, whole or not at all; with None it writes nothing.

    Keys: phase, driver_pid, started, heartbeat (seconds since 1970), error, and those of
    `LeaseQueue.snapshot`. A heartbeat older than a few seconds in phase `starting` or `running`
    means that the driver died.
    """

    path: Path | None
    started: float = field(default_factory=time.time)
    _snapshot: dict[str, Any] = field(default_factory=dict, init=False)
    _written: float = field(default=float("-inf"), init=False)

    @contextmanager
    def told(self) -> Iterator[None]:
        """`starting` at the begin of the block, and what ended it if that was an exception."""
        self.write("starting")
        try:
            yield
        except BaseException as reason:
            interrupted = isinstance(reason, KeyboardInterrupt | SystemExit)
            self.write("interrupted" if interrupted else "error", error=repr(reason))
            raise

    def due(self) -> bool:
        """Whether the next `write` is due."""
        return self.path is not None and time.monotonic() - self._written >= WRITE_EVERY_S

    def write(
        self, phase: Phase, snapshot: dict[str, Any] | None = None, error: str | None = None
    ) -> None:
        """Write now; without a snapshot, with the last one known."""
        if self.path is None:
            return
        self._snapshot = snapshot or self._snapshot
        self._written = time.monotonic()
        state = {
            "phase": phase,
            "driver_pid": os.getpid(),
            "started": self.started,
            "heartbeat": time.time(),
            "error": error,
            **self._snapshot,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
        temporary.replace(self.path)
