"""A gang: one long-lived Ray Train run whose ranks take units from the queue, one after another.

Why one run for many units: starting ranks costs seconds, a unit in warm ranks costs
milliseconds. Ray Train restarts the ranks when one dies; the queue hands the unit out again.

While rank 0 stores what came of a unit (in a thread), the ranks already run the next one. The queue
hears `done` only when it is stored.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cluster.work import Work

# How long an idle gang waits before it asks again: at first, and at most (doubling in between).
LEASE_POLL_S = (0.005, 0.1)
# How long a rank that raised waits for its siblings to raise too, before it calls them hung.
SIBLING_GRACE_S = 20.0
# Ranks wait on the control group for as long as a unit runs; a dead peer closes its socket,
# which ends the wait at once, so this limit never has to fire.
CONTROL_TIMEOUT = timedelta(days=30)

Summary = dict[str, Any] | None
Finish = Callable[[], Summary]
Run = Callable[[Any, "RankContext"], Summary | Finish]
Prepare = Callable[[Any, "RankContext"], None]


class GangBrokenError(RuntimeError):
    """The ranks are out of step; only a restart of the whole group can mend that."""


@dataclass(frozen=True)
class RankContext:
    """Who the callable is: its rank in the gang's default process group, and its device.

    With `world_size` above 1 the process group is up and RANK, WORLD_SIZE, LOCAL_RANK,
    MASTER_ADDR and MASTER_PORT are set; so they are with one rank, and the group is up too.

    flush: returns when what the unit before left to be finished is finished.
    """

    rank: int
    world_size: int
    local_rank: int
    device: str
    gang: str
    flush: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class GangSpec:
    """What a gang is made of. `run` is an import path, `module:function`.

    `run_id` is unique: Ray Train resumes an earlier run's state when it meets its name again.
    own_ray: this machine's alone, which ends with the driver. imports: modules that a rank imports
    while its units are not known yet.
    """

    name: str
    run_id: str
    run: str
    ranks: int
    threads_per_rank: int
    use_gpu: bool
    storage: Path
    max_failures: int
    sibling_grace_s: float
    own_ray: bool = False
    imports: tuple[str, ...] = ()

    @property
    def rank_resources(self) -> dict[str, float]:
        """What each rank reserves in Ray."""
        cpus: dict[str, float] = {"CPU": self.threads_per_rank}
        return cpus | ({"GPU": 1} if self.use_gpu else {})


def import_path(run: Run | Prepare) -> str:
    """`module:function` of a module-level function.

    By path and not by pickle, so that a rank runs the installed code, and code that ranks
    could not import is refused before anything starts. Raises ValueError for those.
    """
    module, name = getattr(run, "__module__", None), getattr(run, "__qualname__", None)
    if not module or not name or module == "__main__" or "." in name or "<" in name:
        raise ValueError(
            f"{run!r} cannot be imported by the ranks: pass a function defined at the top level "
            "of an installed module (not of a script or notebook, and no lambda or method)"
        )
    return f"{module}:{name}"


def resolve(path: str) -> Any:
    """The function behind `module:function`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def serve(config: dict[str, Any]) -> None:
    """The loop of one rank, on every rank: take a unit, run it, agree on how it went."""
    import ray

    def ask(method: str, *args: Any) -> Any:
        return ray.get(getattr(config["queue"], method).remote(*args))

    _Rank(config["spec"], ask).loop()


