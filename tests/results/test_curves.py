"""Loss curves: which runs, and how many points."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from results.curves import MOST_POINTS, MOST_SEEDS, Curves, thinned
from results.figures import method_styles
from results.plot_losses import loss_figure


@given(st.integers(1, 400))
def test_thinning_keeps_both_ends(length: int) -> None:
    curve = [[step, 0.5 * step] for step in range(length)]
    thin = thinned(curve)
    assert len(thin) == min(length, MOST_POINTS)
    assert thin[0] == curve[0] and thin[-1] == curve[-1]
    assert all(a[0] < b[0] for a, b in pairwise(thin))
    assert all(point in curve for point in thin)


def test_runs_at_the_most_shots(study: list[dict[str, Any]], make_record: Any) -> None:
    study += [make_record("many", shots=2, seed=seed) for seed in range(20)]
    for record in study:
        if not record["cell"]["trains"]:
            record["loss_curve"] = []
    frames = []
    for order in (study, study[::-1]):
        curves = Curves()
        for record in order:
            curves.add(record)
        frames.append(curves.frame())
    assert frames[0].equals(frames[1])
    mine = frames[0][frames[0]["dataset"] == "roles"]
    coop = mine[mine["method"] == "coop"]
    assert sorted(set(coop["seed"])) == [1, 2, 3]
    assert set(coop["shots"]) == {8}
    assert sorted(set(mine.loc[mine["method"] == "many", "seed"])) == list(range(MOST_SEEDS))

    figure = loss_figure("t", mine, method_styles(mine["method"]))
    shown = {axes.get_title(): len(axes.lines) for axes in figure.axes if axes.get_visible()}
    assert shown == {"cocoop": 3, "coop": 3, "kgcoop": 3, "many": MOST_SEEDS}
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "2 shots, 5 runs" in texts
