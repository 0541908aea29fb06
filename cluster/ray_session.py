"""A Ray to run on: started here and gone with us, or a cluster that is already there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

# Set before Ray is imported. A caller's own value wins.
RAY_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # How soon a dead rank is noticed, in seconds; Ray's default is 2. Each look costs CPU.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    # Ranks keep the driver's working directory, so that relative paths mean the same there.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A hung sibling cannot leave its process group in peace; Ray's default waits 30 s for it.
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",
    # Actors and series nobody reads here; each costs a process or a second at start.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    # Ray's coming default, chosen now to spare every user its warning.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Only for a Ray of our own. Its ten or so processes share the cores with the ranks.
LOCAL_ENVIRONMENT = {
    # The controllers of the gangs live in the driver: they have its logging, and wait for Ray.
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    # On a real cluster nodes are taken away, and Ray Train should know.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # For Ray's dashboard, which does not run here.
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    # Processes that have imported what ranks need may wait so long for their ranks; by default 1 s.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # The raylet looks after resources, garbage and memory four to ten times a second.
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "1000",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "5000",
    "RAY_memory_monitor_refresh_ms": "1000",
}
# Units pass only small objects through Ray; records and features go through files.
OBJECT_STORE_BYTES = 100 * 2**20


class NotEnoughResourcesError(RuntimeError):
    """The cluster can never hold what was asked for."""


@contextmanager
def ray_session(address: str | None, cpus: int) -> Iterator[None]:
    """Ray, for the time of the block; a Ray this process already has is used and left running.

    With `address` None a local Ray with `cpus` CPU slots starts; it dies with this process.
    """
    os.environ.update((LOCAL_ENVIRONMENT if address is None else {}) | os.environ)
    os.environ.update(RAY_ENVIRONMENT | os.environ)
    import ray

    if ray.is_initialized():
        yield
        return
    # "local", because without an address Ray would join whatever runs on this machine.
    if address is None:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=OBJECT_STORE_BYTES,
        )
    else:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    except KeyboardInterrupt:
        # Gang threads are still inside Ray: shutting it down now would end this process on the
        # spot, with Ray's words and not ours. A Ray of our own dies with the process anyway.
        raise
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


def ranks_that_fit(nodes: Sequence[Mapping[str, float]], per_rank: Mapping[str, float]) -> int:
    """How many ranks the nodes' resources hold together; a rank never spans two nodes."""
    return sum(
        min(int(node.get(name, 0.0) // need) for name, need in per_rank.items() if need > 0)
        for node in nodes
    )


def require_room(
    gangs: int, ranks: int, per_rank: Mapping[str, float], patience_s: float = 0.0
) -> None:
    """Raise NotEnoughResourcesError unless all gangs fit, after `patience_s` for nodes to join."""
    import ray

    deadline = time.monotonic() + patience_s
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fits = ranks_that_fit(nodes, per_rank)
        if fits >= gangs * ranks:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(0.5)
    need = ", ".join(f"{amount:g} {name}" for name, amount in per_rank.items())
    have = "; ".join(
        ", ".join(f"{node.get(name, 0.0):g} {name}" for name in per_rank) for node in nodes
    )
    raise NotEnoughResourcesError(
        f"asked for {gangs} gang(s) x {ranks} rank(s) = {gangs * ranks} ranks of {need} each, but "
        f"the cluster holds {fits} such ranks (its {len(nodes)} node(s): {have}). "
        "Ask for fewer gangs, fewer ranks or fewer threads per rank, or add nodes."
    )
