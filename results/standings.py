"""Who is best, who is tied with the best, and between which ranks each method lies."""

from __future__ import annotations

from typing import Any

import pandas as pd

from results.frames import TABLE, label_of

STANDINGS_COLUMNS = (*TABLE, "shots", "label", "best", "tied", "rank_low", "rank_high")
ALPHA = 0.05


def standings(board: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """`STANDINGS_COLUMNS`: a row for each method of each column, as `comparisons` has columns.

    best: the highest mean of the headline. tied: not significantly below a best one, so that the
    best are tied as well. rank_low..rank_high: 1 + the methods significantly better, to the
    number of methods less those significantly worse (Holm's p < 0.05). What could not be
    compared is not significant.
    """
    measured = board[board["headline"] & (board["n"] > 0) & (board["ablation_of"] == "")]
    known = {
        place: list(zip(pairs["first"], pairs["second"], pairs["difference"], strict=True))
        for place, pairs in comparisons[comparisons["p_holm"] < ALPHA].groupby([*TABLE, "shots"])
    }
    rows: list[dict[str, Any]] = []
    for table, methods in measured.groupby(list(TABLE), sort=True):
        free = methods[~methods["trains"]]
        counts = set(methods.loc[methods["trains"], "shots"]) | ({0} if len(free) else set())
        for shots in sorted(int(count) for count in counts):
            trained = methods[methods["trains"] & (methods["shots"] == shots)]
            column = [
                (label_of(row), float(row["mean"]))
                for row in pd.concat([free, trained]).to_dict("records")
            ]
            place = {**dict(zip(TABLE, table, strict=True)), "shots": shots}
            found = known.get((*table, shots), [])
            rows += [{**place, **row} for row in _column(column, found)]
    return pd.DataFrame(rows, columns=list(STANDINGS_COLUMNS))


def _column(
    means: list[tuple[str, float]], significant: list[tuple[str, str, float]]
) -> list[dict[str, Any]]:
    """One column's rows, sorted by label; `significant` are (first, second, difference)."""
    losses = [(one, two) if d < 0 else (two, one) for one, two, d in significant]
    top = max(mean for _, mean in means)
    best = {label for label, mean in means if mean == top}
    below = {label for label, winner in losses if winner in best}
    return [
        {
            "label": label,
            "best": label in best,
            "tied": label in best or label not in below,
            "rank_low": 1 + sum(loser == label for loser, _ in losses),
            "rank_high": len(means) - sum(winner == label for _, winner in losses),
        }
        for label, _ in sorted(means)
    ]
