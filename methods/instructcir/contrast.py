"""InstructCIR's second-stage loss, exact over data-parallel ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from methods.core import losses


def instruction_loss(
    query: Tensor,
    target: Tensor,
    original: Tensor,
    target_id: Tensor,
    original_id: Tensor,
    weight: Tensor,
    tau: float,
) -> Tensor:
    """Cross-entropy of [cos(z1_i, z2_all), cos(z1_i, z3_all)] / tau, right answer z2_i.

    query: z1 (b, D), image with instruction. target: z2 (b, D), captions of the targets.
    original: z3 (b, D), captions of the unmodified references, the hard negatives. All unit-norm;
    negatives are those of all ranks. target_id, original_id: (b,) equal for equal captions: a
    caption that is the row's right answer is no negative. weight: (b,), 0 for padding.

    The released code gathers too, but lets gradients flow through a rank's own rows alone; here
    they flow through all, so that any number of ranks has the gradient of the whole batch.
    """
    others = torch.cat([losses.gather(target), losses.gather(original)])
    ids = torch.cat([losses.gather(target_id), losses.gather(original_id)])
    weights = losses.gather(weight).repeat(2)
    rank = dist.get_rank() if losses.world_size() > 1 else 0
    row = torch.arange(len(query), device=query.device)
    own = row + rank * len(query)
    barred = (target_id[:, None] == ids[None, :]) | (weights == 0)[None, :]
    barred[row, own] = False
    logits = (query @ others.T / tau).masked_fill(barred, float("-inf"))
    return losses.cross_entropy(logits, own, weight)
