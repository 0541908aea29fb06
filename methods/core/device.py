"""Tensors on their way to a device, and the precision of what is computed there."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Matrix products in `precision` on a device; "fp32" ends any autocast around it."""
    half = HALVES.get(precision)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def moved(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor on `device`. To a GPU it goes through pinned memory, and nobody waits for it.

    A plain `.to` waits until the GPU has done all that it was asked before.
    """
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
