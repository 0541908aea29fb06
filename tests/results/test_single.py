"""Cluster bootstrap of one run."""

from __future__ import annotations

import numpy as np
import pytest

from results.comparison_section import single_blocks
from results.markdown import render_markdown
from results.paired import Outcomes
from results.single import SINGLE_COLUMNS, cluster_bootstrap, single_run_intervals
from tests.results.plant import Planted


def test_agrees_with_student_t_over_many_clusters() -> None:
    generator = np.random.default_rng(0)
    of_cluster = generator.normal(0.5, 0.1, 400)
    values = np.clip(np.repeat(of_cluster, 3) + generator.normal(0, 0.05, 1200), 0, 1)
    study = Planted()
    study.add("a", values, shots=0, clusters=[f"c{i // 3}" for i in range(1200)])
    row = single_run_intervals(study.frame, study.read).iloc[0]
    error = values.reshape(400, 3).mean(axis=1).std(ddof=1) / np.sqrt(400)
    assert row["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert row["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert (row["clusters"], row["metric"]) == (400, "accuracy")


def test_coverage_of_a_harmonic_mean() -> None:
    """Two parts of 150 and 90 queries in clusters of up to 3: 100 intervals, 3 standard errors."""
    generator = np.random.default_rng(1)
    parts = ["base"] * 150 + ["new"] * 90
    clusters = [f"{part}{i // 3}" for i, part in enumerate(parts)]
    truth = np.array([0.6] * 150 + [0.3] * 90)
    covered = 0
    for _ in range(100):
        shift = np.repeat(generator.normal(0, 0.1, 80), 3)
        study = Planted()
        key = study.add("a", generator.random(240) < truth + shift, parts=parts, clusters=clusters)
        run = Outcomes(study.read).run(key, "accuracy")
        assert run is not None
        low, high = cluster_bootstrap(run, "harmonic mean")
        covered += low <= 0.4 <= high
    assert covered / 100 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 100)


def test_the_same_records_give_the_same_interval() -> None:
    study = Planted()
    study.add("a", np.random.default_rng(0).random(50), shots=0)
    back = Planted()
    back.records = study.records
    back.tables = {key: table.iloc[::-1] for key, table in study.tables.items()}
    there = single_run_intervals(study.frame, study.read)
    assert there.equals(single_run_intervals(back.frame, back.read))


def test_what_has_no_interval() -> None:
    """A method that trains, no outcomes, one cluster, a headline that is no mean."""
    study = Planted()
    study.add("trained", [1.0, 0.0])
    study.add("none", [1.0, 0.0], shots=0, outcomes=False)
    study.add("one", [1.0, 0.0], shots=0, clusters=["c", "c"])
    study.add("other", [1.0, 0.0], shots=0, headline=0.7)
    table = single_run_intervals(study.frame, study.read)
    assert table.empty
    assert tuple(table.columns) == SINGLE_COLUMNS


def test_the_paragraph_of_a_table() -> None:
    study = Planted()
    study.add("free", [1.0] * 4, shots=0)
    study.add("other", [0.0, 1.0] * 200, shots=0)
    table = single_run_intervals(study.frame, study.read)
    [paragraph] = single_blocks(table)
    low, high = (f"{100 * table[name].iloc[1]:.1f}" for name in ("low", "high"))
    assert render_markdown([paragraph]).strip() == (
        "Methods that train nothing, 95 % interval over queries (cluster bootstrap): "
        f"free 100.0 (100.0 to 100.0), other 50.0 ({low} to {high})."
    )
    assert single_blocks(table.iloc[:0]) == []
