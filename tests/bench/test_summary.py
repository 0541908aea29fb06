"""From rankings to a protocol's numbers: prefixes, means over sets and folds, slices, ranks."""

from __future__ import annotations

import numpy as np
import pytest

from bench.ranking import Rankings
from bench.summary import (
    RankedPart,
    harmonic,
    mean,
    over_folds,
    over_sets,
    rank_statistic,
    summary,
)
from data_recipes.core.model import Candidate, Query, RetrievalTask
from data_recipes.core.protocol import protocol


def part(name: str, ranks: list[int], tags: tuple[list[str], ...] = ()) -> RankedPart:
    queries = tuple(
        Query(
            id=f"q{i}",
            text="x",
            relevant=("a",),
            meta={"semantic_aspects": tags[i]} if tags else {},
        )
        for i in range(len(ranks))
    )
    found = np.array(ranks)[:, None]
    sizes = np.full(len(ranks), 100)
    rankings = Rankings(found, None, sizes, np.zeros(len(ranks), dtype=bool))
    return RankedPart(RetrievalTask(name, queries, (Candidate("a", text="x"),)), rankings)


def test_two_directions_have_prefixes_and_a_sum_of_percentages() -> None:
    found = summary(protocol("karpathy-5k/1"), [part("i2t", [1, 6]), part("t2i", [2, 2, 2, 11])])
    assert found == {
        "text_R@1": 0.5,
        "text_R@5": 0.5,
        "text_R@10": 1.0,
        "text_medr": 3.0,  # floor of the 0-based median 2.5, and one
        "text_meanr": 3.5,
        "image_R@1": 0.0,
        "image_R@5": 0.75,
        "image_R@10": 0.75,
        "image_medr": 2.0,
        "image_meanr": 4.25,
        "rsum": pytest.approx(350.0),
    }


def test_several_sets_are_named_and_averaged_without_weights() -> None:
    rules = protocol("fashioniq-original/1")
    sets = {
        "dress": summary(rules, [part("dress", [1, 20, 20, 20])]),
        "shirt": summary(rules, [part("shirt", [7])]),
    }
    found = over_sets(rules, sets)
    assert (found["dress/R@10"], found["shirt/R@10"]) == (0.25, 1.0)
    assert (found["mean R@10"], found["mean R@50"]) == (0.625, 1.0)
    assert found["Rmean"] == 0.8125
    assert over_sets(rules, {"dress": sets["dress"]}) == sets["dress"]
    assert "Rmean" not in sets["dress"]


def test_base_to_new_has_a_harmonic_mean() -> None:
    rules = protocol("base-to-new/1")
    base, new = summary(rules, [part("base", [1, 1, 1, 2])]), summary(rules, [part("new", [1, 2])])
    found = over_sets(rules, {"base": base, "new": new})
    assert (found["base/accuracy"], found["new/accuracy"]) == (0.75, 0.5)
    assert found["H"] == pytest.approx(0.6)
    assert found["mean accuracy"] == 0.625
    assert "H" not in over_sets(rules, {"base": base})
    assert "H" not in over_sets(rules, {"base": base, "old": new})


def test_the_harmonic_mean_with_a_zero_is_zero() -> None:
    assert harmonic(0.0, 0.8) == harmonic(0.0, 0.0) == 0.0
    assert harmonic(0.8, 0.2) == harmonic(0.2, 0.8) == pytest.approx(0.32)


def test_a_slice_without_queries_is_none_not_zero() -> None:
    tags = (["negation"], ["negation", "addition"])
    found = summary(protocol("circo/1"), [part("circo", [1, 2], tags)])
    assert found["semantic_mAP@10/negation"] == 0.75
    assert found["semantic_mAP@10/addition"] == 0.5
    assert found["semantic_mAP@10/viewpoint"] is None


def test_the_server_counts_two_more_queries() -> None:
    queries = part("cirr", [1, 1])
    subset = Rankings(
        queries.rankings.ranks, queries.rankings.ranks, queries.rankings.gallery, np.zeros(2, bool)
    )
    found = summary(protocol("cirr-server/1"), [RankedPart(queries.task, subset)])
    assert found["Recall@1"] == found["Avg(R@5,Rs@1)"] == 0.5


def test_means_over_folds_and_with_holes() -> None:
    assert over_folds([{"a": 1.0, "b": None}, {"a": 0.0, "b": 1.0}]) == {"a": 0.5, "b": None}
    assert mean([]) is None


def test_statistics_by_hand() -> None:
    assert rank_statistic("medr", np.array([1, 2, 4, 9])) == 3.0
    assert rank_statistic("meanr", np.array([1, 2])) == 1.5
    with pytest.raises(ValueError, match="unknown statistic 'mode'"):
        rank_statistic("mode", np.array([1]))
