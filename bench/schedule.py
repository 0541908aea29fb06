"""The learning rate of every step, as a pure function."""

from __future__ import annotations

import math

from methods.core.config import Training


def total_steps(training: Training, shots: int, steps_per_epoch: int) -> int:
    """Optimizer steps of a run."""
    if training.steps is not None:
        return training.steps
    return training.epochs_at(shots) * steps_per_epoch


def learning_rate(training: Training, step: int, shots: int, steps_per_epoch: int) -> float:
    """The rate used in optimizer step `step` (0-based).

    "coop": epoch 0 at warmup_lr; epoch e >= 1 at lr * (1 + cos(pi * (e - 1) / E)) / 2, so the
    cosine counter starts after the warm-up and the last epoch is slightly above zero
    (`Dassl.pytorch/dassl/optim/lr_scheduler.py`, ConstantWarmupScheduler over cosine).
    """
    if training.schedule == "constant":
        return training.lr
    if training.schedule == "coop":
        epoch, epochs = step // steps_per_epoch, training.epochs_at(shots)
        if epoch == 0:
            return training.warmup_lr
        return training.lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
    if step < training.warmup_steps:
        return training.lr * (step + 1) / training.warmup_steps
    length = max(1, total_steps(training, shots, steps_per_epoch) - training.warmup_steps)
    return training.lr * (1 + math.cos(math.pi * (step - training.warmup_steps) / length)) / 2
