"""Ties with the best, and rank intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from results.compare import COMPARISON_COLUMNS, comparisons
from results.frames import TABLE, from_records
from results.standings import STANDINGS_COLUMNS, standings
from results.tables import leaderboard


@pytest.fixture
def board(make_record: Any) -> pd.DataFrame:
    scores = {"a": 0.6, "b": 0.59, "c": 0.5, "d": 0.3}
    records = [make_record(m, 4, 1, score) for m, score in scores.items()]
    return leaderboard(from_records(records))


def compared(board: pd.DataFrame, pairs: dict[tuple[str, str], tuple[float, float]]) -> Any:
    place = {**board.iloc[0][list(TABLE)].to_dict(), "shots": 4}
    rows = [
        {**place, "first": one, "second": two, "difference": difference, "p_holm": p}
        for (one, two), (difference, p) in pairs.items()
    ]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def test_tied_with_the_best_and_between_which_ranks(board: pd.DataFrame) -> None:
    """c is below a but not below b; d is below all; b and a cannot be told apart."""
    pairs = {
        ("a", "b"): (0.01, 0.8),
        ("a", "c"): (0.1, 0.01),
        ("b", "c"): (0.09, 0.06),
        ("d", "a"): (-0.3, 0.001),
        ("b", "d"): (0.29, 0.001),
        ("c", "d"): (0.2, 0.001),
    }
    table = standings(board, compared(board, pairs))
    assert tuple(table.columns) == STANDINGS_COLUMNS
    columns = ["label", "best", "tied", "rank_low", "rank_high"]
    assert table[columns].to_numpy().tolist() == [
        ["a", True, True, 1, 2],
        ["b", False, True, 1, 3],
        ["c", False, False, 2, 3],
        ["d", False, False, 4, 4],
    ]


def test_what_could_not_be_compared_is_tied(board: pd.DataFrame) -> None:
    table = standings(board, compared(board, {("a", "b"): (float("nan"), float("nan"))}))
    assert table["tied"].all()
    assert set(zip(table["rank_low"], table["rank_high"], strict=True)) == {(1, 4)}


def test_training_free_methods_stand_in_every_column(study: list[dict[str, Any]]) -> None:
    frame = from_records(study)
    table = standings(leaderboard(frame), comparisons(frame, lambda _: None))
    roles = table[table["dataset"] == "roles"]
    assert sorted(roles["shots"].unique()) == [0, 1, 2, 4, 8]
    assert roles[roles["shots"] == 0]["label"].tolist() == ["class-mean", "zero-shot"]
    assert len(roles[roles["shots"] == 4]) == 5
    assert table.groupby(["dataset", "shots"])["best"].any().all()
    assert (table["rank_low"] <= table["rank_high"]).all()


def test_ablations_and_absent_cells_have_no_rank(make_record: Any) -> None:
    records = [make_record("a"), make_record("b")]
    records[1]["cell"]["ablation_of"] = "a"
    frame = from_records(records)
    table = standings(leaderboard(frame), comparisons(frame, lambda _: None))
    assert table["label"].tolist() == ["a"]