class _Rank:
    """One rank of a gang. `ask(method, *args)` calls the queue and waits for its answer."""

    def __init__(self, spec: GangSpec, ask: Callable[..., Any]) -> None:
        import torch
        import torch.distributed as dist

        self.spec = spec
        self.ask = ask
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        if self.rank == 0:
            ask("release", spec.name)  # before anything else here can crash
        torch.set_num_threads(spec.threads_per_rank)
        # Our own group: a collective that a broken unit left behind on the default group must
        # never be answered by a lease. Gloo, because a lease is a Python object.
        self.control: Any = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
        self.context = RankContext(
            rank=self.rank,
            world_size=self.ranks,
            local_rank=int(os.environ["LOCAL_RANK"]),
            device=_device() if spec.use_gpu else "cpu",
            gang=spec.name,
            flush=self._wait,
        )
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._finishing: Future[None] | None = None
        self._ran: str | None = None  # the unit that is finishing, until the queue knows that

    def loop(self) -> None:
        try:
            run: Run = resolve(self.spec.run)
        except Exception:
            # No restart mends a missing module; all ranks fail alike, so all leave.
            if self.rank == 0:
                self.ask("lose", self.spec.name, f"cannot import {self.spec.run}\n{_trace()}")
            return
        self._prepare()
        try:
            while (unit := self._next()) is not None:
                result, error = self._attempt(run, unit)
                raised = self._ranks_that_raised(error is not None)
                if 0 < raised < self.ranks:
                    self.ask("condemn", self.spec.name)
                    raise GangBrokenError(
                        f"{raised} of {self.ranks} ranks raised in {unit.key}; {error}"
                    )
                self._acknowledge(unit, result, error)
        finally:
            self._writer.shutdown()  # waits, whatever has happened to the unit after it

    def _prepare(self) -> None:
        """Everything that a gang does once, before it takes its first unit."""
        # What fails here fails again in the units that need it, and they say so.
        for module in self.spec.imports:
            with suppress(Exception):
                importlib.import_module(module)
        while not (known := self.ask("known"))[0]:
            time.sleep(LEASE_POLL_S[1])
        if known[1] is not None:
            path, payload = known[1]
            with suppress(Exception):
                resolve(path)(payload, self.context)

    def _next(self) -> Work | None:
        """Rank 0 leases, all ranks get the same unit; None when the run is over for this gang."""
        import torch.distributed as dist

        box: list[Work | None] = [self._lease() if self.rank == 0 else None]
        if self.ranks > 1:
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def _lease(self) -> Work | None:
        pause, longest = LEASE_POLL_S
        while True:
            ran, self._ran = self._ran, None
            unit: Work | None = self.ask("lease", self.spec.name, ran)
            if unit is not None:
                return unit
            if self._finished():
                continue  # others may wait for just that, or nothing is left
            if self.ask("dismissed", self.spec.name):
                return None
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _attempt(self, run: Run, unit: Work) -> tuple[Summary | Finish, str | None]:
        try:
            return run(unit.payload, self.context), None
        except (Exception, SystemExit):  # a `sys.exit` in a unit must not end the rank
            error = f"rank {self.rank} of {self.ranks}: {_trace()}"
        # Reported before the siblings are asked: if they hang, the reason is not lost.
        self.ask("note", self.spec.name, unit.key, error)
        return None, error

    def _ranks_that_raised(self, mine: bool) -> int:
        """How many ranks raised. A rank that did not waits; one that did calls time on the rest."""
        import torch
        import torch.distributed as dist

        if self.ranks == 1:
            return int(mine)
        flag = torch.tensor([int(mine)])
        vote: Any = dist.all_reduce(flag, group=self.control, async_op=True)
        limit = timedelta(seconds=self.spec.sibling_grace_s) if mine else CONTROL_TIMEOUT
        try:
            vote.wait(limit)
        except RuntimeError as reason:
            self.ask("condemn", self.spec.name)
            raise GangBrokenError(f"siblings did not answer within {limit}") from reason
        return int(flag.item())

    def _acknowledge(self, unit: Work, result: Summary | Finish, error: str | None) -> None:
        """All ranks are here, and either all raised or none did."""
        if error is None:
            if self.rank == 0:
                self._finished()
                self._ran = unit.key
                self._finishing = self._writer.submit(self._finish, unit, result)
            return
        gc.collect()  # the traceback held the failed unit's tensors
        if self.spec.use_gpu and not _device_answers(self.context.device):
            # A CUDA error poisons the process: every later unit would fail as well.
            self.ask("condemn", self.spec.name)
            raise GangBrokenError(f"the device no longer works after {unit.key}: {error}")
        self._tell("failed", unit, error)
        if self.ranks > 1:
            self._check_default_group()

    def _finish(self, unit: Work, result: Summary | Finish) -> None:
        """In the writer's thread: finish the unit, then tell the queue."""
        try:
            summary = result() if callable(result) else result
            error = _why_not_json(summary)
        except (Exception, SystemExit):
            error = _trace()
        if error is None:
            self._tell("done", unit, summary)
        else:
            self._tell("failed", unit, error)

    def _finished(self) -> bool:
        """Wait for the unit that is finishing; False if there is none. Raises what it raised."""
        future, self._finishing = self._finishing, None
        if future is not None:
            future.result()
        return future is not None

    def _wait(self) -> None:
        wait_for([self._finishing] if self._finishing is not None else [])

    def _tell(self, method: str, unit: Work, word: Any) -> None:
        """Rank 0 speaks for the gang. Raises GangBrokenError if the queue no longer listens."""
        if self.rank == 0 and not self.ask(method, self.spec.name, unit.key, word):
            raise GangBrokenError(f"{unit.key} is no longer ours to acknowledge")

    def _check_default_group(self) -> None:
        """After a failure: are the ranks at the same point of the default group's sequence?

        A collective that one rank began and the other never joined would pair with one of the
        next unit and corrupt its numbers without a word. Raises GangBrokenError.
        """
        import torch
        import torch.distributed as dist

        probe = torch.tensor([self.rank + 1.0], device=self.context.device)
        try:
            dist.all_reduce(probe, async_op=True).wait(timedelta(seconds=self.spec.sibling_grace_s))
            in_step = probe.item() == self.ranks * (self.ranks + 1) / 2
        except RuntimeError:
            in_step = False
        if not in_step:
            raise GangBrokenError(
                "the ranks raised at different points; the group must start again"
            )


def _device() -> str:
    from ray.train.torch import get_device

    return str(get_device())


def _device_answers(device: str) -> bool:
    import torch

    try:
        torch.cuda.empty_cache()
        return bool((torch.zeros(1, device=device) + 1).item() == 1)
    except RuntimeError:
        return False


def _why_not_json(summary: Summary) -> str | None:
    try:
        json.dumps(summary)
    except (TypeError, ValueError) as reason:
        return f"the unit ran, but its summary is not JSON: {reason}"
    return None


def _trace() -> str:
    return traceback.format_exc()
