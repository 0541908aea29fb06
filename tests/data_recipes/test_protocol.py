"""Protocols: their names, their metrics, their headlines."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bench.metrics import per_query
from data_recipes.core.model import DataError
from data_recipes.core.protocol import PROTOCOLS, protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_versioned_and_computable(name: str) -> None:
    rules = protocol(name)
    assert re.fullmatch(r"[a-z-]+/[1-9]\d*", rules.name)
    assert rules.headline in rules.metrics
    assert len(set(rules.metrics)) == len(rules.metrics)
    ranks = np.array([[1]])
    for metric in rules.metrics:
        assert per_query(metric, ranks, ranks).tolist() == [1.0]


def test_published_definitions_do_not_change_silently() -> None:
    """A change here needs a new version of the protocol, not a new expectation."""
    assert {name: (p.metrics, p.headline) for name, p in PROTOCOLS.items()} == {
        "classification/1": (("accuracy", "recall@5"), "accuracy"),
        "image-text/1": (("recall@1", "recall@5", "recall@10"), "recall@1"),
        "composed/1": (("recall@1", "recall@5", "recall@10", "recall@50", "map@10"), "recall@1"),
    }


def test_an_unknown_protocol_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'clasification/1'.*Did you mean: classification/1\?"):
        protocol("clasification/1")
    with pytest.raises(DataError, match=r"'zzz'.*Known: classification/1, image-text/1"):
        protocol("zzz")
