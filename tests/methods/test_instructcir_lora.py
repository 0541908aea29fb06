"""LoRA layers: the formula, its gradients, and where they are put."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.instructcir.lora import LoRALinear, add_lora


def layer(dtype: torch.dtype = torch.float32, bias: bool = True) -> LoRALinear:
    torch.manual_seed(1)
    made = LoRALinear(nn.Linear(6, 5, bias=bias, dtype=dtype).requires_grad_(False), 3)
    with torch.no_grad():
        made.lora_B.normal_()
    return made


@pytest.mark.parametrize("bias", [True, False])
def test_the_change_is_b_a_x_with_and_without_gradients(bias: bool) -> None:
    own, x = layer(bias=bias), torch.randn(2, 4, 6, requires_grad=True)
    whole = own.weight + own.lora_B @ own.lora_A
    expected = nn.functional.linear(x, whole, own.bias)
    aim = torch.randn(2, 4, 5)
    given = torch.autograd.grad((expected * aim).sum(), (x, own.lora_A, own.lora_B))
    found = own(x)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad((found * aim).sum(), (x, own.lora_A, own.lora_B)), given, strict=True
    ):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(own(x), expected)


def test_half_weights_keep_a_float32_change() -> None:
    own, x = layer(torch.bfloat16), torch.randn(4, 6, dtype=torch.bfloat16)
    assert own.lora_A.dtype == torch.float32
    change = x.float() @ (own.lora_B @ own.lora_A).T
    expected = nn.functional.linear(x, own.weight, own.bias).float() + change
    for found in (own(x), torch.no_grad()(own)(x)):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)


def test_autocast_rounds_the_products_alone() -> None:
    own, x = layer(), torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = own(x)
    found.sum().backward()
    assert own.lora_A.grad is not None and own.lora_A.grad.dtype == torch.float32
    torch.testing.assert_close(found.float(), own(x), rtol=5e-2, atol=5e-2)


def test_it_starts_at_nothing_where_the_names_say() -> None:
    model = nn.ModuleDict({"up": nn.Linear(4, 4), "down": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    before = {name: model[name](torch.ones(1, 4)) for name in model}
    add_lora(model, 2, ("up", "norm"))
    assert isinstance(model["up"], LoRALinear) and isinstance(model["down"], nn.Linear)
    assert isinstance(model["norm"], nn.LayerNorm)
    for name in model:
        torch.testing.assert_close(model[name](torch.ones(1, 4)), before[name])
