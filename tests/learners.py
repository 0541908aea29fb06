"""Small methods that learn in more than one step, or from descriptions, for tests of the engine."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.coop import CoOp
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Lesson, TaskInfo, TrainBatch
from methods.core.registry import registered


class StagedCoOp(CoOp):
    """CoOp whose context is learned on captions of a source first."""

    name = "staged-coop"
    stage: ClassVar[Training | None] = Training(schedule="constant", steps=3, lr=0.05, batch_size=5)


class SourceCoOp(StagedCoOp):
    """A context that is learned on a source and nowhere else."""

    name = "source-coop"
    trains = False


class GrownCoOp(StagedCoOp):
    """Wrong on purpose: what it learns has as many rows as its task has classes."""

    name = "grown-coop"

    def __init__(self, config: MethodConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.bias = nn.Parameter(torch.zeros(1 + len(task.class_names)))


class ToldCoOp(CoOp):
    """CoOp whose texts are pulled to the descriptions of their class or target image."""

    name = "told-coop"

    @classmethod
    def describes(cls, config: MethodConfig, kind: TaskKind) -> bool:
        """Captions describe themselves."""
        return kind != "image_text"

    def begin_training(self, lesson: Lesson) -> None:
        """Mean text feature of each pair's descriptions: (N, D)."""
        if not all(lesson.described):
            raise ValueError("a training pair has no description")
        tower = self.backbone.text
        means = [tower.encode_texts(list(texts)).mean(0) for texts in lesson.described]
        self._told = nn.functional.normalize(torch.stack(means), dim=-1)
        self._texts = lesson.texts

    def end_training(self) -> None:
        """Forget what was told."""
        del self._told, self._texts

    def loss(self, batch: TrainBatch) -> Tensor:
        """The task's loss and the distance to what was told."""
        rows = batch.row.tolist()
        own = self.text([self._texts[row] for row in rows])
        far = 1 - (own * self._told[rows]).sum(-1)
        return super().loss(batch) + losses.weighted_mean(far, batch.weight)


LEARNERS = (StagedCoOp, SourceCoOp, GrownCoOp, ToldCoOp)


def register() -> None:
    """Make these known by name in this process."""
    registered().update({kind.name: kind for kind in LEARNERS})
