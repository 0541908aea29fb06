"""The intervals cover what they claim, and equal methods are rarely told apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from results.simulation import REGIMES, Regime, report, seed_coverage, simulate, study


def test_coverage_and_family_wise_error_of_a_few_studies() -> None:
    """200 studies of 3 seeds and 400 queries, seeds 1 point apart.

    A study's ten intervals hang together: their share has a standard deviation of about 0.1, so
    that four standard errors of 200 studies are 3 points. The family-wise error is 5 % or less:
    more than 22 of 200 has a probability of 3e-4.
    """
    row = simulate(Regime(3, 400, 0.01), runs=200, seed=1)
    assert 0.92 <= row["trained"] <= 0.98
    assert 0.90 <= row["free"] <= 0.99
    assert row["family"] <= 22 / 200


def test_the_same_seed_gives_the_same_numbers() -> None:
    regime = Regime(3, 200, 0.005)
    assert simulate(regime, 5, seed=3) == simulate(regime, 5, seed=3)
    assert seed_coverage(3, 50, seed=3) == seed_coverage(3, 50, seed=3)


@pytest.mark.parametrize("methods", [3, 6])
def test_three_points_on_4000_queries_are_found(methods: int) -> None:
    """With 5 seeds half a point apart, against every other method, after Holm: 9 of 10 and more."""
    regime = Regime(5, 4000, 0.005, gain=0.03, methods=methods)
    generator = np.random.default_rng(0)
    found = pd.concat([study(regime, generator) for _ in range(20)])
    against = found[(found["first"] == "m1") | (found["second"] == "m1")]
    assert (against["p_holm"] < 0.05).mean() > 0.85


@pytest.mark.slow
def test_all_regimes() -> None:
    """What `python -m results.simulation` prints: 93 to 97 %, and at most 6 % in all."""
    table = pd.DataFrame([simulate(regime, runs=200, seed=7) for regime in REGIMES])
    for name in ("trained", "free"):
        assert table[name].mean() == pytest.approx(0.95, abs=0.02)
        # One regime has 200 studies: a standard error of 0.7 and 0.9 points.
        assert table[name].between(0.925, 0.98).all()
    assert table["family"].mean() <= 0.06
    assert table["family"].max() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_the_report_names_every_regime() -> None:
    lines = list(report(runs=2, seed=1))
    assert sum("points" in line for line in lines) == len(REGIMES)
    assert lines[-1].startswith("all")
