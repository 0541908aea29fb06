"""Linearised scores of clusters, and the variance of crossed effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from results.paired import SHAPES, Outcomes, crossed, standardised


def table(values: list[float], parts: list[str], clusters: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "query_id": [f"q{i}" for i in range(len(values))],
            "part": parts,
            "cluster": clusters,
            "rank": 1,
            "value": values,
        }
    )


TABLE = table([1.0, 0.0, 0.5, 0.2, 0.8], [*"aaabb"], [*"xyxxz"])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("mean of parts", 0.5), ("mean of queries", 0.5), ("harmonic mean", 0.5)],
)
def test_cluster_scores_average_to_the_score(shape: str, expected: float) -> None:
    """The same reference in several parts is one cluster."""
    run = Outcomes(lambda _: TABLE).run("key", "accuracy")
    assert run is not None
    assert run.score(shape) == pytest.approx(expected)
    assert run.cluster_scores(shape).shape == (3,)
    assert run.cluster_scores(shape).mean() == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_cluster_scores_are_the_derivative(shape: str) -> None:
    """Leaving out a cluster moves the score by what its linearised score says, to first order."""
    generator = np.random.default_rng(0)
    size = 3000
    clusters = [f"c{i // 3:04d}" for i in range(size)]
    parts = ["b" if i % 5 else "a" for i in range(size)]
    whole = table(list(generator.random(size)), parts, clusters)
    run = Outcomes(lambda _: whole).run("key", "accuracy")
    assert run is not None
    scores, value = run.cluster_scores(shape), run.score(shape)
    lost = run.layout.names["cluster"].iloc[7]
    code = run.layout.cluster[7]
    less = Outcomes(lambda _: whole[whole["cluster"] != lost]).run("key", "accuracy")
    assert less is not None
    expected = (value - scores[code]) / (len(scores) - 1)
    assert less.score(shape) - value == pytest.approx(expected, rel=0.05)


def test_a_harmonic_mean_is_of_two_parts() -> None:
    one = Outcomes(lambda _: TABLE.assign(part="a")).run("key", "accuracy")
    assert one is not None
    assert np.isnan(one.score("harmonic mean"))


def test_crossed_against_components_by_hand() -> None:
    """Without interaction: replicates' variance / S + clusters' variance / C."""
    replicates = np.array([0.1, 0.2, 0.4])
    clusters = np.array([1.0, 2.0, 4.0, 3.0])
    found = crossed(replicates[:, None] + clusters)
    expected = replicates.var(ddof=1) / 3 + clusters.var(ddof=1) / 4
    assert found.mean == pytest.approx(replicates.mean() + clusters.mean())
    assert found.standard_error == pytest.approx(np.sqrt(expected))
    parts = replicates.var(ddof=1) / 3, clusters.var(ddof=1) / 4
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3))


def test_a_negative_component_is_none() -> None:
    """Replicates that agree better than their noise says give the clusters' variance alone."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(3, 50))
    scores -= scores.mean(axis=1, keepdims=True)
    found = crossed(scores)
    by_cluster = scores.mean(axis=0)
    assert found.standard_error >= by_cluster.std(ddof=1) / np.sqrt(50) - 1e-12


def test_more_is_known_of_the_seeds() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 20))
    own = float(scores.mean(axis=1).var(ddof=1))
    assert crossed(scores, (own, 2.0)) == crossed(scores)
    assert crossed(scores, (own + 1.0, 10.0)).standard_error > crossed(scores).standard_error


def test_effect() -> None:
    assert standardised([0.1, 0.3]) == pytest.approx(0.2 / np.std([0.1, 0.3], ddof=1))
    assert standardised([0.0, 0.0]) == 0.0
    assert np.isnan(standardised([0.5, 0.5]))
