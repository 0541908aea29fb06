"""The training loop of several cells in one pass: equal schedules, each its own rows and loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bench.batches import Dealt, batches_per_epoch, deal, epoch_batches
from bench.clock import Clock
from bench.learn import Course
from bench.schedule import learning_rate, total_steps
from bench.train import Engine, collect, start_engine
from bench.workers import Inline
from methods.core.config import Training
from methods.core.contract import Method, TrainBatch

Result = TypeVar("Result")


class Together(nn.Module):
    """S methods of one class, side by side. Their losses are added, so a gradient is one's own.

    They know nothing of one another, so that each worker takes its share of them from the texts to
    the gradients: threads wait for one another once in a step, not in every product.
    """

    def __init__(self, methods: Sequence[Method], workers: Inline) -> None:
        super().__init__()
        self.methods = nn.ModuleList(methods)
        self._workers = workers

    def forward(self, batches: Sequence[TrainBatch]) -> Tensor:
        """Losses (S,), each on its own batch."""
        methods = [method for method in self.methods if isinstance(method, Method)]
        learned = [[p for p in method.parameters() if p.requires_grad] for method in methods]
        kind = batches[0].weight.device.type
        half, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def part(own: slice) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            # Neither the mode of autograd nor of autocast comes with a thread.
            with torch.enable_grad(), torch.autocast(kind, dtype, enabled=half):
                losses = type(methods[0]).together(methods[own], batches[own])
                total = losses.sum()
            parameters = [p for each in learned[own] for p in each]
            grads = torch.autograd.grad(total, parameters, allow_unused=True)
            return losses.detach(), grads

        def all_parts() -> tuple[Tensor, list[Tensor | None]]:
            found = dealt_out(part, len(methods), self._workers)
            return torch.cat([losses for losses, _ in found]), [g for _, own in found for g in own]

        owners = [number for number, own in enumerate(learned) for _ in own]
        losses: Tensor = _WithGradients.apply(all_parts, owners, *chain(*learned))
        return losses


class _WithGradients(torch.autograd.Function):
    """Losses (S,) whose gradients are computed with them; each parameter is in one loss alone."""

    @staticmethod
    def forward(
        ctx: Any,
        computed: Callable[[], tuple[Tensor, list[Tensor | None]]],
        owners: list[int],
        *parameters: Tensor,
    ) -> Tensor:
        losses, ctx.grads = computed()
        ctx.owners = owners
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        scales = scale.unbind()
        grads = (
            None if grad is None else grad * scales[owner].to(grad.dtype)
            for grad, owner in zip(ctx.grads, ctx.owners, strict=True)
        )
        return (None, None, *grads)


def dealt_out(work: Callable[[slice], Result], count: int, workers: Inline) -> list[Result]:
    """`work` on parts of `count` things, in order: equally many for each worker, then the others.

    Those that do not divide run in the calling thread, with all threads of torch.
    """
    size = count // workers.count
    shares = [slice(number * size, (number + 1) * size) for number in range(workers.count)]
    found = workers.map(work, shares) if size else []
    if size * workers.count < count:
        found.append(work(slice(size * workers.count, count)))
    return found


def schedule(training: Training, course: Course) -> tuple[float, ...]:
    """All that steps must have in common to be taken together: rows of a batch, and the rates."""
    per_epoch = batches_per_epoch(course.rows, training.batch_size)
    steps = total_steps(training, course.shots, per_epoch)
    rates = [learning_rate(training, step, course.shots, per_epoch) for step in range(steps)]
    return (min(course.rows, training.batch_size), *rates)


def train_together(
    methods: Sequence[Method],
    training: Training,
    courses: Sequence[Course],
    seeds: Sequence[int],
    engine: Engine,
    clock: Clock,
    workers: Inline,
) -> list[list[float]]:
    """Train S methods in place, on one rank; returns the loss of every step of each.

    workers: threads that share the methods among them.

    The optimizers work on each number alone, so that this is S separate trainings up to rounding.
    A loss that is not finite stays with its method: it is in the curve, and nothing is raised.

    Raises:
        ValueError: the schedules differ, or there are several ranks.
    """
    rates = {schedule(training, course) for course in courses}
    if len(rates) != 1 or engine.world_size != 1 or engine.zero_stage:
        raise ValueError("only equal schedules train together, on one rank without ZeRO")
    module = Together(methods, workers)
    deepspeed = start_engine(module, training, courses[0].rows, engine)
    per_epoch = [batches_per_epoch(course.rows, training.batch_size) for course in courses]
    batches = [
        _Batches(course.rows, training, seed) for course, seed in zip(courses, seeds, strict=True)
    ]
    losses: list[Tensor] = []
    module.train()
    clock.lap("setup")
    for step, rate in enumerate(next(iter(rates))[1:]):
        for group in deepspeed.optimizer.param_groups:
            group["lr"] = rate
        step_losses = torch.zeros(len(methods), device=engine.device)
        micro = [own.of(*divmod(step, n)) for own, n in zip(batches, per_epoch, strict=True)]
        for dealt in zip(*micro, strict=True):
            share = torch.tensor([one.share for one in dealt], device=engine.device)
            given = [course.batch(one) for course, one in zip(courses, dealt, strict=True)]
            found = deepspeed(given) * share
            deepspeed.backward(found.sum())
            deepspeed.step()
            step_losses += found.detach().float() / training.accumulation
        losses.append(step_losses)
    curves: list[list[float]] = torch.stack(losses).T.tolist()
    clock.lap("train")
    collect(deepspeed, [*module.parameters()], engine)
    return curves


class _Batches:
    """One cell's micro-batches, an epoch at a time."""

    def __init__(self, rows: int, training: Training, seed: int) -> None:
        self._rows, self._training, self._seed = rows, training, seed
        self._epoch = -1

    def of(self, epoch: int, number: int) -> list[Dealt]:
        if epoch != self._epoch:
            size = self._training.batch_size
            self._drawn = epoch_batches(self._rows, size, self._seed, epoch)
            self._epoch = epoch
        return deal(self._drawn[number], self._training.accumulation, 0, 1, epoch)
