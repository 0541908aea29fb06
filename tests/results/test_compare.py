"""Comparisons find what is planted, tie what is equal, and depend on no order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.compare import (
    COMPARISON_COLUMNS,
    comparisons,
    detectable_line,
    finished,
    holm,
    other_metrics,
)
from results.paired import Outcomes, ReadQueries
from results.pairs import Column, Side, compared
from results.standings import standings
from results.store import RecordStore
from results.tables import leaderboard
from tests.results.plant import Planted

SEEDS = (1, 2, 3)


def contrast(first: pd.DataFrame, second: pd.DataFrame, read: ReadQueries) -> Any:
    """`finished` of two methods alone, from their records' rows; None: not to be compared."""
    sides = [Side.of(rows, other_metrics(rows)) for rows in (first, second)]
    pair = compared(sides[0], sides[1], Outcomes(read).run, Column(sides))
    [found] = finished([pair]).itertuples(index=False)
    return None if math.isnan(found.difference) else found


def outcomes(generator: np.random.Generator, share: Any, seeds: int = 3) -> np.ndarray[Any, Any]:
    """(seeds, Q) 0/1 outcomes, independent."""
    return (generator.random((seeds, len(share))) < share).astype(float)


def planted(gains: dict[str, float], queries: int = 4000, seed: int = 3) -> Planted:
    """Methods on the same queries of different difficulty; 3 seeds each."""
    generator = np.random.default_rng(seed)
    easy = generator.beta(1.0, 1.0, queries)
    found = Planted()
    for method, gain in gains.items():
        level = np.clip(easy + gain, 0.0, 1.0)
        for number, row in zip(SEEDS, outcomes(generator, level), strict=True):
            found.add(method, row, seed=number)
    return found


def test_a_planted_difference_is_found_and_equal_methods_are_tied() -> None:
    """3 points on 4,000 paired queries among five equal methods, after Holm over 15 pairs."""
    gains = {"better": 0.03} | {f"equal-{i}": 0.0 for i in range(5)}
    study = planted(gains)
    found = comparisons(study.frame, study.read)
    assert len(found) == 15
    own = found[found["first"] == "better"]
    assert (own["p_holm"] < 0.05).all()
    assert (own["difference"] > 0).all()
    others = found[found["first"] != "better"]
    assert (others["p_holm"] > 0.05).all()
    table = standings(leaderboard(study.frame), found).set_index("label")
    assert table.index[table["tied"]].tolist() == ["better"]
    assert table.loc["better", ["rank_low", "rank_high"]].tolist() == [1, 1]
    assert table.loc["equal-0", ["rank_low", "rank_high"]].tolist() == [2, 6]
    assert set(study.reads.values()) == {1}, "every file is read once"


def test_two_methods_that_differ_by_seed_noise_are_tied() -> None:
    """The same method under two names, its seeds 1 point apart: higher, not better."""
    generator = np.random.default_rng(5)
    easy = generator.beta(1.0, 1.0, 4000)
    study = Planted()
    for method in ("one", "two"):
        for number in SEEDS:
            level = np.clip(easy + generator.normal(0.0, 0.01), 0.0, 1.0)
            study.add(method, outcomes(generator, level, 1)[0], seed=number)
    found = comparisons(study.frame, study.read)
    assert found["p_holm"].item() > 0.05
    assert standings(leaderboard(study.frame), found)["tied"].all()


def test_two_methods_alone_are_told_apart(tmp_path: Any) -> None:
    """As from a store of records."""
    study = planted({"better": 0.03, "worse": 0.0})
    store = RecordStore(tmp_path)
    for record in study.records:
        store.write(record, ranks=study.tables[record["key"]])
    found = comparisons(study.frame, store.read_ranks).iloc[0]
    assert found["p_holm"] < 0.05
    assert found["low"] < 0.03 < found["high"]
    assert (found["measure"], found["replicates"], found["queries"]) == ("accuracy", 3, 4000)
    assert found["note"] == ""


