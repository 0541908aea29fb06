"""A function on several real ranks over gloo, for tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bench.train import Engine

Work = Callable[..., object]


def on_ranks(work: Work, ranks: int, folder: Path, *given: Any) -> list[Any]:
    """What `work(engine, *given)` returns on each of `ranks` processes (one torch thread each)."""
    mp.spawn(_rank, (ranks, work, given, str(folder)), nprocs=ranks)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(ranks)]


def _rank(rank: int, ranks: int, work: Work, given: tuple[Any, ...], folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "WORLD_SIZE": str(ranks)})
    store = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    torch.save(work(Engine(rank=rank, world_size=ranks), *given), f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()
