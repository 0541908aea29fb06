"""The leaderboard's numbers, and what it refuses to average."""

from __future__ import annotations

import csv
import io
from typing import Any

import pandas as pd
import pytest

from results.collapse import flags
from results.frames import from_records
from results.standings import STANDINGS_COLUMNS
from results.table_files import leaderboard_csv
from results.tables import Standing, grids, leaderboard, titles
from results.wording import cell_text


def planned(record: dict[str, Any]) -> dict[str, Any]:
    return {"key": record["key"], **record["cell"]}


def test_means_over_seeds(study: list[dict[str, Any]]) -> None:
    board = leaderboard(from_records(study))
    row = board[
        (board["dataset"] == "roles")
        & (board["method"] == "coop")
        & (board["shots"] == 4)
        & board["headline"]
    ].iloc[0]
    assert row["seeds"] == (1, 2, 3)
    assert row["mean"] == pytest.approx(sum(row["values"]) / 3)
    assert row["n"] == row["n_expected"] == 3
    assert row["chance"] == 0.0056


def test_protocols_and_backbones_never_share_a_table(make_record: Any) -> None:
    records = [
        make_record(),
        make_record(backbone="large"),
        make_record(seed=2) | {"key": "k"},
    ]
    records[2]["cell"]["protocol"] = "classification/2"
    tables = grids(leaderboard(from_records(records)))
    assert [(g.protocol, g.backbone) for g in tables] == [
        ("classification/1", "large"),
        ("classification/1", "tiny"),
        ("classification/2", "tiny"),
    ]


def test_standing(study: list[dict[str, Any]]) -> None:
    grid = grids(leaderboard(from_records(study)))[1]
    assert grid.dataset == "roles"
    assert grid.shots == [0, 1, 2, 4, 8]
    assert [row.label for row in grid.rows][:2] == ["class-mean", "zero-shot"]
    trained = [row.by_shots[8]["mean"] for row in grid.rows[2:]]
    assert trained == sorted(trained, reverse=True)
    assert grid.columns == [1, 2, 4, 8]
    free, trained_row = grid.rows[0], grid.rows[2]
    assert [free.at(shots) for shots in grid.columns] == [free.by_shots[0]] * 4
    assert trained_row.at(8) == trained_row.by_shots[8]
    assert trained_row.at(64) is None


def test_variants_have_rows_of_their_own(make_record: Any) -> None:
    records = [make_record(), make_record(variant="coop-ctx8")]
    (grid,) = grids(leaderboard(from_records(records)))
    assert sorted(row.label for row in grid.rows) == ["coop", "coop-ctx8"]


def test_two_configurations_at_one_position_are_refused(make_record: Any) -> None:
    records = [make_record(), make_record() | {"key": "older"}]
    frame = from_records(records)
    with pytest.raises(ValueError, match=r"older.* are all coop on roles, 1 shots, seed 1"):
        leaderboard(frame)
    board = leaderboard(frame, expected=[planned(records[0])])
    assert set(board["n"]) == {1}


def test_headline_must_agree(make_record: Any) -> None:
    records = [make_record(), make_record("cocoop", headline="recall@5")]
    with pytest.raises(ValueError, match=r"disagree on the headline metric \(accuracy, recall@5"):
        grids(leaderboard(from_records(records)))


def test_absent_cells_are_counted_and_named(make_record: Any) -> None:
    records = [make_record(seed=seed, shots=shots) for shots in (1, 2) for seed in (1, 2)]
    expected = [planned(record) for record in records]
    failures = {records[3]["key"]: {"reason": "killed"}}
    board = leaderboard(from_records(records[:1]), expected, failures)
    heads = board[board["headline"]]
    assert list(heads["n"]) == [1, 0]
    assert list(heads["n_expected"]) == [2, 2]
    (grid,) = grids(board)
    by_shots = grid.rows[0].by_shots
    assert cell_text(by_shots[1]) == "50.0 (1 of 2)"
    assert cell_text(by_shots[2]) == "failed"
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(board))))
    assert [row["absent"] for row in rows if row["headline"] == "True"] == [
        "seed 2 missing",
        "seed 1 missing; seed 2 failed: killed",
    ]


def test_metric_left_out_of_one_record(make_record: Any) -> None:
    records = [make_record(seed=seed) for seed in (1, 2)]
    del records[1]["metrics"]["recall@5"]
    board = leaderboard(from_records(records))
    counts = dict(
        zip(board["metric"], zip(board["n"], board["n_expected"], strict=True), strict=True)
    )
    assert counts == {"accuracy": (2, 2), "recall@5": (1, 2)}


