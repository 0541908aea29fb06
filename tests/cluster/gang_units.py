"""What the ranks run in `test_gang.py`; a module of its own, because ranks import it by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from cluster.gang import Finish, RankContext


def run(payload: dict[str, Any], context: RankContext) -> dict[str, Any] | Finish | None:
    """Do what `payload["do"]` names."""
    return ACTIONS[payload["do"]](payload, context)


def _square(payload: dict[str, Any], context: RankContext) -> dict[str, Any]:
    time.sleep(payload.get("seconds", 0.0))
    return {
        "square": payload["number"] ** 2,
        "gang": context.gang,
        "pid": os.getpid(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "folder": str(Path.cwd()),
    }


def _raise_everywhere(payload: dict[str, Any], context: RankContext) -> None:
    raise ValueError("no such prompt")


def _raise_on_last_rank(payload: dict[str, Any], context: RankContext) -> None:
    import torch
    import torch.distributed as dist

    if context.rank == context.world_size - 1:
        raise ValueError("only here")
    dist.all_reduce(torch.ones(1))  # waits for the rank that raised


def _die_once(payload: dict[str, Any], context: RankContext) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    marker = Path(payload["marker"])
    if context.rank == context.world_size - 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    ones = torch.ones(1)
    dist.all_reduce(ones)
    return {"ranks": int(ones.item())}


def _store(payload: dict[str, Any], context: RankContext) -> Finish | None:
    """Rank 0 stores a file while the next unit runs, or fails to."""
    path = Path(payload["path"])

    def finish() -> dict[str, Any]:
        time.sleep(payload["seconds"])
        path.write_text("stored")
        return {"thread": threading.current_thread().name}

    return finish if context.rank == 0 else None


def _summary_without_json(payload: dict[str, Any], context: RankContext) -> dict[str, Any]:
    return {"path": Path("x")}


def _deepspeed(payload: dict[str, Any], context: RankContext) -> dict[str, Any]:
    """Ten steps of a linear map towards zero, under DeepSpeed, on the gang's process group."""
    import deepspeed
    import torch

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert all(os.environ.get(name) for name in names)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=model.parameters(),
        config={
            "train_micro_batch_size_per_gpu": 2,
            "optimizer": {"type": "Adam", "params": {"lr": 0.1, "torch_adam": True}},
            "zero_optimization": {"stage": payload["stage"]},
        },
    )
    losses = []
    for _ in range(10):
        loss = engine(torch.ones(2, 4) * (1 + context.rank)).square().mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return {"world_size": engine.world_size, "first": losses[0], "last": losses[-1]}


ACTIONS = {
    "square": _square,
    "raise": _raise_everywhere,
    "raise_on_last_rank": _raise_on_last_rank,
    "die_once": _die_once,
    "store": _store,
    "summary_without_json": _summary_without_json,
    "deepspeed": _deepspeed,
}