def test_agrees_with_a_paired_t_test_on_queries() -> None:
    """One run of each training-free method, every query its own cluster."""
    from scipy import stats

    generator = np.random.default_rng(1)
    ours, theirs = generator.random((2, 50))
    study = Planted()
    study.add("a", ours, shots=0)
    study.add("b", theirs, shots=0)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.df == 49
    assert found.effect == pytest.approx(np.mean(ours - theirs) / np.std(ours - theirs, ddof=1))
    assert found.won == np.mean(ours > theirs)
    assert found.note == "", "nothing is trained, so that no noise of training is left out"


def test_agrees_with_the_mean_of_clusters_where_they_are_equal() -> None:
    from scipy import stats

    generator = np.random.default_rng(2)
    ours, theirs = generator.random((2, 60))
    clusters = [f"c{i // 3}" for i in range(60)]
    study = Planted()
    study.add("a", ours, shots=0, clusters=clusters)
    study.add("b", theirs, shots=0, clusters=clusters)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    means = (ours - theirs).reshape(20, 3).mean(axis=1)
    assert found.p == pytest.approx(stats.ttest_1samp(means, 0.0).pvalue)
    assert found.clusters == 20


def test_without_outcomes_the_seeds_are_compared() -> None:
    from scipy import stats

    study = Planted()
    scores = {"a": (0.50, 0.53, 0.51), "b": (0.47, 0.51, 0.50)}
    for method, values in scores.items():
        for number, value in zip(SEEDS, values, strict=True):
            study.add(method, [value], seed=number, outcomes=False)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(*scores.values()).pvalue)
    assert (found.clusters, found.queries) == (0, 0)
    assert "no per-query outcomes" in found.note
    assert math.isnan(found.won)


def test_what_cannot_be_compared_says_why() -> None:
    study = Planted()
    study.add("a", [0.5], outcomes=False)
    study.add("b", [0.5], outcomes=False)
    study.add("c", [1.0, 0.0])
    study.add("d", [1.0, 0.0, 1.0])
    table = comparisons(study.frame, study.read).set_index(["first", "second"])
    assert table.loc[("a", "b"), "note"] == "not compared: one run each, and no per-query outcomes"
    assert table.loc[("c", "d"), "note"] == "not compared: the records do not ask the same queries"
    assert table["p_holm"].isna().all()
    assert contrast(study.of("c"), study.of("d"), study.read) is None


def test_partial_outcomes_and_seeds_are_named() -> None:
    study = Planted()
    generator = np.random.default_rng(0)
    for number in SEEDS:
        study.add("a", generator.random(30), seed=number)
    for number in (2, 3, 4, 5):
        study.add("b", generator.random(30), seed=number, outcomes=number != 3)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    assert found.replicates == 1
    assert "3 runs without a counterpart" in found.note
    assert "1 of 2 replicates have per-query outcomes" in found.note
    assert "noise of training" in found.note


def test_a_training_free_run_stands_against_every_seed_in_every_column() -> None:
    study = Planted()
    generator = np.random.default_rng(0)
    study.add("free", generator.random(200), shots=0)
    for shots in (1, 4):
        for number in SEEDS:
            study.add("trained", generator.random(200), seed=number, shots=shots)
    found = comparisons(study.frame, study.read)
    assert found["shots"].tolist() == [1, 4]
    assert (found["replicates"] == 3).all()
    assert set(study.reads.values()) == {1}


def test_one_seed_against_three_and_draws_without_training() -> None:
    """The column's noise is of methods with the same runs; others stand for themselves."""
    study = Planted()
    generator = np.random.default_rng(0)
    for number in SEEDS:
        study.add("three", generator.random(60), seed=number)
    study.add("one", generator.random(60), seed=2)
    for draw in (0, 1):
        study.add("free", generator.random(60), shots=0, draw=draw)
        study.add("free too", generator.random(60), shots=0, draw=draw)
    table = comparisons(study.frame, study.read)
    table = table[table["shots"] == 4].set_index(["first", "second"])
    assert table["p"].notna().all()
    assert table.loc[("one", "three"), "replicates"] == 1
    assert "noise of training" in table.loc[("one", "three"), "note"]
    assert table.loc[("free", "free too"), "replicates"] == 2
    assert "paired in their order; 1 left over" in table.loc[("free", "three"), "note"]


