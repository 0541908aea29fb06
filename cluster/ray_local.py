"""A gang's controller in a thread of the driver, where Ray Train would start a process for it.

On a Ray of our own it dies with the driver either way, and the process costs the ranks three
seconds of a core while they start, and seconds of waiting before. Uses the inside of Ray Train: see
`cluster.ray_run` for the versions.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup


class SettledPolicy(FixedScalingPolicy):  # type: ignore[misc]  # Ray has no types
    """As many ranks as were asked for, and no actor to ask for more nodes: none can join."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Tell nobody."""

    def _maybe_send_resource_request(self) -> None:
        """Tell nobody."""


class LocalGroup(WorkerGroup):  # type: ignore[misc]
    """Ranks whose controller is no actor: they have no use for its handle."""

    def _init_train_context_on_workers(
        self, workers: list[Any], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        told = [
            worker.actor.init_train_context.remote(
                train_run_context=self._train_run_context,
                distributed_context=worker.distributed_context,
                synchronization_actor=sync_actor,
                storage_context=self._storage_context,
                worker_callbacks=self._worker_callbacks_to_propagate,
                controller_actor=None,
                **{name: values[rank] for name, values in train_context_args.items()},
            )
            for rank, worker in enumerate(workers)
        ]
        ray.get(told)
        self._decorate_worker_log_file_paths(workers)


class LocalController(TrainController):  # type: ignore[misc]
    """A controller that is no actor."""

    worker_group_cls = LocalGroup


def controlled(scaling: Any, parts: dict[str, Any]) -> Any:
    """Run the controller to its end; blocks. Its `Result`, which may hold an error.

    scaling: the run's `ScalingConfig`. parts: what Ray Train makes a controller of.
    """
    # What it logs belongs to no console, as little as with a process of its own.
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    controller = LocalController(**parts | {"scaling_policy": SettledPolicy(scaling)})
    asyncio.run(controller.run())
    return controller.get_result()
