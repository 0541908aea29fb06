"""The work list of a run: units are leased to gangs, and come back when a gang breaks.

Pure Python and single-threaded: tests use it directly, a run uses it as a Ray actor. It is the
only place that decides what runs next, what is tried again and what is given up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cluster.choice import choose
from cluster.work import Event, EventKind, Failure, Work

MAX_ATTEMPTS = 3
# A gang whose group restarts this often without leasing anything in between is broken itself
# (a bad import, a dead device): without a bound it would restart for ever.
MAX_IDLE_RESTARTS = 3
EVENTS_IN_SNAPSHOT = 50
NO_PYTHON_ERROR = (
    "a rank died without a Python error (killed, out of memory, or a crash in native code)"
)

STORING = "its gang broke, perhaps in {}, while the result was being stored"

GangState = Literal["starting", "working", "waiting", "stopped", "lost"]


@dataclass
class _Gang:
    """`unit` runs on its ranks; `finishing` has run, and rank 0 still stores what came of it."""

    state: GangState
    since: float
    unit: Work | None = None
    finishing: Work | None = None
    finishing_since: float = 0.0
    warm: tuple[str, ...] = ()
    cells_done: int = 0
    restarts: int = 0
    idle_restarts: int = 0
    condemned: bool = False
    error: str | None = None  # the first traceback of a rank in this attempt at the unit


@dataclass
class LeaseQueue:
    """Leases units to gangs: longest first, but a gang stays with what it has warm.

    Every unit is in exactly one of four places: pending, leased, done, failed. A gang holds at most
    two: one that runs and one that is finishing. A unit waits until what it needs is done, and
    fails when that has failed. Raises ValueError for duplicate keys, and for needs that are not the
    keys of units before (so there are no circles).

    to_come: the units are not known yet: gangs wait for `fill`.
    """

    units: Iterable[Work] = ()
    max_attempts: int = MAX_ATTEMPTS
    clock: Callable[[], float] = time.time
    to_come: bool = False
    _first: tuple[str, Any] | None = field(default=None, init=False)
    _pending: list[Work] = field(default_factory=list, init=False)
    _gangs: dict[str, _Gang] = field(default_factory=dict, init=False)
    _attempts: dict[str, int] = field(default_factory=dict, init=False)
    _done: dict[str, dict[str, Any] | None] = field(default_factory=dict, init=False)
    _failed: dict[str, Failure] = field(default_factory=dict, init=False)
    _events: list[Event] = field(default_factory=list, init=False)
    _alone: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._take(self.units)

    def fill(self, units: Iterable[Work], first: tuple[str, Any] | None = None) -> None:
        """The units of a queue whose units were to come. first: see `known`."""
        self._take(units)
        self._first, self.to_come = first, False

    def known(self) -> tuple[bool, tuple[str, Any] | None]:
        """Whether the units are known, and what ranks call before the first: path and payload."""
        return not self.to_come, self._first

    def _take(self, units: Iterable[Work]) -> None:
        self._pending = list(units)
        self._attempts = {unit.key: 0 for unit in self._pending}
        if len(self._attempts) < len(self._pending):
            times = Counter(unit.key for unit in self._pending)
            twice = sorted(key for key, count in times.items() if count > 1)
            raise ValueError(f"keys must be unique in a queue, these are not: {twice[:5]}")
        before: set[str] = set()
        for unit in self._pending:
            strange = [key for key in unit.needs if key not in before]
            if strange:
                raise ValueError(f"{unit.key} needs {strange[0]}, which is no unit before it")
            before.add(unit.key)
        self._sort()

    # -- what a gang calls -------------------------------------------------------------------

    def lease(self, gang: str, finishing: str | None = None) -> Work | None:
        """The next unit for `gang`, or None: ask again, until `dismissed`.

        finishing: key of the unit that the gang has just run. Its result is still being stored, and
        `done` or `failed` comes for it later; until then it counts as leased.

        Raises RuntimeError if the gang still runs a unit, or has not yet finished the one before.
        """
        state = self._gang(gang)
        if state.unit is not None and state.unit.key == finishing and not state.condemned:
            if state.finishing is not None:
                raise RuntimeError(f"{gang}: {state.finishing.key} is not finished yet")
            state.finishing, state.finishing_since = state.unit, state.since
            state.unit = state.error = None
        if state.unit is not None:
            raise RuntimeError(f"{gang} asks for work but still holds {state.unit.key}")
        if state.state == "lost":
            return None
        unit = self._choose(state)
        # Two units at once leave open which of them broke a gang: one that may have runs alone.
        if unit and state.finishing and {unit.key, state.finishing.key} & self._alone:
            unit = None
        if unit is None:
            self._enter(state, "stopped" if self.finished() else "waiting")
            return None
        self._pending.remove(unit)
        state.unit, state.warm, state.idle_restarts, state.error = unit, unit.warm, 0, None
        state.state, state.since = "working", self.clock()
        self._record("leased", gang, key=unit.key, attempt=self._attempts[unit.key] + 1)
        return unit

    def dismissed(self, gang: str) -> bool:
        """True when `gang` will never get another unit and may end."""
        return self.finished() or self._gang(gang).state == "lost"

    def done(self, gang: str, key: str, summary: dict[str, Any] | None = None) -> bool:
        """Acknowledge a finished unit. False, and no effect, if the gang no longer may."""
        seconds = self._settle(gang, key)
        if seconds is None:
            return False
        self._done[key] = summary
        self._gang(gang).cells_done += 1
        self._record("done", gang, key=key, seconds=seconds, summary=summary)
        return True

    def failed(self, gang: str, key: str, error: str) -> bool:
        """Give a unit up at once: its error is deterministic. False if the gang no longer may."""
        seconds = self._settle(gang, key)
        if seconds is None:
            return False
        self._give_up(gang, key, error, seconds=seconds)
        return True

    def note(self, gang: str, key: str, error: str) -> None:
        """Keep a rank's traceback, in case the gang breaks before it can acknowledge.

        The first of an attempt stays: the siblings' errors are its echo (a closed connection).
        """
        state = self._gang(gang)
        if state.unit is not None and state.unit.key == key:
            state.error = state.error or error

    def condemn(self, gang: str) -> None:
        """The gang's ranks are out of step: it must restart, and its word counts no more till then.

        Needed because a broken group ends in echoes. When the rank that raised leaves, its hung
        siblings raise too, and what only one rank did would look like an error of all.
        """
        self._gang(gang).condemned = True

    def release(self, gang: str) -> None:
        """The gang (re)starts or died: what it held goes back.

        The unit that ran is charged one attempt. After `max_attempts` it is marked failed with the
        last error known, so that a unit that kills its ranks does not loop for ever.
        """
        known = gang in self._gangs
        state = self._gang(gang)
        state.restarts += known
        state.condemned = False
        if not self._take_back(gang, NO_PYTHON_ERROR) and known:
            state.idle_restarts += 1
        if state.state == "lost":
            return
        if state.idle_restarts > MAX_IDLE_RESTARTS:
            self.lose(gang, f"its ranks restarted {state.idle_restarts} times between units")
            return
        self._enter(state, "starting")
        self._record("gang_started", gang, attempt=state.restarts + 1)

    def lose(self, gang: str, error: str) -> None:
        """The gang is gone for good: what it held goes back and it gets nothing more."""
        self._take_back(gang, error)
        self._enter(self._gang(gang), "lost")
        self._record("gang_lost", gang, error=error)

    # -- what the driver calls ---------------------------------------------------------------

    def finished(self) -> bool:
        """True when nothing is pending or leased: every unit is done or failed."""
        return not self.to_come and len(self._done) + len(self._failed) == len(self._attempts)

    def news(self, start: int) -> tuple[list[Event], bool]:
        """`events(start)` and `finished()`: what the driver asks all the time, in one call."""
        return self.events(start), self.finished()

    def events(self, start: int = 0) -> list[Event]:
        """All events with `seq >= start`, oldest first."""
        return self._events[start:]

    def results(self) -> dict[str, dict[str, Any] | None]:
        """Key to summary of every finished unit."""
        return dict(self._done)

    def failures(self) -> dict[str, Failure]:
        """Key to failure of every unit that was given up."""
        return dict(self._failed)

    def unfinished(self) -> list[str]:
        """Keys of all units that are pending or leased, in sorted order."""
        return sorted(self._attempts.keys() - self._done.keys() - self._failed.keys())

    def snapshot(self) -> dict[str, Any]:
        """The state of the run as plain JSON values; times are seconds since 1970."""
        held = [unit for g in self._gangs.values() for unit in (g.unit, g.finishing) if unit]
        return {
            "counts": {
                "total": len(self._attempts),
                "pending": len(self._pending),
                "leased": len(held),
                "done": len(self._done),
                "failed": len(self._failed),
            },
            "gangs": {
                name: {
                    "state": gang.state,
                    "key": gang.unit.key if gang.unit else None,
                    "finishing": gang.finishing.key if gang.finishing else None,
                    "since": gang.since,
                    "attempt": self._attempts[gang.unit.key] + 1 if gang.unit else None,
                    "cells_done": gang.cells_done,
                    "restarts": gang.restarts,
                }
                for name, gang in sorted(self._gangs.items())
            },
            "failed": [asdict(failure) for failure in self._failed.values()],
            "events": [
                {k: v for k, v in asdict(event).items() if k != "summary" and v is not None}
                for event in self._events[-EVENTS_IN_SNAPSHOT:]
            ],
        }

    # -- inside ------------------------------------------------------------------------------

    def _gang(self, name: str) -> _Gang:
        return self._gangs.setdefault(name, _Gang("starting", self.clock()))

    def _enter(self, gang: _Gang, state: GangState) -> None:
        # A waiting gang asks many times a second: `since` says when the state began.
        if gang.state != state:
            gang.state, gang.since = state, self.clock()

    def _choose(self, gang: _Gang) -> Work | None:
        others = [g for g in self._gangs.values() if g is not gang and g.state != "lost"]
        elsewhere = {other.warm for other in others if other.warm}
        return choose(self._pending, self._done.keys(), gang.warm, elsewhere)

    def _settle(self, gang: str, key: str) -> float | None:
        """Take the unit from the gang if it holds it, and say for how many seconds it did.

        None for a late word from a dead group, or from one that is out of step. A unit that is
        finishing was run by ranks in step, whatever has become of them.
        """
        state = self._gang(gang)
        if state.finishing is not None and state.finishing.key == key:
            since, state.finishing = state.finishing_since, None
        elif state.unit is not None and state.unit.key == key and not state.condemned:
            since, state.unit, state.error = state.since, None, None
            self._enter(state, "waiting")
        else:
            return None
        self._attempts[key] += 1
        return self.clock() - since

    def _take_back(self, gang: str, error: str) -> bool:
        """What the gang held is pending again or given up. False if it held nothing."""
        state = self._gang(gang)
        unit, finishing, error = state.unit, state.finishing, state.error or error
        state.unit = state.finishing = state.error = None
        if finishing is not None:
            reason = error if unit is None else STORING.format(unit.key)
            self._return(gang, finishing, reason, charged=unit is None)
        if unit is not None:
            self._return(gang, unit, error, charged=True)
        return not (unit is None and finishing is None)

    def _return(self, gang: str, unit: Work, error: str, charged: bool) -> None:
        self._attempts[unit.key] += charged
        attempts = self._attempts[unit.key]
        if attempts >= self.max_attempts:
            self._give_up(gang, unit.key, f"gave up after {attempts} attempts, the last: {error}")
            return
        self._alone.add(unit.key)
        self._pending.append(unit)
        self._sort()
        self._record("requeued", gang, key=unit.key, attempt=attempts, error=error)

    def _give_up(self, gang: str, key: str, error: str, seconds: float | None = None) -> None:
        attempts = self._attempts[key]
        self._failed[key] = Failure(key, attempts, gang, error)
        self._record("failed", gang, key=key, attempt=attempts, seconds=seconds, error=error)
        for unit in [u for u in self._pending if key in u.needs]:
            if unit in self._pending:  # else it also needed one that has just failed with this
                self._pending.remove(unit)
                reason = error.strip().splitlines()[-1:] or ["no reason was given"]
                self._give_up(gang, unit.key, f"it needs {key}, which failed: {reason[0]}")

    def _sort(self) -> None:
        # Longest first keeps the last gang from starting a long unit when all others are idle.
        self._pending.sort(key=lambda unit: (-unit.cost, unit.key))

    def _record(self, kind: EventKind, gang: str, **fields: Any) -> None:
        self._events.append(Event(len(self._events), self.clock(), kind, gang, **fields))
