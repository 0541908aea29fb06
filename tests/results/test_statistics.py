"""Intervals that cover what they claim."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from results.frames import from_records
from results.statistics import collapsed, sampling_half_width, student_t_interval, summary


@pytest.mark.parametrize("n", [3, 5])
def test_coverage(n: int) -> None:
    """95 % means 95 %: of 4,000 simulated studies (standard error 0.35 %)."""
    generator = np.random.default_rng(5)
    covered = 0
    for sample in generator.normal(0.4, 0.02, size=(4000, n)):
        mean, half_width = student_t_interval([float(value) for value in sample])
        assert half_width is not None
        covered += abs(mean - 0.4) <= half_width
    assert 0.93 <= covered / 4000 <= 0.97


def test_the_usual_interval_does_not_cover() -> None:
    """Why the normal quantile is not used: about 75 % at n = 3."""
    samples = np.random.default_rng(5).normal(0.4, 0.02, size=(4000, 3))
    half_widths = 1.96 * samples.std(axis=1) / math.sqrt(3)
    covered = np.abs(samples.mean(axis=1) - 0.4) <= half_widths
    assert 0.70 <= covered.mean() <= 0.80


def test_agrees_with_scipy() -> None:
    values = [0.41, 0.45, 0.39, 0.44]
    mean, half_width = student_t_interval(values, level=0.9)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert half_width is not None
    assert mean - half_width == pytest.approx(interval.low)
    assert mean + half_width == pytest.approx(interval.high)


def test_one_seed_has_no_interval() -> None:
    assert student_t_interval([0.4]) == (0.4, None)


def test_order_of_seeds_changes_no_bit() -> None:
    values = [0.1, 0.2, 0.3, 0.7, 1 / 3]
    assert student_t_interval(values) == student_t_interval(values[::-1])


@pytest.mark.parametrize("values", [[], [0.1, math.nan]])
def test_refused_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"at least one|non-finite"):
        student_t_interval(values)


def test_summary_keeps_every_seed(make_record: Any) -> None:
    records = [make_record(seed=seed, accuracy=0.1 * seed) for seed in (3, 1, 2)]
    table = summary(from_records([*records, make_record("coop", shots=2, accuracy=0.4)]))
    row = table[(table["shots"] == 1) & table["headline"]].iloc[0]
    assert row["n"] == 3
    assert row["seeds"] == (1, 2, 3)
    assert row["values"] == pytest.approx((0.1, 0.2, 0.3))
    assert row["mean"] == pytest.approx(0.2)
    alone = table[(table["shots"] == 2) & table["headline"]].iloc[0]
    assert math.isnan(alone["half_width"])


def test_sampling_half_width() -> None:
    """35 % on CIRR's 4,181 queries: +-1.45 points."""
    assert sampling_half_width(0.35, 4181) == pytest.approx(0.0145, abs=5e-5)
    assert sampling_half_width(1.0 + 1e-12, 10) == 0.0


def test_collapsed_runs_are_flagged() -> None:
    assert collapsed([0.12, 0.152, 0.634], n_queries=1000) == [0, 1]
    assert collapsed([0.60, 0.62, 0.634], n_queries=1000) == []
    assert collapsed([0.01, 0.03], n_queries=100) == []  # within the noise of 100 queries
