"""InfoNCE against a double loop over pairs; weights; false negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.core.losses import cross_entropy, info_nce, weighted_mean


def double_loop(query: Tensor, candidate: Tensor, ids: list[int], weight: list[int]) -> float:
    total, scale = 0.0, 7.0
    for i in range(len(query)):
        if not weight[i]:
            continue
        own = math.exp(scale * float(query[i] @ candidate[i]))
        others = sum(
            math.exp(scale * float(query[i] @ candidate[j]))
            for j in range(len(candidate))
            if j != i and ids[j] != ids[i] and weight[j]
        )
        total -= math.log(own / (own + others))
    return total / sum(weight)


def test_info_nce_equals_the_double_loop_with_duplicates_and_padding() -> None:
    torch.manual_seed(0)
    query = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    candidate = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    ids, weight = [0, 1, 0, 2, 3, 4], [1, 1, 1, 1, 0, 1]
    loss = info_nce(query, candidate, torch.tensor(ids), torch.tensor(weight).float(), 7.0)
    assert abs(float(loss) - double_loop(query, candidate, ids, weight)) < 1e-6


def test_padding_rows_get_no_gradient() -> None:
    query = torch.randn(4, 3, requires_grad=True)
    candidate = torch.randn(4, 3, requires_grad=True)
    weight = torch.tensor([1.0, 1, 1, 0])
    info_nce(query, candidate, torch.arange(4), weight, 1.0).backward()
    assert query.grad is not None and candidate.grad is not None
    assert float(query.grad[3].abs().sum()) == 0 == float(candidate.grad[3].abs().sum())
    assert float(query.grad[:3].abs().sum()) > 0 and float(candidate.grad[:3].abs().sum()) > 0


def test_cross_entropy_is_torchs_without_padding() -> None:
    logits, target = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    expected = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(cross_entropy(logits, target, torch.ones(5)), expected)


def test_weighted_mean_counts_only_real_rows() -> None:
    value = weighted_mean(torch.tensor([1.0, 2.0, 100.0]), torch.tensor([1.0, 1.0, 0.0]))
    assert float(value) == 1.5
