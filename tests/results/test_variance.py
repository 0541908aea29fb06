"""Draw, seed and rest of a crossed study."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.variance import VARIANCE_COLUMNS, components, variance_split
from tests.results.plant import Planted


def crossed(values: np.ndarray) -> Planted:
    study = Planted()
    for draw, row in enumerate(values):
        for seed, value in enumerate(row):
            if not math.isnan(value):
                study.add("a", [value], seed=seed, draw=draw, headline=value)
    return study


def test_components_of_an_additive_table() -> None:
    """By hand: rows differ by SD 0.1, columns by 0.02, and nothing is left."""
    rows, columns = np.array([0.3, 0.4, 0.5]), np.array([-0.02, 0.0, 0.02])
    draw, seed, rest = components(rows[:, None] + columns)
    assert (draw, seed) == pytest.approx((0.1, 0.02))
    assert rest == pytest.approx(0.0, abs=1e-12)


def test_components_are_found_on_average() -> None:
    generator = np.random.default_rng(0)
    shape = (3000, 4, 4)
    tables = 0.03 * generator.normal(size=(3000, 4, 1)) + 0.01 * generator.normal(size=(3000, 1, 4))
    tables = 0.5 + tables + 0.02 * generator.normal(size=shape)
    found = np.mean([np.square(components(table)) for table in tables], axis=0)
    # Negative components count as 0, which lifts the small one a little.
    assert found[0] == pytest.approx(0.03**2, rel=0.1)
    assert 0.9 * 0.01**2 < found[1] < 1.5 * 0.01**2
    assert found[2] == pytest.approx(0.02**2, rel=0.05)


def test_a_crossed_study_is_split() -> None:
    values = np.array([[0.30, 0.32], [0.40, 0.42], [0.50, 0.52]])
    table = variance_split(crossed(values).frame)
    assert tuple(table.columns) == VARIANCE_COLUMNS
    row = table.iloc[0]
    assert (row["draws"], row["seeds"], row["metric"]) == (3, 2, "accuracy")
    assert row["sd_draw"] == pytest.approx(0.1)
    assert row["sd_seed"] == pytest.approx(np.std([0.0, 0.02], ddof=1))


def test_incomplete_draws_are_left_out_and_counted() -> None:
    values = np.array([[0.30, 0.32, 0.31], [0.40, 0.42, 0.41], [0.50, math.nan, 0.51]])
    row = variance_split(crossed(values).frame).iloc[0]
    assert (row["draws"], row["seeds"]) == (2, 3)


def test_nothing_to_split_where_one_number_sets_both() -> None:
    study = Planted()
    for seed in (1, 2, 3):
        study.add("a", [seed / 10], seed=seed)
    assert variance_split(study.frame).empty
    assert variance_split(crossed(np.array([[0.3, 0.4]])).frame).empty
