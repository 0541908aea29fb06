"""A gang as a run of Ray Train, on a Ray that is up: import it behind `ray_session`."""

from __future__ import annotations

from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.gang import GangSpec, serve

# A rank that cannot start (its node is gone, its process dies) is tried this often; without a
# limit Ray Train would try for ever.
START_FAILURES = 10
# Ray Train starts an actor for each of these: nearly two seconds of a core, and later half a
# percent of it. The first deals out Ray's own datasets, which gangs have none of.
UNUSED = ("DatasetsCallback",)
# Frees the ranks' places when a run's controller is killed. A Ray of our own dies with its driver.
UNUSED_ALONE = ("PlacementGroupCleanerCallback",)
# Of these Rays `cluster.ray_local` knows the inside; on others the controller is an actor.
CONTROLLER_HERE = ("2.60.",)


class GangTrainer(TorchTrainer):  # type: ignore[misc]
    """A `TorchTrainer` without the actors that a gang never asks.

    Ray has no option for that, so they are known by name: a Ray that names them otherwise starts
    them as it always did, and nothing else is different.

    With `own_ray` the run's controller lives in the calling thread: see `cluster.ray_local`.
    """

    def __init__(self, own_ray: bool, **options: Any) -> None:
        self._own_ray = own_ray
        self._unused = UNUSED + (UNUSED_ALONE if own_ray else ())
        super().__init__(serve, **options)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [one for one in callbacks if type(one).__name__ not in self._unused]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        if not (self._own_ray and ray.__version__.startswith(CONTROLLER_HERE)):
            return super()._initialize_and_run_controller(**parts)
        from cluster.ray_local import controlled  # no other Ray need have what it imports

        return controlled(self.scaling_config, parts)


def rank_environment(threads: int, use_gpu: bool) -> dict[str, Any]:
    """The runtime environment of a rank."""
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if not use_gpu:
        # DeepSpeed would otherwise take the GPUs it sees, reserved or not.
        variables |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return {"env_vars": variables}


def fit(spec: GangSpec, queue: Any) -> None:
    """Run the gang until the queue is finished; blocks. Raises what `TorchTrainer.fit` raises."""
    GangTrainer(
        spec.own_ray,
        train_loop_config={"spec": spec, "queue": queue},
        torch_config=TorchConfig(backend="nccl" if spec.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=spec.ranks,
            use_gpu=spec.use_gpu,
            resources_per_worker=spec.rank_resources,
        ),
        run_config=RunConfig(
            name=f"{spec.run_id}-{spec.name}",
            storage_path=str(spec.storage),
            failure_config=FailureConfig(
                max_failures=spec.max_failures, controller_failure_limit=START_FAILURES
            ),
            worker_runtime_env=rank_environment(spec.threads_per_rank, spec.use_gpu),
        ),
    ).fit()
