"""The noise of seeds, pooled over the methods of a column."""

from __future__ import annotations

import numpy as np
import pytest

from results.seed_noise import seed_noise


def test_two_methods_with_few_seeds_pool_their_own_variances() -> None:
    """A shared shift of three seeds is not taken out: 4 degrees of freedom, not 2."""
    scores = np.array([[0.50, 0.52, 0.51], [0.40, 0.41, 0.43]])
    variance, df = seed_noise(scores).between(0, 1)
    assert variance == pytest.approx(scores[0].var(ddof=1) + scores[1].var(ddof=1))
    assert df == 4


def test_two_methods_with_five_seeds_are_paired() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 5))
    variance, df = seed_noise(scores).between(0, 1)
    assert variance == pytest.approx((scores[0] - scores[1]).var(ddof=1))
    assert df == 4


def test_more_methods_pool_the_rest_of_an_analysis_of_variance() -> None:
    """By hand: what is left of the two-way table, 2 MS_rest and (M - 1)(S - 1)."""
    scores = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 5.0], [0.0, 2.0, 2.0]])
    fitted = scores.mean(axis=1)[:, None] + scores.mean(axis=0) - scores.mean()
    rest = np.square(scores - fitted).sum() / 4
    variance, df = seed_noise(scores).between(0, 2)
    assert variance == pytest.approx(2 * rest)
    assert df == pytest.approx(4)


def test_a_shift_of_the_seeds_counts_against_a_training_free_method_alone() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(0.0, 0.001, (4, 6)) + generator.normal(0.0, 0.1, 6)
    noise = seed_noise(scores)
    assert noise.between(0, 1)[0] < 1e-5
    variance, df = noise.against_free(2)
    assert variance == pytest.approx(scores.mean(axis=0).var(ddof=1), rel=0.1)
    assert df == pytest.approx(5, abs=0.2), "the seeds are six, however many methods share them"


def test_a_noisier_method_keeps_its_own_excess() -> None:
    generator = np.random.default_rng(2)
    scores = generator.normal(0.0, 0.002, (6, 5))
    scores[0] = generator.normal(0.0, 0.05, 5)
    noise = seed_noise(scores)
    wild, wild_df = noise.between(0, 1)
    calm, calm_df = noise.between(1, 2)
    assert wild > 2 * calm
    assert wild > 0.3 * scores[0].var(ddof=1)
    assert wild_df < 8 < calm_df


def test_one_method_and_equal_scores() -> None:
    alone = np.array([[0.1, 0.2, 0.4]])
    assert seed_noise(alone).against_free(0) == pytest.approx((alone.var(ddof=1), 2.0))
    assert seed_noise(np.full((3, 3), 0.5)).between(0, 1) == (0.0, 4.0)


def test_the_order_of_methods_changes_nothing() -> None:
    scores = np.random.default_rng(3).normal(size=(4, 3))
    there, back = seed_noise(scores).between(1, 3), seed_noise(scores[::-1]).between(2, 0)
    assert there == pytest.approx(back)
