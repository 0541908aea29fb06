"""Protocols: their names, their metrics, their headlines."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bench.metrics import per_query
from data_recipes.core.model import DataError
from data_recipes.core.protocol import PROTOCOLS, newest, protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_versioned_and_computable(name: str) -> None:
    rules = protocol(name)
    assert re.fullmatch(r"[a-z0-9-]+/[1-9]\d*", rules.name)
    assert rules.headline in rules.metrics
    assert len(set(rules.metrics)) == len(rules.metrics)
    ranks = np.array([[1]])
    for metric in rules.metrics:
        assert per_query(metric, ranks, ranks).tolist() == [1.0]


def test_published_definitions_do_not_change_silently() -> None:
    """A change here needs a new version of the protocol, not a new expectation."""
    r_1_5_10 = ("R@1", "R@5", "R@10")
    subset = ("Recall_subset@1", "Recall_subset@2", "Recall_subset@3")
    cirr = ("Recall@1", "Recall@5", "Recall@10", "Recall@50", *subset)
    soft = tuple(f"Recall@{k}" for k in (1, 2, 5, 10, 50, 100))
    genecis = ("R@1", "R@2", "R@3")
    circo = tuple(f"{name}@{k}" for name in ("mAP", "Recall") for k in (5, 10, 25, 50))
    composed = ("recall@1", "recall@5", "recall@10", "recall@50", "map@10")
    assert {name: (p.metrics, p.headline) for name, p in PROTOCOLS.items()} == {
        "classification/1": (("accuracy", "recall@5"), "accuracy"),
        "image-text/1": (("recall@1", "recall@5", "recall@10"), "recall@1"),
        "composed/1": (composed, "recall@1"),
        "composed-multi/1": (circo, "mAP@5"),
        "conditional/1": (genecis, "R@1"),
        "fashioniq-original/1": ((*r_1_5_10, "R@50"), "R@10"),
        "fashioniq-val/1": ((*r_1_5_10, "R@50"), "R@10"),
        "cirr/1": (cirr, "Recall@5"),
        "cirr-soft/1": ((*soft, *subset), "Recall@5"),
        "cirr-server/1": (cirr, "Recall@5"),
        "circo/1": (circo, "mAP@5"),
        "genecis/1": (genecis, "R@1"),
        "genecis-focus-attribute/1": (genecis, "R@1"),
        "genecis-change-attribute/1": (genecis, "R@1"),
        "genecis-focus-object/1": (genecis, "R@1"),
        "genecis-change-object/1": (genecis, "R@1"),
        "karpathy-5k/1": (r_1_5_10, "R@1"),
        "karpathy-1k/1": (r_1_5_10, "R@1"),
        "karpathy-5k-first5/1": (r_1_5_10, "R@1"),
        "karpathy-1k-first5/1": (r_1_5_10, "R@1"),
        "fdrd/1": (r_1_5_10, "R@1"),
        "fdrd-credit-identical/1": (r_1_5_10, "R@1"),
        "fdrd-hard/1": (r_1_5_10, "R@1"),
    }


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("circo", "circo/1"),
        ("circo/1", "circo/1"),
        ("genecis-focus_attribute", "genecis-focus-attribute/1"),
        ("karpathy-1k", "karpathy-1k/1"),
    ],
)
def test_the_newest_version_is_meant_where_none_is_said(short: str, full: str) -> None:
    assert newest(short).name == full


def test_a_wrong_version_is_refused() -> None:
    with pytest.raises(DataError, match=r"'circo/9'.*Did you mean: circo/1\?"):
        newest("circo/9")


def test_an_unknown_protocol_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'clasification/1'.*Did you mean: classification/1\?"):
        protocol("clasification/1")
    with pytest.raises(DataError, match=r"'zzz'.*Known: classification/1, image-text/1"):
        protocol("zzz")
