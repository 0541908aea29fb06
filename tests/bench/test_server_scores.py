"""Numbers that come back from a test server."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.server_scores import implausible, read_scores
from data_recipes.core.model import DataError


def warned(
    value: str, name: str = "Recall@1", protocol: str = "cirr/1", split: str = "test1"
) -> bool:
    return bool(implausible(protocol, split, {name: Decimal(value)}))


@given(st.integers(0, 4148), st.integers(2, 16), st.booleans())
def test_all_that_the_server_can_print_is_plausible(hits: int, digits: int, percent: bool) -> None:
    value = Decimal(hits) / 4150 * (100 if percent else 1)
    if percent and value <= 1:  # would be read as a fraction
        return
    assert not warned(str(round(value, digits)))


@pytest.mark.parametrize("hits", [1000, 2000, 3000, 4000, 4148])
def test_a_share_of_4148_is_not(hits: int) -> None:
    assert warned(str(round(Decimal(100 * hits) / 4148, 6)))


@pytest.mark.parametrize(
    ("value", "name", "wrong"),
    [
        ("35.28", "Recall@1", False),
        ("35.26", "recall_subset@3", True),
        ("35.26", "R_s@1", True),
        ("37.97590361445783", "Recall@1", False),
        ("37.97590361445784", "Recall@1", False),
        ("37.98", "Recall@1", False),
        ("37.975", "Recall@1", True),
        ("0.3528", "Recall@1", False),
        ("0.35283", "Recall@1", True),
        ("99.952", "Recall@50", False),
        ("100", "Recall@50", False),
        ("100.00", "Recall@50", True),
        ("35.26", "Average", False),
        ("0", "Recall@1", False),
    ],
)
def test_examples(value: str, name: str, wrong: bool) -> None:
    assert warned(value, name) == wrong


def test_only_the_test_split_of_cirr_is_judged() -> None:
    assert warned("35.26")
    assert not warned("35.26", protocol="circo/1", split="test")
    assert not warned("35.26", split="val")
    (line,) = implausible("cirr/1", "test1", {"Recall@1": Decimal("35.26")})
    assert line.startswith("Recall@1=35.26 is no multiple of 1/4150, as all numbers of CIRR's")


def test_scores_are_read_as_printed() -> None:
    found = read_scores(["Recall@1=35.20", " mAP@5 = 12.5% "])
    assert found == {"Recall@1": Decimal("35.20"), "mAP@5": Decimal("12.5")}
    assert str(found["Recall@1"]) == "35.20"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["Recall@1"], "'Recall@1': expected NAME=VALUE, for instance Recall@1=35.28"),
        (["=3"], "'=3': expected NAME=VALUE"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=x"], "'a=x': 'x' is no number"),
        (["a=nan"], "expected a value from 0 to 100"),
        (["a=-1"], "expected a value from 0 to 100"),
        (["a=100.1"], "expected a value from 0 to 100"),
    ],
)
def test_wrong_scores_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_scores(texts)
