"""What a cell is: its identity and key, where its runs find things, and its names in tables."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from bench import fields, keys
from data_recipes.core.sampler import Draw
from methods.core.backbone import BackboneSpec
from methods.core.config import Training
from methods.core.registry import method as registered_method


class TrainedOn(BaseModel):
    """Another dataset that a cell's method learns on before it is scored on the cell's own.

    whole: all its training queries (a `source:`), not the cell's few shots (`evaluate_on:`).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    dataset: str
    dataset_digest: str
    task: str
    whole: bool

    @property
    def label(self) -> str:
        """For tables."""
        return f"{self.dataset}/{self.task}"


class Cell(BaseModel):
    """Everything that `run_cell` needs. Identity fields make the key; see `bench.fields`.

    method, config, training: the method, its validated options, its resolved recipe (None: it
        learns nothing here, or nothing beyond its stage).
    sources: digests of the method's and the engine's source.
    dataset, task, dataset_digest, protocol: what is learned and how it is scored.
    trained_on: where it is learned instead, for transfer; None: on `dataset` itself.
    stage: this cell is a method's stage, the training on a source before any target's.
    after: the stage that this cell's learning goes on from.
    descriptions: sha256 of the descriptions that the training reads; None: it reads none.
    descriptions_file: where they are; None: in the dataset's own folder.
    backbone_digest: of the frozen weights. few_shot: which sampler draws the shots.
    shots, seed: 0 and 0 for training-free methods. draw: seed of the few-shot draw; None: `seed`.
    selection, selection_split: how the options were chosen, and on what.
    ablation_of, varied: the method that an ablation is compared with, and what it changes of it.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    method: str = fields.identity()
    config: dict[str, Any] = fields.identity()
    training: Training | None = fields.identity()
    sources: dict[str, str] = fields.identity()
    dataset: str = fields.identity()
    dataset_digest: str = fields.identity()
    task: str = fields.identity()
    protocol: str = fields.identity()
    trained_on: TrainedOn | None = fields.identity(default=None)
    stage: bool = fields.identity(default=False)
    after: Cell | None = fields.identity(default=None, by="training_key")
    descriptions: str | None = fields.identity(default=None)
    backbone_digest: str = fields.identity()
    few_shot: Draw = fields.identity(default="nested")
    shots: int = fields.identity()
    seed: int = fields.identity()
    draw: int | None = fields.identity(default=None)
    kind: str = fields.runtime()
    study: str = fields.runtime()
    variant: str | None = fields.runtime()
    backbone: BackboneSpec = fields.runtime()
    data_root: str = fields.runtime()
    cache: str = fields.runtime()
    zero_stage: int = fields.runtime(default=0)
    compile: bool = fields.runtime(default=False)
    descriptions_file: str | None = fields.runtime(default=None)
    selection: str = fields.runtime(default="fixed")
    selection_split: str | None = fields.runtime(default=None)
    ablation_of: str | None = fields.runtime(default=None)
    varied: dict[str, Any] = fields.runtime(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        return fields.identity_of(self)

    @property
    def key(self) -> str:
        """The cell's key: hash of its identity."""
        return keys.key(self.identity)

    @property
    def training_key(self) -> str:
        """Hash of what decides the learned weights: equal for one training scored on many sets."""
        home = self.trained_on or TrainedOn(
            dataset=self.dataset, dataset_digest=self.dataset_digest, task=self.task, whole=False
        )
        scored = ("dataset", "dataset_digest", "task", "protocol", "trained_on")
        own = {k: v for k, v in self.identity.items() if k not in scored}
        return keys.key({**own, "trained_on": home.model_dump()})

    @property
    def draw_seed(self) -> int:
        """The seed of the few-shot draw."""
        return self.seed if self.draw is None else self.draw

    @property
    def learned_on(self) -> str | None:
        """`dataset/task` of all that was learned, where it is not the one that is scored."""
        if self.trained_on is not None:
            return self.trained_on.label
        alone = self.after if self.training is None else None
        return None if alone is None else f"{alone.dataset}/{alone.task}"

    @property
    def coordinates(self) -> dict[str, Any]:
        """Where the cell stands in tables: the `cell` part of its record."""
        kind = registered_method(self.method)
        return {
            "study": self.study,
            "method": self.method,
            "variant": self.variant,
            "dataset": self.dataset,
            "task": self.task,
            "shots": self.shots,
            "seed": self.seed,
            "backbone": self.backbone.label,
            "protocol": self.protocol,
            "trained_on": self.learned_on,
            "trains": self.stage or kind.learns(kind.Config.model_validate(self.config)),
            "stage": self.stage,
            "data_version": self.dataset_digest[:12],
            "backbone_version": self.backbone_digest[:12],
            "selection": self.selection,
            "selection_split": self.selection_split,
            "ablation_of": self.ablation_of,
            "varied": self.varied,
            "draw": self.draw,
        }

    @property
    def title(self) -> str:
        """For progress lines and error messages."""
        name = self.variant or self.method
        if self.stage:
            return f"{name}, stage on {self.dataset}/{self.task}"
        plural = "" if self.shots == 1 else "s"
        drawn = self.shots or self.trained_on
        crossed = "" if self.draw is None else f", draw {self.draw}"
        draw = f", {self.shots} shot{plural}{crossed}, seed {self.seed}" if drawn else ""
        origin = f" from {self.learned_on}" if self.learned_on else ""
        return f"{name}{origin} on {self.dataset}/{self.task}{draw}"