def test_the_measure_is_the_metric_that_the_values_average_to() -> None:
    """Unequal parts: their plain mean; H: the harmonic mean of two parts; else what it is."""
    values = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    parts = ["base"] * 4 + ["new"] * 2
    made = {
        "mean": {"accuracy": 0.625},
        "pooled": {"accuracy": 0.5},
        "harmonic": {"accuracy": 0.4},
    }
    for metrics in made.values():
        study = Planted()
        for method in ("a", "b"):
            for number in (1, 2):
                study.add(method, values, seed=number, parts=parts, metrics=metrics)
        found = contrast(study.of("a"), study.of("b"), study.read)
        assert found is not None
        assert (found.measure, found.difference, found.note) == ("accuracy", 0.0, "")
    study = Planted()
    for method in ("a", "b"):
        study.add(method, values, metrics={"accuracy": 0.9, "R@1": 0.5})
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None, "headline rows alone name no other metric"
    assert found.measure == "per-query value"
    row = comparisons(study.frame, study.read).iloc[0]
    assert row["measure"] == "R@1"
    assert "accuracy is no mean of the per-query values: R@1 is compared" in row["note"]


def test_the_difference_is_that_of_the_headlines_under_a_harmonic_mean() -> None:
    generator = np.random.default_rng(4)
    parts = ["base"] * 300 + ["new"] * 200
    study = Planted()
    for method, gain in (("a", 0.1), ("b", 0.0)):
        for number in SEEDS:
            row = outcomes(generator, np.full(500, 0.5 + gain), 1)[0]
            base, new = row[:300].mean(), row[300:].mean()
            harmonic = 2 * base * new / (base + new)
            study.add(method, row, seed=number, parts=parts, headline=harmonic)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    expected = study.of("a")["value"].mean() - study.of("b")["value"].mean()
    assert found.difference == pytest.approx(expected, abs=1e-12)
    assert found.low < 0.1 < found.high


