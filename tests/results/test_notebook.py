"""`promptgrid.load`: every example of its docstrings, its errors, and what notebooks show."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import promptgrid
import pytest

from results import notebook
from results.store import RecordStore
from tests.results.conftest import synthetic_study

QUERIES = 200


def ranks(accuracy: float, key: str) -> pd.DataFrame:
    """Outcomes of which `accuracy` are right, rounded to whole queries; drawn by the key."""
    right = np.arange(QUERIES) < round(accuracy * QUERIES)
    np.random.default_rng([*key.encode()]).shuffle(right)
    names = [f"q{number}" for number in range(QUERIES)]
    columns = {"query_id": names, "part": "test", "group": names, "cluster": names}
    return pd.DataFrame({**columns, "rank": np.where(right, 1, 9), "value": right.astype(float)})


def write(folder: Path, records: list[dict[str, Any]]) -> RecordStore:
    store = RecordStore(folder)
    for record in records:
        outcomes = ranks(record["metrics"]["accuracy"], record["key"])
        record["metrics"]["accuracy"] = float(outcomes["value"].mean())
        store.write(record, outcomes)
    return store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> promptgrid.Results:
    folder = tmp_path_factory.mktemp("notebook") / "runs" / "demo"
    write(folder, synthetic_study())
    return promptgrid.load(folder)


def test_every_example_runs(
    run: promptgrid.Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Examples load the folder anew; here they share what was computed once.
    shared = {"runs/demo": run}
    tests = [one for one in doctest.DocTestFinder().find(notebook) if one.examples]
    public = [name for name in vars(notebook.Results) if not name.startswith("_")]
    shown = {one.name.split(".")[-1] for one in tests}
    assert shown == {"load", *public} - {"answers"}
    for test in tests:
        test.globs["load"] = shared.__getitem__
        found = doctest.DocTestRunner().run(test)
        assert (found.failed, found.attempted > 0) == (0, True), test.name


def test_one_comparison_is_that_of_the_table(run: promptgrid.Results) -> None:
    found = run.compare("coop", "zero-shot", dataset="gestures/classification", shots=8)
    pairs = run.comparisons.query("dataset == 'gestures' and shots == 8")
    [row] = pairs.query("first == 'coop' and second == 'zero-shot'").to_dict("records")
    assert found.to_dict() == row and found.queries == QUERIES
    turned = run.compare("zero-shot", "coop", dataset="gestures", shots=8)
    assert (turned["first"], turned["second"]) == ("zero-shot", "coop")
    assert (turned.difference, turned.low, turned.high) == (
        -row["difference"],
        -row["high"],
        -row["low"],
    )
    assert (turned.won, turned.lost, turned.p) == (row["lost"], row["won"], row["p"])


def test_the_leaderboard_has_each_method_in_each_column(run: promptgrid.Results) -> None:
    board = run.leaderboard("roles")
    assert sorted(set(board["shots"])) == [1, 2, 4, 8]
    assert set(board.groupby("shots").size()) == {5}
    free = board[board["label"] == "zero-shot"]
    assert free["mean"].nunique() == 1
    best = board.loc[board.groupby("shots")["mean"].idxmax()]
    assert best["tied"].all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("coopp", "zero-shot", "roles", 4), "unknown method 'coopp'. Did you mean coop?"),
        (("coop", "zero-shot", "role", 4), "unknown dataset 'role'. Did you mean roles?"),
        (("coop", "zero-shot", "roles", 3), "unknown shot count 3. Known: 1, 2, 4, 8"),
        (
            ("coop", "zero-shot", "roles", None),
            "coop and zero-shot share several columns, or none; give `shots`: 1, 2",
        ),
        (("coop", "zero-shot", None, 4), "several tables could be meant: gestures"),
    ],
)
def test_what_cannot_be_compared(
    run: promptgrid.Results, words: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        run.compare(*words)
    assert message in str(caught.value)


def test_errors_name_the_way_out(run: promptgrid.Results, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the folder of a run"):
        promptgrid.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="unknown kind of plot 'shot'"):
        run.plot("shot")
    with pytest.raises(ValueError, match="2 plots 'shots' of any dataset: gestures/classif"):
        run.plot("shots")
    with pytest.raises(KeyError, match="0 records have a key"):
        run.queries("nothing")


def test_the_study_of_the_folder_counts(study: list[dict[str, Any]], tmp_path: Path) -> None:
    store = write(tmp_path, study[1:])
    cells = [{"key": record["key"], **record["cell"]} for record in study[:9]]
    (store.root / "plan.json").write_text(json.dumps(cells))
    run = promptgrid.load(tmp_path)
    assert set(run.absent["key"]) == {study[0]["key"]}
    assert run.records["key"].nunique() == 8
    assert repr(run).endswith("8 records, 1 missing")


def test_names_are_escaped(tmp_path: Path, make_record: Any) -> None:
    hostile = "<script>alert(1)</script>"
    write(tmp_path / "runs", [make_record(variant=hostile) | {"key": "a"}])
    shown = promptgrid.load(tmp_path / "runs")._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_a_plot_does_not_depend_on_the_settings(run: promptgrid.Results) -> None:
    import matplotlib

    from results.figures import rendered

    plain = rendered(run.plot("shots", "roles"), "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert rendered(run.plot("shots", "roles"), "svg") == plain
