"""Merging records: the order does not matter, conflicts are refused, changes are explained."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results.history import Line
from results.leaderboard import Leaderboard, Source, added, removed
from results.schema import RecordError
from results.store import RecordStore
from tests.results.boards import PROVENANCE, cell, outcomes, run_folder, some_cells

Cell = tuple[dict[str, Any], pd.DataFrame]


def source(root: Path, *cells: Cell, name: str = "", labels: Any = None) -> Source:
    return Source(name or root.name, run_folder(root, [*cells]), labels)


def lines(board: Leaderboard) -> list[Line]:
    return [Line.model_validate_json(line) for line in board.history.split("\n") if line]


def renamed(pair: Cell, key: str, **changes: Any) -> Cell:
    return {**pair[0], "key": key, **changes}, pair[1]


def test_the_order_of_folders_changes_nothing(tmp_path: Path) -> None:
    """Three clusters; two ran the same cells on other hardware, at other speed."""
    cells = some_cells()
    slower = {"timings": {"train": 99.0}, "memory": {}, "loss_curve": [[0, 3.51]]}
    slower |= {"provenance": PROVENANCE | {"python": "3.12.1"}}
    again = [(record | slower, ranks) for record, ranks in cells[:6]]
    again[0][0]["cell"] = again[0][0]["cell"] | {"study": "another"}
    sources = [
        source(tmp_path / "a", *cells[:8]),
        source(tmp_path / "b", *again),
        source(tmp_path / "c", *cells[5:]),
    ]
    boards = [added(Leaderboard(), order) for order in itertools.permutations(sources)]
    assert all(board == boards[0] for board in boards)
    texts = {key: entry.text for key, entry in boards[0].entries.items()}
    assert all({k: e.text for k, e in board.entries.items()} == texts for board in boards)
    assert len(texts) == len(cells) == len(lines(boards[0]))
    assert len(boards[0].queries) == 1


def test_what_is_there_stays(tmp_path: Path) -> None:
    first = cell()
    slower = (first[0] | {"timings": {"train": 99.0}}, first[1])
    for number, (here, new) in enumerate([(first, slower), (slower, first)]):
        board = added(Leaderboard(), [source(tmp_path / f"a{number}", here)])
        assert added(board, [source(tmp_path / f"b{number}", new)]) == board


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tie_rate": 0.25}, "tie_rate is 0.005 in a, and 0.25 in b"),
        ({"metrics": {"accuracy": 0.5, "recall@5": 0.9}}, "metrics.recall@5 is 0.7 in a, and 0.9"),
        ({"metrics": {"accuracy": 0.5}}, "metrics.recall@5 is 0.7 in a, and missing in b"),
        ({"identity": {"method": "coop", "lr": 0.1}}, "identity.lr is 0.002 in a, and 0.1 in b"),
        ({"notes": []}, 'notes is ["chance: 0.0056"] in a, and [] in b'),
    ],
)
def test_conflicts_name_both_sources_and_the_field(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    first = cell()
    other = (first[0] | change, first[1])
    a, b = source(tmp_path / "a", first), source(tmp_path / "b", other)
    for order in ([a, b], [b, a]):
        with pytest.raises(RecordError) as refused:
            added(Leaderboard(), order)
        assert said in str(refused.value) and "coop on roles" in str(refused.value)
    with pytest.raises(RecordError, match=r" in the leaderboard"):
        added(added(Leaderboard(), [a]), [b])


def test_other_outcomes_with_equal_metrics_are_a_conflict(tmp_path: Path) -> None:
    record, ranks = cell()
    a, b = (
        source(tmp_path / "a", (record, ranks)),
        source(tmp_path / "b", (record, outcomes(20, 9))),
    )
    with pytest.raises(RecordError, match=r"outcomes.at\[\d+\] is \"[01]\" in a"):
        added(Leaderboard(), [a, b])


def test_all_conflicts_are_named_at_once(tmp_path: Path) -> None:
    cells = [cell(seed=1), cell(seed=2)]
    other = [(record | {"tie_rate": 0.3}, ranks) for record, ranks in cells]
    a, b = source(tmp_path / "a", *cells), source(tmp_path / "b", *other)
    with pytest.raises(RecordError) as refused:
        added(Leaderboard(), [a, b])
    assert len(str(refused.value).splitlines()) == 2


def test_two_new_keys_for_one_cell_are_refused(tmp_path: Path) -> None:
    a = source(tmp_path / "a", cell())
    b = source(tmp_path / "b", renamed(cell(), "newer-engine"))
    with pytest.raises(RecordError, match=r"two keys, coop-roles-1 in a and newer-engine in b"):
        added(Leaderboard(), [a, b])


def test_a_newer_engine_replaces(tmp_path: Path) -> None:
    old = [cell(seed=seed, right=right) for seed, right in ((1, 20), (2, 20), (3, 21))]
    board = added(Leaderboard(), [source(tmp_path / "a", *old)])
    same = added(board, [source(tmp_path / "b", renamed(cell(), "newer"))])
    assert "newer" in same.entries and old[0][0]["key"] not in same.entries
    line = lines(same)[-1]
    assert (line.change, line.key, line.score, line.reason) == ("replaced", "newer", 0.5, "")

    jump = source(tmp_path / "c", renamed(cell(right=21), "jump"))
    with pytest.raises(
        RecordError, match=r"coop on roles.*50\.00 %.*would become 52\.50 %.*\n.*--r"
    ):
        added(board, [jump])
    told = added(board, [jump], reason="ties were broken the wrong way")
    assert lines(told)[-1].reason == "ties were broken the wrong way"
    assert told.history.startswith(board.history)


def test_a_change_beyond_the_seeds_interval_needs_a_reason(tmp_path: Path) -> None:
    """0.4 points are less than one point, and more than seeds differ that agree to the digit."""
    exact = [cell(seed=seed, metrics={"accuracy": 0.5}) for seed in (1, 2, 3)]
    board = added(Leaderboard(), [source(tmp_path / "a", *exact)])
    moved = renamed(cell(metrics={"accuracy": 0.504}), "moved")
    with pytest.raises(RecordError, match="would become"):
        added(board, [source(tmp_path / "b", moved)])
    single = added(Leaderboard(), [source(tmp_path / "c", exact[0])])
    assert "moved" in added(single, [source(tmp_path / "d", moved)]).entries


def test_removal_needs_a_reason_and_one_key(tmp_path: Path) -> None:
    board = added(Leaderboard(), [source(tmp_path / "a", cell(seed=1), cell(seed=2))])
    with pytest.raises(RecordError, match="--reason"):
        removed(board, "coop-roles-1-1", " ")
    with pytest.raises(RecordError, match="several"):
        removed(board, "coop", "broken")
    with pytest.raises(RecordError, match="no record"):
        removed(board, "zzz", "broken")
    less = removed(board, "coop-roles-1-1", "trained on the test split")
    assert [key[:14] for key in less.entries] == ["coop-roles-1-2"]
    assert (lines(less)[-1].key, lines(less)[-1].score) == (None, None)
    none = removed(less, "coop-roles-1-2", "too")
    assert none.queries == {} and len(lines(none)) == 4
    back = added(none, [Source("a", RecordStore(tmp_path / "a"))])
    assert [line.change for line in lines(back)[-2:]] == ["added", "added"]


def test_incomplete_provenance_is_refused(tmp_path: Path) -> None:
    broken = cell(provenance=PROVENANCE | {"git": None})
    with pytest.raises(RecordError, match=r"a: coop on roles.*provenance.*git: .*checkout"):
        added(Leaderboard(), [source(tmp_path / "a", broken)])


def test_only_cells_of_the_folders_study_are_taken_under_its_labels(tmp_path: Path) -> None:
    first, stale = cell(), renamed(cell(), "of-an-older-engine")
    external = cell("theirs", key="external")
    external[0]["cell"]["study"] = "external"
    labels = {first[0]["key"]: {"study": "mine", "variant": "coop, 16 tokens", "backbone": "big"}}
    board = added(Leaderboard(), [source(tmp_path / "a", first, stale, external, labels=labels)])
    assert sorted(board.entries) == sorted([first[0]["key"], "external"])
    shipped = board.entries[first[0]["key"]].record["cell"]
    assert [shipped[n] for n in ("study", "variant", "backbone")] == [
        "mine",
        "coop, 16 tokens",
        "big",
    ]


def test_hostile_names_stay_in_their_line(tmp_path: Path) -> None:
    name = 'a\n{"x": 1}\u2028| <b> é \\ " \x7f'
    record, ranks = cell(name, key="k")
    board = added(Leaderboard(), [source(tmp_path / "a", (record, ranks))])
    assert board.entries["k"].record["cell"]["method"] == name
    assert board.history.count("\n") == 1
    assert json.loads(board.history)["cell"]["method"] == name
