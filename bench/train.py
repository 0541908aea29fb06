"""The training loop: one method, one few-shot set, DeepSpeed ranks.

Reads from top to bottom: build the engine, go through the epochs' batches, step. Nothing here
knows a method or Ray.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.batches import Dealt, batches_per_epoch, deals
from bench.clock import Clock
from bench.marks import mark
from bench.prefetch import prefetched
from bench.schedule import learning_rate, total_steps
from methods.core.config import Training
from methods.core.contract import Method, TrainBatch

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DivergedError(ArithmeticError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class Engine:
    """How a cell is run; no field changes the result beyond rounding.

    rank, world_size: this process among the data-parallel ranks. device: torch's name.
    zero_stage: DeepSpeed ZeRO stage, 0 to 3. compile: whether images are encoded, frozen, through
    torch.compile; on a GPU alone, since a CPU gains nothing by it.
    """

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    zero_stage: int = 0
    compile: bool = False

    @property
    def compiles(self) -> bool:
        """Whether anything is compiled here."""
        return self.compile and self.device.startswith("cuda")


def ensure_process_group(engine: Engine) -> None:
    """Make a process group of one rank where none exists (a notebook, a test, a bare machine).

    DeepSpeed asks for five environment variables and otherwise tries MPI discovery.
    """
    if not dist.is_initialized():
        if engine.world_size != 1:
            raise RuntimeError("start the process group before running a cell on several ranks")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({k: str(v) for k, v in {**names, "MASTER_PORT": port}.items()})
        backend = "nccl" if engine.device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, rank=0, world_size=1)
    if dist.get_world_size() != engine.world_size:
        raise RuntimeError(
            f"the process group has {dist.get_world_size()} ranks, the cell {engine.world_size}"
        )


def train(
    method: Method,
    training: Training,
    shots: int,
    rows: int,
    batch: Callable[[Dealt], TrainBatch],
    seed: int,
    engine: Engine,
    clock: Clock | None = None,
) -> list[float]:
    """Train `method` in place and return the global loss of every optimizer step.

    rows: size of the training set. batch: a rank's dealt rows -> its TrainBatch. On a GPU it is
    called in a thread, ahead of the steps. clock: gets the phases `setup` (until the first step)
    and `train` (the steps).

    Raises:
        DivergedError: a loss is not finite; names the step.
    """
    clock = clock or Clock()
    deepspeed = start_engine(method, training, rows, engine)
    per_epoch = batches_per_epoch(rows, training.batch_size)
    steps = total_steps(training, shots, per_epoch)
    losses: list[Tensor] = []
    method.train()
    size, micro = training.batch_size, training.accumulation
    order = deals(rows, size, micro, steps, seed, engine.rank, engine.world_size)
    ahead = engine.device.startswith("cuda")  # on a CPU a thread would take the step's cores
    clock.lap("setup")
    with closing(prefetched(batch, order, engine.device, ahead)) as batches:
        for step in range(steps):
            for group in deepspeed.optimizer.param_groups:
                group["lr"] = learning_rate(training, step, shots, per_epoch)
            step_loss = torch.zeros((), device=engine.device)
            for _ in range(micro):
                with mark("data"):
                    dealt, own = next(batches)
                with mark("forward"):
                    loss = deepspeed(own) * dealt.share
                with mark("backward"):
                    deepspeed.backward(loss)
                with mark("optimizer"):
                    deepspeed.step()
                step_loss += loss.detach().float() / micro
            losses.append(step_loss)
    curve = torch.stack(losses)
    dist.all_reduce(curve)
    values: list[float] = (curve / engine.world_size).tolist()
    clock.lap("train")
    collect(deepspeed, [*method.parameters()], engine)
    for step, value in enumerate(values):
        if not np.isfinite(value):
            raise DivergedError(
                f"the loss is {value} at step {step} of {steps}; lower training.lr or use fp32"
            )
    return values


class _Autocast(nn.Module):
    """A method whose loss is computed under autocast.

    Inside the module, because DeepSpeed turns off an autocast that was entered around its engine
    on a GPU, and its own `torch_autocast` section is a global of the process.
    """

    def __init__(self, method: nn.Module, device: str, half: torch.dtype) -> None:
        super().__init__()
        self.method = method
        self._autocast = torch.autocast(torch.device(device).type, half)

    def forward(self, batch: object) -> Tensor:
        with self._autocast:
            loss: Tensor = self.method(batch)
        return loss


def start_engine(method: nn.Module, training: Training, rows: int, engine: Engine) -> Any:
    """A DeepSpeed engine around `method` with the recipe's optimizer."""
    # Read once, when DeepSpeed is first imported; it would take any GPU it sees.
    os.environ.setdefault("DS_ACCELERATOR", torch.device(engine.device).type)
    import deepspeed

    ensure_process_group(engine)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # DeepSpeed compiles a shared-memory reduction at its first start on a CPU (25 s, and only
    # with a compiler); gloo reduces a prompt's few kilobytes as fast.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    half = HALVES.get(training.precision)
    module = method if half is None else _Autocast(method, engine.device, half)
    parameters = [p for p in method.parameters() if p.requires_grad]
    optimizer = _optimizer(parameters, training, engine)
    largest = -(-min(rows, training.batch_size) // training.accumulation)
    config = {
        "train_micro_batch_size_per_gpu": -(-largest // engine.world_size),
        "gradient_accumulation_steps": training.accumulation,
        "zero_optimization": {"stage": engine.zero_stage},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,  # DeepSpeed's own default clips at norm 1; CoOp does not
        "steps_per_print": 1_000_000_000,
    }
    built, *_ = deepspeed.initialize(
        model=module, optimizer=optimizer, config=config, dist_init_required=False
    )
    if engine.world_size == 1 and engine.zero_stage == 0:
        # A rank alone has nobody to average with, but would wait for gloo's thread in each step.
        built.enable_backward_allreduce = False
    return built


def _optimizer(
    parameters: list[nn.Parameter], training: Training, engine: Engine
) -> torch.optim.Optimizer:
    """The recipe's optimizer, without what a CPU's steps do not need; the bits are the same."""
    given: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay}
    cpu = torch.device(engine.device).type == "cpu"
    if training.optimizer == "adamw":
        adamw = torch.optim.AdamW(parameters, **given)
        if cpu:
            # It looks for a GPU in every step, to ask whether that is recording: 0.3 ms.
            adamw.__dict__["_accelerator_graph_capture_health_check"] = lambda: None
        return adamw
    # One kernel for all parameters; torch's own choice where they are sharded or on a GPU.
    fused = True if cpu and engine.zero_stage == 0 else None
    sgd = torch.optim.SGD(parameters, momentum=training.momentum, fused=fused, **given)
    if fused and training.momentum:
        # The kernel wants momentum for all or for none, and a parameter's first gradient may come
        # after those of others. A momentum of 0 is none.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def collect(deepspeed: Any, parameters: list[torch.nn.Parameter], engine: Engine) -> None:
    """Leave the whole parameters in the method, on every rank, and end the engine.

    Stage 3 has cut the frozen ones too, where a method holds any.
    """
    if engine.zero_stage == 3:
        import deepspeed.runtime.zero.partition_parameters as partition

        with partition.GatheredParameters(parameters):
            whole = [p.detach().clone() for p in parameters]
        deepspeed.destroy()
        for parameter, value in zip(parameters, whole, strict=True):
            parameter.data = value
    else:
        deepspeed.destroy()
