"""Finds, on a CPU, where a step on a GPU would wait: no GPU is needed to see that it asks one.

Every tensor counts as the GPU's, except those made on the host while `Syncs` watches: by a factory
without `device=`, from a list or an array, or from such tensors alone. To read a number out of a
GPU's tensor, to let a result's shape depend on it, to copy a host's tensor over other than through
`moved`, or to mix the two makes the host wait (or fails).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import bench.learn
import methods.core.device
from bench.batches import deals
from bench.clock import Clock
from bench.score import score
from bench.train import Engine
from data_recipes.core.model import TaskKind
from methods.core.config import Training
from methods.core.contract import Method
from tests.conform import RECIPE, World, setting

STEPS = 3  # the last is watched: those before fill what is kept between steps
ROOT = Path(__file__).resolve().parent.parent
READS = {
    getattr(Tensor, name)
    for name in (
        *("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__"),
        *("__index__", "__array__"),
    )
}
UPLOADS = {torch.tensor, torch.as_tensor, torch.asarray}
FACTORIES = {
    *UPLOADS,
    *(torch.from_numpy, torch.frombuffer, torch.empty, torch.zeros, torch.ones, torch.full),
    *(torch.arange, torch.linspace, torch.eye, torch.rand, torch.randn, torch.randint),
    *(torch.randperm, torch.tril_indices, torch.triu_indices, torch.scalar_tensor),
}
aten = torch.ops.aten
SHAPED_BY_VALUES = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.repeat_interleave),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.equal, aten.is_nonzero),
}


class Syncs:
    """Context: `found` has a line for each wait, with the project's file and line.

    watching: False notes only where the host's tensors and the GPU's are mixed.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self.watching = False
        # By address; kept, so that no address is used twice.
        self._host: dict[int, torch.UntypedStorage] = {}
        self._modes = (_Calls(self), _Operators(self))
        self._moved: dict[Any, Callable[..., Tensor]] = {}

    def on_host(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self._host

    def make_host(self, out: Any) -> None:
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._host[_storage(tensor)] = tensor.untyped_storage()

    def wait(self, why: str, always: bool = False) -> None:
        if not (self.watching or always):
            return
        frames = traceback.extract_stack()
        own = [f for f in frames if _project(f.filename)]
        where = own[-1] if own else frames[-4]
        line = f"{where.filename.removeprefix(f'{ROOT}/')}:{where.lineno}: {why}: {where.line}"
        if line not in self.found:
            self.found.append(line)

    def __enter__(self) -> Syncs:
        original = methods.core.device.moved

        def copied(tensor: Tensor, device: Any) -> Tensor:
            if not self.on_host(tensor):
                return tensor
            return _copy(tensor)

        for module in [*sys.modules.values()]:
            if getattr(module, "moved", None) is original:
                self._moved[module] = original
                module.moved = copied  # type: ignore[attr-defined]
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)
        for module, original in self._moved.items():
            module.moved = original


class _Calls(TorchFunctionMode):
    """Sees what Python asks of torch."""

    def __init__(self, syncs: Syncs) -> None:
        super().__init__()
        self._syncs = syncs

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        syncs, kwargs = self._syncs, kwargs or {}
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if func in READS and first is not None and not syncs.on_host(first):
            syncs.wait("reads numbers")
        if func is Tensor.to and first is not None and syncs.on_host(first):
            given = [*args[1:], *kwargs.values()]
            if any(_names_device(syncs, one) for one in given):
                syncs.wait("copies from the host")
                return _copy(func(*args, **kwargs))
        out = func(*args, **kwargs)
        if func is Tensor.cpu and out is first:
            out = _copy(out)
            syncs.make_host(out)
        if func in FACTORIES:
            if kwargs.get("device") is None:
                syncs.make_host(out)
            elif func in UPLOADS:
                syncs.wait("copies from the host")
        return out


class _Operators(TorchDispatchMode):
    """Sees every operator, those of the backward pass too."""

    def __init__(self, syncs: Syncs) -> None:
        super().__init__()
        self._syncs = syncs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        syncs, kwargs = self._syncs, kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        host = [tensor for tensor in given if syncs.on_host(tensor)]
        if given and len(host) < len(given):
            if func.overloadpacket in SHAPED_BY_VALUES:
                syncs.wait(f"{func} depends on values")
            if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
                index is not None and index.dtype == torch.bool for index in args[1]
            ):
                syncs.wait("a mask as an index")
            if any(tensor.ndim for tensor in host) and func.overloadpacket is not aten.copy_:
                syncs.wait(f"{func} mixes the host's and the GPU's", always=True)
        out = func(*args, **kwargs)
        if given and len(host) == len(given):
            syncs.make_host(out)
        return out


def _copy(tensor: Tensor) -> Tensor:
    """The same on the GPU: storage that is not the host's."""
    copy = torch.zeros(0, device=tensor.device).new_empty(tensor.shape, dtype=tensor.dtype)
    return copy.copy_(tensor)


def _names_device(syncs: Syncs, given: Any) -> bool:
    if isinstance(given, Tensor):
        return not syncs.on_host(given)
    return isinstance(given, (torch.device, str))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _project(file: str) -> bool:
    path = Path(file)
    rooms = ("methods", "bench", "data_recipes")
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in rooms


def steps_of(
    world: World, name: str, kind: TaskKind, around: Callable[[int, Callable[[], None]], None]
) -> None:
    """Learning and scoring as in a cell, without DeepSpeed: `around(number, step)` each step."""
    method = world.build(name, kind).to(world.inputs.engine.device)

    def plain(
        method: Method,
        training: Training,
        shots: int,
        rows: int,
        batch: Callable[..., Any],
        seed: int,
        engine: Engine,
        clock: Clock,
    ) -> list[float]:
        optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1e-3)
        method.train()
        for number, dealt in enumerate(deals(rows, rows, 1, STEPS, seed, 0, 1)):

            def step(dealt: Any = dealt) -> None:
                optimizer.zero_grad(set_to_none=True)
                method(batch(dealt)).backward()
                optimizer.step()

            around(number, step)
        return []

    recipe = Training.model_validate(RECIPE | setting(name).training)
    with patch.object(bench.learn, "train", plain):
        data = world.data(name, kind)
        bench.learn.learn(method, recipe, data, None, 1, world.inputs.engine)
    method.eval()
    score(
        method,
        data.task,
        data.images(method),
        data.missing,
        world.inputs.engine,
        data.gallery(method),
    )
