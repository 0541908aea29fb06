"""Strict configuration: a method's options and its training recipe.

Every field here decides a result, so all of them enter a cell's key.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MethodConfig(BaseModel):
    """Options of one method. Subclasses add fields; unknown keys and loose types are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Training(BaseModel):
    """How a method is trained. The defaults are CoOp's (`configs/` of its code).

    optimizer, lr, momentum, weight_decay: torch.optim.SGD or AdamW (momentum: SGD only).
    schedule: "coop" sets the rate once per epoch: `warmup_lr` in epoch 0, then
        lr * (1 + cos(pi * (epoch - 1) / epochs)) / 2. "cosine" sets it every step, after
        `warmup_steps` linear ones. "constant" never changes it.
    epochs: passes over the shots, one number or by shot count (the entry for the largest count
        that is not above the cell's; for fewer shots than any entry, the smallest entry's).
    steps: optimizer steps; when set it takes the place of epochs.
    batch_size: queries in one optimizer step, over all ranks; a set smaller than that is one
        batch, otherwise the last incomplete batch of an epoch is dropped (Dassl's rule).
    accumulation: micro-batches in one optimizer step. In contrastive losses the negatives are
        those of the micro-batch, so this enters the result.
    precision: of activations and matrix products in training (autocast); parameters and optimizer
        state stay fp32. "fp16" is not scaled, as in CoOp's code, which also holds the context and
        its momentum in half; scores are always computed in fp32.
    augment: "crop-flip" trains on random crops of the queries' images (area 0.08 to 1, resized
        bicubic, half of them flipped: CoOp's transforms). Candidates are never augmented.
    views: with `augment`, for methods on frozen features: crops of each image that are encoded
        once and taken in turn, an approximation. Methods on pixels get a fresh crop every time.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.002, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["coop", "cosine", "constant"] = "coop"
    warmup_lr: float = Field(default=1e-5, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    epochs: int | dict[int, int] = Field(default={1: 50, 2: 100, 8: 200})
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=32, gt=0)
    accumulation: int = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augment: Literal["none", "crop-flip"] = "none"
    views: int = Field(default=8, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Training:
        counts = self.epochs.values() if isinstance(self.epochs, dict) else [self.epochs]
        if not counts or min(counts) < 1:
            raise ValueError("epochs must be at least 1")
        if self.steps is not None and self.schedule == "coop":
            raise ValueError(
                "schedule 'coop' is counted in epochs; with steps, use 'cosine' or 'constant'"
            )
        return self

    def epochs_at(self, shots: int) -> int:
        """Epochs for a shot count."""
        if isinstance(self.epochs, int):
            return self.epochs
        below = [count for count in self.epochs if count <= shots]
        return self.epochs[max(below) if below else min(self.epochs)]
