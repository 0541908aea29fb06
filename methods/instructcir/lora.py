"""LoRA on linear layers (Hu et al., arXiv 2106.09685), added in place: y = W x + b + B A x."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class LoRALinear(nn.Module):
    """A linear layer with a learned change of rank `rank`; scale 1, no dropout, B starts at 0.

    Weight and bias are the given layer's own, frozen. A and B are float32, whatever these are.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.requires_grad_(False).weight, linear.bias
        # Drawn as peft draws them: equal seeds give equal adapters.
        down = nn.Linear(linear.in_features, rank, bias=False)
        up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        self.lora_A = nn.Parameter(down.weight.detach().to(linear.weight.device))
        self.lora_B = nn.Parameter(up.weight.detach().to(linear.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        low, high, weight = self.lora_A, self.lora_B, self.weight
        flat = x.reshape(-1, x.shape[-1])
        out: Tensor
        # In half precision a merged matrix would lose a small change.
        if weight.dtype == low.dtype and not torch.is_autocast_enabled(x.device.type):
            out = _Merged.apply(flat, weight, self.bias, low, high)
            return out.view(*x.shape[:-1], -1)
        out = functional.linear(flat, weight, self.bias)
        inner = functional.linear(flat.to(low.dtype), low)
        if inner.dtype == out.dtype:  # the product adds to what is there: no copy of the output
            out.addmm_(inner, high.T.to(out.dtype))
        else:
            out = out + functional.linear(inner, high).to(out.dtype)
        return out.view(*x.shape[:-1], -1)


class _Merged(torch.autograd.Function):
    """(W + B A) x + b of rows x (T, in) with W and b frozen, as one product each way."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, low: Tensor, high: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, low, high)
        return functional.linear(x, torch.addmm(weight, high, low), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, low, high = ctx.saved_tensors  # merged anew: a copy of W is not kept
        below = slope @ torch.addmm(weight, high, low) if ctx.needs_input_grad[0] else None
        # Through the narrow side: the merged matrix's own gradient would cost as much as `below`.
        return below, None, None, (slope @ high).T @ x, slope.T @ (x @ low.T)


def add_lora(model: nn.Module, rank: int, names: Collection[str]) -> None:
    """Put a `LoRALinear` in the place of each linear layer of `model` that has one of `names`."""
    for path, module in [*model.named_modules()]:
        parent, _, name = path.rpartition(".")
        if name in names and isinstance(module, nn.Linear):
            setattr(model.get_submodule(parent), name, LoRALinear(module, rank))
