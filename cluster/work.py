"""What the queue deals in: units of work, what happened to them, and why some were given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

EventKind = Literal["gang_started", "leased", "done", "failed", "requeued", "gang_lost"]


@dataclass(frozen=True)
class Work:
    """One unit of work.

    key: unique in its queue. payload: what the callable gets; must pickle. cost: an estimate
    in any unit, used for the order only. warm: what a gang keeps loaded between units, the
    dearest first (for example backbone, then dataset). needs: keys of units that must be done
    before this one starts; they stand before it in the queue's list.
    """

    key: str
    payload: Any
    cost: float = 1.0
    warm: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """What happened, in order: `seq` counts from 0 without gaps, `time` is seconds since 1970."""

    seq: int
    time: float
    kind: EventKind
    gang: str
    key: str | None = None
    attempt: int | None = None
    seconds: float | None = None
    summary: dict[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Failure:
    """A unit that is given up: after how many attempts, on which gang, and why."""

    key: str
    attempts: int
    gang: str
    error: str
