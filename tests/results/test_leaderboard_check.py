"""One changed digit anywhere in a leaderboard's folder is found and named."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import leaderboard_check
from results.leaderboard import Leaderboard, Source, added, removed
from results.leaderboard_check import check, since
from results.leaderboard_files import index_text, load, publish
from results.provenance import drawn_with
from results.shipped import entry_from, sha256
from tests.results.boards import PROVENANCE, cell, contents, run_folder, some_cells

KEY = "coop-roles-2-3-tiny-None"
RECORD = f"records/{KEY}.json"
CELL = "coop on roles/classification, 2 shots, seed 3"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("board")
    board = added(Leaderboard(), [Source("run", run_folder(root / "run"))])
    publish(board, root / "board")
    return root / "board"


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    shutil.copytree(published, tmp_path / "board")
    return tmp_path / "board"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def change_a_digit(path: Path, after: str = "") -> None:
    """The first digit behind `after` becomes another one."""
    text = path.read_bytes().decode()
    at = next(n for n in range(text.index(after) + len(after), len(text)) if text[n].isdigit())
    path.write_bytes((text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]).encode())


def test_a_published_leaderboard_passes_and_is_published_again_to_the_byte(
    published: Path, tmp_path: Path
) -> None:
    found = check(published)
    assert (found.problems, found.remarks) == ([], [])
    assert publish(load(published), published) == []
    cells = some_cells()
    random.Random(2).shuffle(cells)
    board = added(Leaderboard(), [Source("elsewhere", run_folder(tmp_path / "run", cells))])
    publish(board, tmp_path / "board")
    assert contents(tmp_path / "board") == contents(published)


@pytest.mark.parametrize(
    ("name", "after", "said"),
    [
        (RECORD, '"accuracy": 0.', rf"{RECORD} \({CELL}.*was changed: sha256.*score 0\.\d+, 0\."),
        (RECORD, '"recall@5": 0.', rf"{RECORD} \({CELL}.*was changed: sha256"),
        (RECORD, '"at": "', rf"{RECORD} \({CELL}.*was changed|not one of the values"),
        (RECORD, '"seed": ', rf"{RECORD} \({CELL}.*was changed"),
        ("history.jsonl", '"score": 0.', r"\(key .*\); the last line of history.jsonl says 0\."),
        ("index.json", f'{KEY}.json": {{"cell": ', r"index.json: line \d+: the records give"),
        ("index.json", '"sha256": "', r"was changed: sha256"),
    ],
)
def test_a_changed_digit_is_named(folder: Path, name: str, after: str, said: str) -> None:
    change_a_digit(folder / name, after)
    (problem,) = check(folder).problems
    assert re.search(said, problem), problem


def test_a_changed_digit_of_the_queries_is_named(folder: Path) -> None:
    (path,) = (folder / "queries").iterdir()
    change_a_digit(path, '"q1')
    (problem,) = check(folder).problems
    assert problem.startswith(f"queries/{path.name}: was changed: sha256")


@pytest.mark.parametrize("pattern", ["tables/*", "plots/*", "README.md"])
def test_a_changed_byte_of_what_is_made_is_named_with_its_line(folder: Path, pattern: str) -> None:
    """All files of a kind at once: each is one problem."""
    paths = sorted(folder.glob(pattern))
    assert paths
    for path in paths:
        whole = bytearray(path.read_bytes())
        at = max(n for n in range(len(whole) // 2 + 1) if chr(whole[n]).isalnum())
        whole[at] = ord("8") if whole[at] != ord("8") else ord("3")
        path.write_bytes(bytes(whole))
    problems = check(folder).problems
    assert len(problems) == len(paths)
    for path, problem in zip(paths, problems, strict=True):
        name = path.relative_to(folder).as_posix()
        where = r"line \d+: the records give ['\"].*, the file has ['\"]"
        assert re.match(rf"{re.escape(name)}: {where}", problem), problem


def test_plots_drawn_with_other_libraries_are_not_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (folder / "plots").iterdir():
        path.write_bytes(b"drawn elsewhere")
    assert len(check(folder).problems) > 1
    monkeypatch.setattr(leaderboard_check, "drawn_with", lambda: {"matplotlib": "1.0"})
    found = check(folder)
    assert found.problems == []
    assert re.search(r"plots were not compared: drawn with .*freetype.*1\.0", found.remarks[0])


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    (folder / "tables" / "mine.txt").write_text("x")
    (folder / ".hidden").write_text("x")
    (folder / "tables" / "leaderboard.csv").unlink()
    assert check(folder).problems == [
        ".hidden: no part of this leaderboard; move it elsewhere",
        "tables/leaderboard.csv is missing",
        "tables/mine.txt: no part of this leaderboard; move it elsewhere",
    ]


def test_a_record_that_is_gone_is_named(folder: Path) -> None:
    (folder / RECORD).unlink()
    (problem,) = check(folder).problems
    assert re.match(rf"{RECORD} \({CELL}.*\) is missing", problem)
    board = load(folder)
    index = index_text(board, drawn_with())
    (folder / "index.json").write_text(index)
    (problem,) = check(folder).problems
    assert re.search(rf"{CELL}.*in history.jsonl, but its record {KEY[:12]} is gone", problem)


def test_a_record_of_nobody_is_named(folder: Path) -> None:
    shutil.copy(folder / RECORD, folder / "records" / "copy.json")
    (problem,) = check(folder).problems
    assert problem.startswith(f"records/copy.json ({CELL}") and "does not know it" in problem
    assert "not its file's name" in problem


def test_two_records_of_one_cell_are_named(folder: Path) -> None:
    board = load(folder)
    entry = board.entries[KEY]
    twin = entry_from(entry.text.replace(KEY, "twin"))
    (folder / "records" / "twin.json").write_text(twin.text)
    both = Leaderboard({**board.entries, "twin": twin}, board.queries, board.history)
    (folder / "index.json").write_text(index_text(both, drawn_with()))
    (problem,) = check(folder).problems
    assert f"the cell has another record, {KEY}" in problem and "twin" in problem


def forged(folder: Path, change: Callable[[str], str]) -> None:
    """A record changed, and the index made to fit."""
    old = (folder / RECORD).read_text()
    new = change(old)
    assert new != old
    (folder / RECORD).write_text(new)
    replace(folder / "index.json", sha256(old), sha256(new))


def test_a_forged_score_disagrees_with_the_history(folder: Path) -> None:
    before = json.loads((folder / RECORD).read_text())["metrics"]["accuracy"]
    forged(folder, lambda text: text.replace(f'"accuracy": {before}', '"accuracy": 0.975'))
    replace(folder / "index.json", f'"score": {before}', '"score": 0.975')
    (problem,) = check(folder).problems
    assert re.search(rf"{CELL}.*0\.975.*history.jsonl says {before}", problem)


def test_a_forged_row_of_outcomes_changes_its_tables(folder: Path) -> None:
    """Another method's tables rest on it: something that is made of the records differs."""
    before = load(folder)
    forged(folder, lambda text: text.replace('"recall@5": 0.', '"recall@5": 0.1'))
    problems = check(folder).problems
    assert any(problem.startswith("tables/leaderboard.csv: line") for problem in problems)
    (said,) = since(before, load(folder))
    assert re.match(rf"{RECORD}: a record never changes; line \d+: was '.*recall@5", said)


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        (PROVENANCE | {"git": {"revision": "abc", "changed": False}}, "git.revision"),
        (PROVENANCE | {"git": {"revision": "0" * 40}}, "git.changed"),
        (PROVENANCE | {"packages": {}}, "packages"),
        ({n: v for n, v in PROVENANCE.items() if n != "hardware"}, "hardware"),
    ],
)
def test_incomplete_provenance_is_named(
    folder: Path, provenance: dict[str, Any], said: str
) -> None:
    whole = json.loads((folder / RECORD).read_text()) | {"provenance": provenance}
    forged(folder, lambda _: json.dumps(whole))
    (problem,) = check(folder).problems
    assert problem.startswith(f"{RECORD} ({CELL}") and f"({said}: " in problem