def test_cell_text(make_record: Any) -> None:
    records = [make_record(seed=seed, accuracy=0.44 + 0.01 * seed) for seed in (1, 2, 3)]
    (grid,) = grids(leaderboard(from_records(records)))
    assert cell_text(grid.rows[0].by_shots[1]) == "46.0 ± 2.5 (3)"


def test_the_untrained_column(make_record: Any) -> None:
    free = make_record("zero-shot", shots=0, seed=0)
    (grid,) = grids(leaderboard(from_records([free])))
    assert grid.columns == [0]
    elsewhere = make_record(shots=0, seed=1)
    elsewhere["cell"] |= {"trains": True, "trained_on": "other/classification"}
    (grid,) = grids(leaderboard(from_records([free, elsewhere, make_record(shots=4)])))
    assert grid.columns == [0, 4]


def test_flagged_runs_are_marked_and_kept(make_record: Any) -> None:
    scores = {1: 0.12, 2: 0.60, 3: 0.64}
    frame = from_records(make_record(seed=seed, accuracy=score) for seed, score in scores.items())
    found = flags(frame, {})
    assert list(found["seed"]) == [1]
    (grid,) = grids(leaderboard(frame), flags=found)
    entry = grid.rows[0].by_shots[1]
    assert entry["n"] == 3
    assert cell_text(entry).endswith("(3) †")
    (plain,) = grids(leaderboard(frame))
    assert cell_text(plain.rows[0].by_shots[1]).endswith("(3)")


def test_standings_reach_their_own_table_and_column(make_record: Any) -> None:
    records = [make_record(shots=2), make_record(backbone="large", shots=2)]
    records.append(make_record("zero-shot", shots=0, seed=0))
    board = leaderboard(from_records(records))
    row = {name: board.iloc[-1][name] for name in board.columns if name in STANDINGS_COLUMNS}
    row |= {"label": "zero-shot", "best": False, "tied": True, "rank_low": 1, "rank_high": 2}
    standings = pd.DataFrame([row | {"backbone": "tiny", "shots": 2}])
    large, tiny = grids(board, standings)
    assert [each.standings for each in large.rows] == [{}]
    assert [each.standings for each in tiny.rows] == [{2: Standing(True, 1, 2)}, {}]
    assert Standing(True, 1, 2).ranks == "1-2"
    assert Standing(True, 2, 2).ranks == "2"


def test_ablations_are_in_no_table(make_record: Any) -> None:
    ablation = make_record(variant="coop[n_ctx=4]", seed=2)
    ablation["cell"]["ablation_of"] = "coop"
    board = leaderboard(from_records([make_record(), ablation]))
    (grid,) = grids(board)
    assert [row.label for row in grid.rows] == ["coop"]
    assert set(grid.board["ablation_of"]) == {""}
    assert "n_ctx" not in leaderboard_csv(board)


def test_titles_say_what_tells_tables_apart(make_record: Any) -> None:
    first = {"data_version": "aaa", "backbone_version": "b"}
    second = first | {"data_version": "ccc"}
    records = []
    for number, more in enumerate([first, second, second | {"selection": "oracle"}]):
        record = make_record() | {"key": f"k{number}"}
        record["cell"] |= more
        records.append(record)
    other = make_record(dataset="gestures")
    tables = grids(leaderboard(from_records([*records, other])))
    assert titles(tables) == [
        "gestures/classification · tiny",
        "roles/classification · tiny · data aaa",
        "roles/classification · tiny · data ccc",
        "roles/classification · tiny · data ccc · options chosen on the scored split",
    ]
    assert [grid.oracle for grid in tables] == [False, False, False, True]
    assert len({grid.table for grid in tables}) == 4


def test_csv_holds_every_value(study: list[dict[str, Any]]) -> None:
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(leaderboard(from_records(study))))))
    listed = sorted(
        float(value)
        for row in rows
        if row["metric"] == "accuracy"
        for value in row["values"].split(";")
    )
    assert listed == sorted(record["metrics"]["accuracy"] for record in study)


def test_empty_frame() -> None:
    board = leaderboard(from_records([]))
    assert board.empty
    assert grids(board) == []
    assert leaderboard_csv(board).startswith("dataset,task,protocol,backbone,data_version")
