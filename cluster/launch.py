"""Run units of work on gangs: the one entry into this folder."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.gang import SIBLING_GRACE_S, GangSpec, Prepare, Run, import_path
from cluster.queue import MAX_ATTEMPTS, LeaseQueue
from cluster.ray_session import ray_session, require_room
from cluster.status import Phase, StatusFile
from cluster.work import Event, Work

# How often the driver looks: each look takes CPU from the ranks, and gangs do not wait for it.
POLL_S = 1.0
# The same once a gang has nothing more to do, or at the last unit: the end is worth knowing soon.
END_POLL_S = 0.25
# Nodes of a fresh cluster join one after another.
JOIN_PATIENCE_S = 30.0
# How long a gang may take to end by itself once all units are settled: 2 s as a rule. Ray must not
# be shut down before: a thread that is still inside it then ends the whole process.
PARTING_S = 60.0
# Restarts allowed beyond those that units can cause; the queue stops a broken gang sooner.
SPARE_RESTARTS = 5
# The same for gangs that start before anybody knows how many units there are.
MANY_RESTARTS = 1000


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `unfinished` is empty unless every gang was lost; see `gang_errors`."""

    done: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    gang_errors: dict[str, str] = field(default_factory=dict)
    ray_start_s: float = 0.0
    first_lease_s: float | None = None  # from the call to the first unit, Ray's start included
    total_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Every unit is done."""
        return not self.failed and not self.unfinished


def run_gangs(
    units: Sequence[Work],
    run: Run,
    *,
    gangs: int,
    ranks_per_gang: int,
    threads_per_rank: int,
    use_gpu: bool = False,
    address: str | None = None,
    prepare: tuple[Prepare, Any] | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    status_path: Path | None = None,
    storage: Path | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    sibling_grace_s: float = SIBLING_GRACE_S,
) -> Outcome:
    """Run every unit once, on `gangs` gangs side by side, and return when all are settled.

    run: a module-level function `(payload, RankContext) -> JSON-able dict or None`, called on
    all ranks of a gang; rank 0's value is kept. It may return a function of no arguments instead,
    which makes that value (and stores what there is to store) while the next unit runs. address:
    a Ray cluster to join (`auto` or `host:port`); without one a local Ray starts. prepare: such a
    function and its payload, called on every rank before the first unit, for imports and loading;
    an exception there is left to the units. on_event: called in this thread, about once a second,
    with each `done` or `failed` event (`queue.Event` as a dict). status_path: see `StatusFile`.
    storage: where Ray Train keeps its own files; on several nodes a shared folder. max_attempts:
    how often a unit may break its gang before it is given up. sibling_grace_s: how long a rank that
    raised waits for its siblings to raise too.

    Raises ValueError for work that cannot run, and NotEnoughResourcesError before any gang
    starts if the cluster is too small. An exception in `run` is in the outcome, not raised here.
    """
    path = import_path(run)
    if prepare is not None:
        import_path(prepare[0])
    LeaseQueue(units, max_attempts)  # refuses duplicate keys before anything starts
    if not units:
        return Outcome()
    status = StatusFile(status_path)
    started = gangs_of(
        path,
        gangs=min(gangs, len(units)),
        ranks_per_gang=ranks_per_gang,
        threads_per_rank=threads_per_rank,
        use_gpu=use_gpu,
        address=address,
        storage=storage,
        max_attempts=max_attempts,
        max_failures=(max_attempts + 1) * len(units) + SPARE_RESTARTS,  # one is not charged
        sibling_grace_s=sibling_grace_s,
    )
    with status.told(), started as begun:
        return begun.settle(units, prepare, on_event, status)


@contextmanager
def gangs_of(
    run: str,
    *,
    gangs: int,
    ranks_per_gang: int,
    threads_per_rank: int,
    use_gpu: bool = False,
    address: str | None = None,
    storage: Path | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    max_failures: int = MANY_RESTARTS,
    sibling_grace_s: float = SIBLING_GRACE_S,
    imports: tuple[str, ...] = (),
) -> Iterator[Gangs]:
    """Gangs that wait for their units: start them ahead of `settle`, which takes these.

    run: import path, `module:function`; it is imported on every rank at once, and so are `imports`.
    Otherwise as `run_gangs`, with its errors.
    """
    if min(gangs, ranks_per_gang, threads_per_rank) < 1:
        raise ValueError("gangs, ranks_per_gang and threads_per_rank must be at least 1")
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="promptgrid-") as temporary,
        ray_session(address, cpus=gangs * ranks_per_gang * threads_per_rank),
    ):
        spec = GangSpec(
            name="",
            run_id=f"promptgrid-{uuid.uuid4().hex[:8]}",
            run=run,
            ranks=ranks_per_gang,
            threads_per_rank=threads_per_rank,
            use_gpu=use_gpu,
            storage=storage or Path(temporary),
            max_failures=max_failures,
            sibling_grace_s=sibling_grace_s,
            own_ray=address is None,
            imports=imports,
        )
        ray_start_s = time.monotonic() - begin
        patience = 0.0 if address is None else JOIN_PATIENCE_S
        require_room(gangs, ranks_per_gang, spec.rank_resources, patience)
        specs = [replace(spec, name=f"gang{index}") for index in range(gangs)]
        begun = Gangs(specs, max_attempts, begin, ray_start_s)
        yield begun
        if not begun.settled:
            begun.settle(())


class _GangThread(threading.Thread):
    """Blocks in the gang's `fit`; a daemon, so that Ctrl-C need not wait for it."""

    def __init__(self, spec: GangSpec, queue: Any) -> None:
        super().__init__(name=spec.name, daemon=True)
        self.spec = spec
        self.queue = queue
        self.start()

    def run(self) -> None:
        try:
            from cluster.ray_run import fit  # imports Ray, whose session has begun by now

            fit(self.spec, self.queue)
        except Exception as error:
            # Ray is gone when the run was interrupted: then there is nobody to tell.
            with contextlib.suppress(Exception):
                self.queue.lose.remote(self.spec.name, f"{type(error).__name__}: {error}")