def test_a_changed_tree_is_marked(tmp_path: Path) -> None:
    git = PROVENANCE["git"] | {"changed": True}
    store = run_folder(tmp_path / "run", [cell(provenance=PROVENANCE | {"git": git})])
    publish(added(Leaderboard(), [Source("run", store)]), tmp_path / "board")
    page = (tmp_path / "board" / "README.md").read_text()
    assert "Made from a changed tree" in page and "- coop on roles" in page
    assert "A \\| processor" in page
    assert check(tmp_path / "board").problems == []
    replace(tmp_path / "board" / "index.json", '"changed tree": true, ', "")
    (problem,) = check(tmp_path / "board").problems
    assert problem.startswith("index.json: line")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("not json\n", r"line 14: line: Invalid JSON"),
        ('{"cell": {}}\n', r"line 14: change: Field required"),
        ('{"cell":{},"change":"added","key":"k","reason":"","score":0.5}\n', r"line 14: not as"),
        ('{"cell": {}, "change": "added"', r"the last line has no end"),
    ],
)
def test_lines_that_are_no_history_are_named(folder: Path, lines: str, said: str) -> None:
    with (folder / "history.jsonl").open("a") as stream:
        stream.write(lines)
    assert re.search(said, "\n".join(check(folder).problems))


def test_steps_that_cannot_be_are_named(folder: Path) -> None:
    path = folder / "history.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    last = json.loads(whole[0])
    gone = json.dumps(last | {"change": "removed", "key": None, "score": None}, sort_keys=True)
    jump = json.dumps(last | {"change": "replaced", "key": "k2", "score": 0.99}, sort_keys=True)
    path.write_text("".join([*whole, whole[0], jump + "\n", gone + "\n"]))
    said = "\n".join(check(folder).problems)
    assert "history.jsonl, line 14" in said and "added, but the cell was there" in said
    assert re.search(r"line 15: .* became 99\.00 % without a reason", said)
    assert "line 16" in said and "removed without a reason" in said


def test_what_happened_since_a_revision(tmp_path: Path, published: Path) -> None:
    old = load(published)
    entries = {key: entry for key, entry in old.entries.items() if key != KEY}
    silent = Leaderboard(entries, old.queries, old.history)
    (said,) = since(old, silent)
    assert said.startswith(CELL) and "removed without a line of history" in said
    assert since(old, removed(old, KEY, "wrong data")) == []
    assert since(old, old) == []

    store = run_folder(tmp_path / "run", [cell("coop", 2, 3, 40, key="newer")])
    told = added(old, [Source("run", store)], "a mistake in the sampler")
    assert since(old, told) == []
    untold = told.history.replace("a mistake in the sampler", "")
    (said,) = since(old, Leaderboard(told.entries, told.queries, untold))
    assert re.match(rf"{CELL}.*became 100\.00 % without a reason", said)
    (said,) = since(old, Leaderboard(told.entries, told.queries, old.history))
    assert said.endswith("replaced without a line of history")
    (said,) = since(told, Leaderboard(told.entries, told.queries, old.history))
    assert re.match(r"history.jsonl: line 14: was '.*', is ''", said)