@settings(max_examples=25)
@given(data=st.data())
def test_antisymmetric_and_blind_to_order(data: st.DataObject) -> None:
    """Swapping the methods flips the signs; the order of queries, seeds, records changes no bit."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    queries = data.draw(st.integers(2, 12))
    seeds = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True))
    clusters = [f"c{i}" for i in generator.integers(0, 4, queries)]
    parts = [f"p{i}" for i in generator.integers(0, 2, queries)]
    study = Planted()
    for method in ("a", "b"):
        for number in seeds:
            values = generator.integers(0, 3, queries) / 2
            study.add(method, values, seed=number, clusters=clusters, parts=parts)
    there = contrast(study.of("a"), study.of("b"), study.read)
    back = contrast(study.of("b"), study.of("a"), study.read)
    shuffled = Planted()
    shuffled.records = [study.records[i] for i in generator.permutation(len(study.records))]
    shuffled.tables = {
        key: table.iloc[generator.permutation(queries)].reset_index(drop=True)
        for key, table in study.tables.items()
    }
    again = comparisons(shuffled.frame, shuffled.read).iloc[0]
    if there is None:
        assert back is None
        assert math.isnan(again["difference"])
        return
    assert back is not None
    signs = {"difference": "difference", "low": "high", "high": "low", "effect": "effect"}
    for name, other in signs.items():
        assert getattr(there, name) == pytest.approx(-getattr(back, other), nan_ok=True)
    for name in ("p", "df", "standard_error", "detectable"):
        assert getattr(there, name) == pytest.approx(getattr(back, name), nan_ok=True)
    assert (there.won, there.lost) == (back.lost, back.won)
    for name in ("difference", "low", "high", "p", "effect", "won", "detectable"):
        assert getattr(there, name) == pytest.approx(again[name], rel=0, abs=0, nan_ok=True)


@settings(max_examples=15)
@given(scale=st.floats(0.1, 1.0), seed=st.integers(0, 10_000))
def test_scales_with_the_values(scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.random((4, 10))
    found = []
    for factor in (1.0, scale):
        study = Planted()
        for i, row in enumerate(rows):
            study.add("ab"[i % 2], factor * row, seed=1 + i // 2)
        found.append(contrast(study.of("a"), study.of("b"), study.read))
    one, other = found
    assert one is not None
    assert other is not None
    for name in ("difference", "low", "high", "standard_error", "detectable"):
        assert getattr(other, name) == pytest.approx(scale * getattr(one, name), abs=1e-9)
    for name in ("p", "df", "effect"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_outcomes_are_no_difference(seeds: int) -> None:
    study = Planted()
    for method in ("a", "b"):
        for number in range(1, seeds + 1):
            study.add(method, [1.0, 0.0, 1.0], seed=number)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    assert (found.difference, found.low, found.high, found.p, found.effect) == (0, 0, 0, 1, 0)
    assert math.isnan(found.detectable)


def test_a_difference_without_spread() -> None:
    """Every query of every seed is won: there is nothing to doubt, and nothing to divide by."""
    study = Planted()
    for number in SEEDS:
        study.add("a", [1.0, 1.0, 1.0], seed=number)
        study.add("b", [0.0, 0.0, 0.0], seed=number)
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    assert (found.difference, found.low, found.high, found.p) == (1, 1, 1, 0)
    assert math.isnan(found.effect)


def test_one_cluster_says_nothing_about_queries() -> None:
    study = Planted()
    for number, value in zip(SEEDS, (0.5, 0.6, 0.65), strict=True):
        study.add("a", [value, value], seed=number, clusters=["c", "c"])
        study.add("b", [0.5, 0.5], seed=number, clusters=["c", "c"])
    found = contrast(study.of("a"), study.of("b"), study.read)
    assert found is not None
    assert found.df == 2
    assert "one cluster" in found.note


def test_refused_records() -> None:
    study = Planted()
    study.add("a", [1.0, 0.0])
    study.add("b", [1.0, math.nan], headline=0.5)
    with pytest.raises(ValueError, match=r"b-roles-4.*not finite"):
        comparisons(study.frame, study.read)
    twice = pd.concat([study.of("a"), study.of("a").assign(key="again")])
    with pytest.raises(ValueError, match="same draw and seed"):
        contrast(twice, study.of("b"), study.read)


def test_values_from_ranks_where_a_file_has_no_other_column() -> None:
    study = Planted()
    for method, ranks in (("a", [1, 2, 5, 6]), ("b", [1, 1, 6, 0])):
        metrics = {"Recall@5": np.mean([1 <= rank <= 5 for rank in ranks])}
        key = study.add(method, [0.0] * 4, metrics=metrics, headline=0.0)
        study.records[-1]["headline"] = "Recall@5"
        study.tables[key] = pd.DataFrame({"query_id": [*"wxyz"], "rank": ranks})
    row = comparisons(study.frame, study.read).iloc[0]
    assert (row["measure"], row["difference"], row["clusters"]) == ("Recall@5", 0.25, 4)


def test_ablations_and_empty_frames() -> None:
    study = Planted()
    study.add("a", [1.0, 0.0])
    study.add("b", [1.0, 0.0])
    study.records[1]["cell"]["ablation_of"] = "a"
    found = comparisons(study.frame, study.read)
    assert found.empty
    assert tuple(found.columns) == COMPARISON_COLUMNS
    assert detectable_line(found) == ""
    assert comparisons(Planted().frame, study.read).empty


def test_holm_against_statsmodels() -> None:
    """`multipletests(p, method="holm")` of statsmodels 0.14 on the same values."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, 0.0001, 0.9, 0.02, 0.02]) == pytest.approx([0.4, 0.0005, 0.9, 0.08, 0.08])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_counts_no_missing_test() -> None:
    found = holm([0.02, math.nan, 0.03])
    assert found[0] == pytest.approx(0.04)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)


@given(st.lists(st.floats(0.0, 1.0), max_size=12))
def test_holm_keeps_the_order_and_never_helps(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1.0 for p, a in zip(p_values, adjusted, strict=True))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [a for _, a in pairs] == sorted(a for _, a in pairs)


def test_what_a_column_cannot_see() -> None:
    study = planted({"a": 0.0, "b": 0.0}, queries=4181)
    found = comparisons(study.frame, study.read)
    points = 100 * found["detectable"].item()
    assert detectable_line(found) == (
        f"with 3 seeds and 4,181 queries a difference under {points:.1f} points cannot be seen "
        "(80 % power in one comparison)"
    )
    assert 1.0 < points < 4.0