class Gangs:
    """Gangs at work, and the driver's eye on their queue. See `gangs_of`."""

    def __init__(
        self, specs: Sequence[GangSpec], max_attempts: int, begin: float, ray_start_s: float
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # The queue lives beside the driver: a node that is lost must not take it along.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=here)(LeaseQueue)
        self.queue: Any = actor.remote(max_attempts=max_attempts, to_come=True)
        self.begin = begin
        self.ray_start_s = ray_start_s
        self.status = StatusFile(None)
        self.on_event: Callable[[dict[str, Any]], None] | None = None
        self.settled = False
        self.seen = 0
        self.left = 0  # units not settled yet, as far as the driver has seen
        self.first_lease: float | None = None  # seconds since 1970
        self.gang_errors: dict[str, str] = {}
        self.threads = [_GangThread(spec, self.queue) for spec in specs]

    def settle(
        self,
        units: Sequence[Work],
        prepare: tuple[Prepare, Any] | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        status: StatusFile | None = None,
    ) -> Outcome:
        """Run every unit once; returns when all are settled and the gangs have ended."""
        import ray

        self.status, self.on_event, self.left = status or self.status, on_event, len(units)
        first = None if prepare is None else (import_path(prepare[0]), prepare[1])
        with self.status.told():
            ray.get(self.queue.fill.remote(list(units), first))
            self._follow(self.threads)
            self._part(self.threads)
            self.settled = True
            return self._outcome()

    def _follow(self, gangs: Sequence[_GangThread]) -> None:
        """Return when all units are settled, or when no gang is left to run them."""
        try:
            while not self._look() and any(gang.is_alive() for gang in gangs):
                time.sleep(END_POLL_S if self.left < max(2, len(gangs)) else POLL_S)
        except BaseException as reason:
            # A Ray that is not ours goes on without us: let the gangs end after their unit.
            for gang in gangs:
                self.queue.lose.remote(gang.spec.name, repr(reason))
            raise

    def _part(self, gangs: Sequence[_GangThread]) -> None:
        """Wait until the gangs have ended, now that all units are settled."""
        parting = time.monotonic() + PARTING_S
        for gang in gangs:
            gang.join(max(0.0, parting - time.monotonic()))
        self._look()

    def _outcome(self) -> Outcome:
        """What came of it; also writes the last status."""
        import ray

        ask = [getattr(self.queue, name).remote() for name in ("results", "failures", "unfinished")]
        done, failures, unfinished = ray.get(ask)
        now = time.monotonic()
        lease_age = None if self.first_lease is None else time.time() - self.first_lease
        error = f"no gang is left: {self.gang_errors}" if unfinished else None
        phase: Phase = "error" if error else "finished"
        self.status.write(phase, ray.get(self.queue.snapshot.remote()), error)
        return Outcome(
            done=done,
            failed={key: failure.error for key, failure in failures.items()},
            unfinished=tuple(unfinished),
            gang_errors=self.gang_errors,
            ray_start_s=self.ray_start_s,
            first_lease_s=None if lease_age is None else now - self.begin - lease_age,
            total_s=now - self.begin,
        )

    def _look(self) -> bool:
        """Read the queue once; True when every unit is settled."""
        import ray

        events, settled = ray.get(self.queue.news.remote(self.seen))
        self.seen += len(events)
        for event in events:
            self._take(event)
        if self.status.due():
            phase: Phase = "starting" if self.first_lease is None else "running"
            self.status.write(phase, ray.get(self.queue.snapshot.remote()))
        return bool(settled)

    def _take(self, event: Event) -> None:
        if event.kind == "leased" and self.first_lease is None:
            self.first_lease = event.time
        elif event.kind == "gang_lost":
            self.gang_errors[event.gang] = event.error or ""
        elif event.kind in ("done", "failed"):
            self.left -= 1
            if self.on_event is not None:
                self.on_event(asdict(event))
