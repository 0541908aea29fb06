"""A training step never makes the host wait for a GPU: seen on the CPU, for every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_recipes.core.model import TaskKind
from tests.conform import TRAINED, World, open_world
from tests.syncs import STEPS, Syncs, steps_of


@pytest.fixture(scope="module")
def world(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tiny_data, tmp_path_factory.mktemp("waiting"))


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_no_step_waits(name: str, kind: TaskKind, world: World) -> None:
    world.backbone.text.forget()  # ids kept by a test before: nobody has seen them on the host
    with Syncs() as syncs:

        def around(number: int, step: Callable[[], None]) -> None:
            syncs.watching = number == STEPS - 1
            step()
            syncs.watching = False

        steps_of(world, name, kind, around)
    assert not syncs.found, "\n".join(["the step waits for a GPU:", *syncs.found])


WAITS: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "equal": lambda x: torch.equal(x, x + 1),
    "upload": lambda x: torch.tensor([1.0], device=x.device),
    "copy": lambda x: torch.tensor([1.0]).to(x.device),
    "mixed": lambda x: x[torch.tensor([0, 2])],
    "repeat": lambda x: x.repeat_interleave(x.long().abs()),
    "array": lambda x: np.asarray(x.detach()),
    "backward": lambda x: _Reads.apply(x.clone().requires_grad_()).sum().backward(),
}


class _Reads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * grads[0].max().item()


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_the_watch_sees(wait: Callable[[torch.Tensor], object]) -> None:
    x = torch.randn(4)
    with Syncs() as syncs:
        syncs.watching = True
        wait(x)
    assert syncs.found


def test_the_watch_lets_pass_what_does_not_wait() -> None:
    x = torch.randn(4)
    with Syncs() as syncs:
        syncs.watching = True
        ids = torch.tensor([3, 1])
        assert int(ids.max()) == 3 and ids.tolist() == [3, 1]
        (x[torch.arange(4, device=x.device)] * 2 + torch.zeros_like(x)).clamp(min=0).topk(2)
        x.where(x > 0, 1.0)
    assert not syncs.found
