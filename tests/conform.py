"""Every registered method on the tiny world, for the conformance tests.

A new method comes in by itself. Where its default options or the common recipe cannot work here (it
needs a file, a larger batch, another rate), it gets a line in `SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import bench.learn
from bench.loaded import Data, Inputs
from bench.train import Engine, train
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import Task, TaskKind
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Method, TaskInfo
from methods.core.registry import registered
from tests.llava import released
from tests.tiny import DESCRIPTIONS, TINY_SPEC

TASK_OF: dict[TaskKind, str] = {
    "classification": "classification",
    "image_text": "image-text",
    "composed": "composed",
}
Case = tuple[str, TaskKind]
CASES: list[Case] = [(n, k) for n, method in registered().items() for k in sorted(method.tasks)]
TRAINED = [(name, kind) for name, kind in CASES if registered()[name].trains]
STAGED = [(name, m.stage_kind) for name, m in registered().items() if m.stage is not None]
# Three steps on all rows: the third loss is that after two steps.
RECIPE: dict[str, Any] = {"schedule": "constant", "steps": 3, "lr": 0.01, "batch_size": 64}


@dataclass(frozen=True)
class Setting:
    """options: of the method's Config; given a folder for files, equal when called again.

    training: fields of the recipe that differ from `RECIPE`.
    """

    options: Callable[[Path], dict[str, Any]] = lambda folder: {}
    training: dict[str, Any] = field(default_factory=dict)


SETTINGS: dict[str, Setting] = {
    "instructcir": Setting(lambda _: {"model": str(released()), "dtype": "float32"}),
}


def setting(name: str) -> Setting:
    """The method's line in `SETTINGS`, or the defaults."""
    return SETTINGS.get(name, Setting())


@dataclass(frozen=True)
class Taught:
    """A method after training, and what was seen of it.

    at_first: names of its parameters when built. before, after: its state around the steps, with
    what only training has; declared: names of the trained parameters in it; reached: those that
    got a gradient.
    """

    method: Method
    curve: list[float]
    at_first: set[str]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    declared: set[str]
    reached: set[str]


@dataclass(frozen=True)
class World:
    """The tiny dataset under one backbone. files: a folder for what options need."""

    inputs: Inputs
    files: Path

    @property
    def backbone(self) -> Backbone:
        """The frozen model."""
        return self.inputs.backbone()

    def data(self, name: str, kind: TaskKind) -> Data:
        """A task, with descriptions only for a method that asks for them."""
        digest = open_dataset(Path(self.inputs.data_root) / "tiny").manifest.digest
        data = self.inputs.data("tiny", digest, TASK_OF[kind])
        asks = registered()[name].describes(self.config(name), kind)
        return replace(data, descriptions=DESCRIPTIONS if asks else {})

    def task(self, kind: TaskKind) -> Task:
        """The task of a kind."""
        return self.data(next(iter(registered())), kind).task

    def config(self, name: str) -> MethodConfig:
        """The method's options."""
        return registered()[name].Config.model_validate(setting(name).options(self.files))

    def build(self, name: str, kind: TaskKind, seed: int = 7) -> Method:
        """The method, fresh."""
        task, backbone = self.task(kind), self.backbone  # loading draws random weights
        info = TaskInfo(task.kind, task.class_names, task.templates)
        torch.manual_seed(seed)
        return registered()[name](self.config(name), backbone, info)

    def teach(
        self,
        name: str,
        kind: TaskKind,
        training: Training | None = None,
        shots: int | None = None,
        dropout: bool = True,
    ) -> Taught:
        """Build and train as a cell does, on `shots` of each group or on all.

        dropout: without it, the loss does not depend on the number of ranks.
        """
        method = self.build(name, kind)
        at_first = {n for n, _ in method.named_parameters()}
        seen: dict[str, dict[str, Tensor]] = {}
        declared, reached = set[str](), set[str]()

        def watched(method: Method, *rest: Any) -> list[float]:
            for module in () if dropout else method.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
                elif isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
            for key, parameter in method.named_parameters():
                if parameter.requires_grad:
                    declared.add(key)
                    parameter.register_hook(lambda _, key=key: reached.add(key))
            seen["before"] = _copy(method.state_dict())
            curve = train(method, *rest)
            seen["after"] = _copy(method.state_dict())
            return curve

        recipe = training or Training.model_validate(RECIPE | setting(name).training)
        data = self.data(name, kind)
        with patch.object(bench.learn, "train", watched):
            curve, _ = bench.learn.learn(method, recipe, data, shots, 1, self.inputs.engine)
        return Taught(method, curve, at_first, seen["before"], seen["after"], declared, reached)


def open_world(
    data_root: Path, files: Path, spec: BackboneSpec = TINY_SPEC, engine: Engine | None = None
) -> World:
    """The world in `data_root`; files: for cached features, and for what options need."""
    digest = load_backbone(spec).digest
    inputs = Inputs(spec, digest, str(data_root), str(files / "cache"), engine or Engine())
    return World(inputs, files)


def ranks_curves(
    engine: Engine, data_root: Path, files: Path, cases: Sequence[Case]
) -> dict[Case, tuple[list[float], dict[str, Tensor]]]:
    """The loss curve and the learned weights of each case, in uneven batches without dropout."""
    world = open_world(data_root, files, engine=engine)
    found = {}
    for name, kind in cases:
        recipe = Training.model_validate(
            RECIPE | {"steps": 4} | setting(name).training | {"batch_size": 7}
        )
        taught = world.teach(name, kind, recipe, dropout=False)
        found[name, kind] = (taught.curve, _copy(taught.method.learned()))
    return found


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
