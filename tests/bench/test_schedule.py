"""Learning rates of every step, CoOp's published numbers first."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from bench.schedule import learning_rate, total_steps
from methods.core.config import Training

COOP = Training()


@pytest.mark.parametrize(
    ("shots", "epochs"),
    [(1, 50), (2, 100), (4, 100), (8, 200), (16, 200), (3, 100), (32, 200)],
)
def test_coops_epochs_by_shots(shots: int, epochs: int) -> None:
    assert COOP.epochs_at(shots) == epochs
    assert total_steps(COOP, shots, steps_per_epoch=7) == 7 * epochs


@pytest.mark.parametrize(("shots", "epochs"), [(1, 50), (2, 100), (16, 200)])
def test_coops_rates(shots: int, epochs: int) -> None:
    """Epoch 0: 1e-5; epoch e >= 1: 0.002 * (1 + cos(pi * (e - 1) / E)) / 2."""
    per_epoch = 3
    rates = [learning_rate(COOP, s, shots, per_epoch) for s in range(epochs * per_epoch)]
    assert rates[:3] == [1e-5] * 3
    for step in range(per_epoch, len(rates)):
        epoch = step // per_epoch
        expected = 0.002 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        assert rates[step] == pytest.approx(expected, rel=1e-12)
    assert rates[3] == 0.002
    assert 0 < rates[-1] < 1e-5


def test_coops_rates_by_hand() -> None:
    """1 shot, 50 epochs: half of the cosine at epoch 26, the last epoch at (e - 1) / E = 0.96."""
    assert learning_rate(COOP, 26, 1, 1) == pytest.approx(0.001)
    assert learning_rate(COOP, 49, 1, 1) == pytest.approx(7.885e-6, rel=1e-3)


def test_cosine_with_a_linear_warmup() -> None:
    training = Training(schedule="cosine", lr=1.0, warmup_steps=4, steps=12)
    rates = [learning_rate(training, step, 1, 1) for step in range(12)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[8] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert all(a > b for a, b in pairwise(rates[4:]))


def test_cosine_counts_steps_of_epochs_too() -> None:
    training = Training(schedule="cosine", lr=1.0, epochs=2)
    assert learning_rate(training, 5, 1, 5) == pytest.approx(0.5)


def test_a_warmup_longer_than_the_run_stays_linear() -> None:
    training = Training(schedule="cosine", lr=1.0, warmup_steps=10, steps=3)
    assert [learning_rate(training, s, 1, 1) for s in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_constant_is_constant() -> None:
    training = Training(schedule="constant", lr=0.3, steps=5)
    assert {learning_rate(training, step, 1, 1) for step in range(5)} == {0.3}


def test_steps_take_the_place_of_epochs() -> None:
    training = Training(schedule="constant", steps=17)
    assert total_steps(training, shots=16, steps_per_epoch=9) == 17
