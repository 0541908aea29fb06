"""Losses of the contract, exact over data-parallel ranks.

Every rank holds rows of one global batch. A row's `weight` is 1, or 0 where a rank was padded to
an equal count. Each loss is scaled so that the mean over ranks (what data parallelism takes of
the gradients) is the mean over the real rows of the global batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """Number of data-parallel ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """Concatenate rows of all ranks; the gradient of every rank's use flows back to the owner."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        start = dist.get_rank() * ctx.count
        return grad[start : start + ctx.count]


def gather(rows: Tensor) -> Tensor:
    """(b, ...) on each rank -> (W * b, ...) on all, in rank order, with gradients.

    All ranks must hold equally many rows.
    """
    if world_size() == 1:
        return rows
    if not rows.requires_grad:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def weighted_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Per-row losses (b,) and weights (b,) -> this rank's share of the global mean, a scalar."""
    total = gather(weight).sum()
    return (losses * weight).sum() * world_size() / total


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Softmax cross-entropy over all classes: logits (b, C), target (b,), weight (b,)."""
    return weighted_mean(nn.functional.cross_entropy(logits, target, reduction="none"), weight)


def info_nce(
    query: Tensor, candidate: Tensor, target_id: Tensor, weight: Tensor, scale: float
) -> Tensor:
    """In-batch contrast, query to candidate, negatives of all ranks.

    query, candidate: (b, D) unit-norm, row i belongs to row i. target_id: (b,) int64; rows of
    other queries with the same target are no negatives. weight: (b,). scale: 1 / temperature.
    """
    everyone = gather(candidate)
    ids, weights = gather(target_id), gather(weight)
    rank = dist.get_rank() if world_size() > 1 else 0
    own = torch.arange(len(query), device=query.device) + rank * len(query)
    logits = scale * query @ everyone.T
    same = target_id[:, None] == ids[None, :]
    others = torch.arange(len(ids), device=ids.device) != own[:, None]
    barred = (same | (weights == 0)[None, :]) & others
    return cross_entropy(logits.masked_fill(barred, float("-inf")), own, weight)
