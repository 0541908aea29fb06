"""LoRA on linear layers (Hu et al., arXiv 2106.09685), added in place: y = W x + b + B A x."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional


class LoRALinear(nn.Module):
    """A linear layer with a learned change of rank `rank`; scale 1, no dropout, B starts at 0.

    Weight and bias are the given layer's own. A and B are float32, whatever these are.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        # Drawn as peft draws them: equal seeds give equal adapters.
        down = nn.Linear(linear.in_features, rank, bias=False)
        up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        self.lora_A = nn.Parameter(down.weight.detach().to(linear.weight.device))
        self.lora_B = nn.Parameter(up.weight.detach().to(linear.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        low, high = self.lora_A, self.lora_B
        if not torch.is_grad_enabled() and self.weight.dtype == low.dtype:
            return functional.linear(x, torch.addmm(self.weight, high, low), self.bias)
        flat = x.reshape(-1, x.shape[-1])
        out = functional.linear(flat, self.weight, self.bias)
        inner = functional.linear(flat.to(low.dtype), low)
        if inner.dtype == out.dtype:  # the product adds to what is there: no copy of the output
            out.addmm_(inner, high.T.to(out.dtype))
        else:
            out = out + functional.linear(inner, high).to(out.dtype)
        return out.view(*x.shape[:-1], -1)


def add_lora(model: nn.Module, rank: int, names: Collection[str]) -> None:
    """Put a `LoRALinear` in the place of each linear layer of `model` that has one of `names`."""
    for path, module in [*model.named_modules()]:
        parent, _, name = path.rpartition(".")
        if name in names and isinstance(module, nn.Linear):
            setattr(model.get_submodule(parent), name, LoRALinear(module, rank))
