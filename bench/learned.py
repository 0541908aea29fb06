"""What a cell's method has learned: in its own training, in another cell's, or in a stage before.

Weights that another cell learned in the same training are taken where there are any; otherwise the
training is done in place. Both give the same bits, so a cell runs alone too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.cell_spec import Cell
from bench.clock import Clock
from bench.learn import learn
from bench.loaded import Data, Inputs
from bench.train import Engine
from data_recipes.core.model import DataError, Task
from methods.core.backbone import Backbone
from methods.core.contract import Method, TaskInfo
from methods.core.registry import method as registered_method


@dataclass(frozen=True)
class Trained:
    """Weights learned in another cell, and that cell's key."""

    key: str
    weights: dict[str, Tensor]


Pool = Callable[[str], Trained | None]
"""Training key -> weights learned in another cell, if there are any. Asked on rank 0."""


@dataclass(frozen=True)
class Learned:
    """A method that has learned, built for the task it learned on.

    curve: loss of each step; empty where its weights were taken. facts: which cells they are of:
    `trained_in` for the training itself, `stage_in` for the stage before it, `together` for those
    whose training ran in the same pass.
    """

    method: Method
    curve: list[float]
    notes: list[str]
    facts: dict[str, Any]


def home_of(cell: Cell, inputs: Inputs) -> Data:
    """The data that the cell's method learns on, with descriptions where it reads them."""
    on = cell.trained_on or cell
    described = (cell.descriptions, cell.descriptions_file)
    return inputs.data(on.dataset, on.dataset_digest, on.task, *described)


def learned(cell: Cell, inputs: Inputs, trained: Pool, clock: Clock) -> Learned:
    """The cell's method after its learning. All ranks call it.

    trained: asked for cells that are scored on another dataset than they are trained on, and for
        the stage of those that follow one. clock: gets the phases `setup` and `train`.
    """
    home, engine = home_of(cell, inputs), inputs.engine
    facts: dict[str, Any] = {}
    weights: dict[str, Tensor] | None = None
    if cell.training is not None and cell.trained_on is not None:
        known = _known(trained, cell.training_key, engine)
        if known is not None:
            weights, facts["trained_in"] = known.weights, known.key
    done = weights is not None
    if not done and cell.after is not None:
        known = _known(trained, cell.after.training_key, engine)
        if known is not None:
            weights, facts["stage_in"] = known.weights, known.key
        else:
            weights = learned(cell.after, inputs, lambda _: None, clock).method.learned()
    torch.manual_seed(cell.seed)
    method = build_method(cell, inputs.backbone(), home.task).to(engine.device)
    if weights is not None:
        method.load_learned(weights)
    curve: list[float] = []
    notes: list[str] = []
    if not done and cell.training is not None:
        on = cell.trained_on
        shots = None if on is not None and on.whole else cell.shots
        curve, notes = learn(
            method, cell.training, home, shots, cell.seed, engine, cell.few_shot, clock, cell.draw
        )
    return Learned(method, curve, notes, facts)


def build_method(cell: Cell, backbone: Backbone, task: Task) -> Method:
    """The cell's method over `backbone`. Seed torch before: parameters may start random."""
    kind = registered_method(cell.method)
    info = TaskInfo(kind=task.kind, class_names=task.class_names, templates=task.templates)
    config = kind.Config.model_validate(cell.config)
    if kind.weights_digest(config) != cell.sources.get("weights"):
        raise DataError(
            f"method {cell.method!r}: its weights are not those of the plan; start the study again"
        )
    return kind(config, backbone, info)


def _known(trained: Pool, training_key: str, engine: Engine) -> Trained | None:
    """What rank 0 is told, on every rank."""
    told = trained(training_key) if engine.rank == 0 else None
    if engine.world_size == 1:
        return told
    box = [told]
    dist.broadcast_object_list(box, src=0)
    return box[0]
