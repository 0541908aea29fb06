"""`promptgrid leaderboard`: from runs to a folder in git, and what its check refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli
from results.planned import PLAN
from tests.results.boards import cell, contents, run_folder

SHIPPED = Path(cli.__file__).resolve().parent.parent / "results" / "openmoji"
Ran = tuple[int, str]


class Board:
    """Runs `promptgrid leaderboard board WORDS` in a git repository; returns code and output."""

    def __init__(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.root, self.folder = root, root / "board"
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> Ran:
        argv = ["promptgrid", "leaderboard", "board", *words]
        self._monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return left.value.code if isinstance(left.value.code, int) else 0, out + err

    def git(self, *words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "state")


@pytest.fixture
def board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Board:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    made = Board(tmp_path, monkeypatch, capsys)
    made.git("init", "-q")
    return made


def test_from_two_clusters_to_a_checked_folder(board: Board) -> None:
    """Stale records of a run, of no cell of its study, stay behind."""
    cells = [cell(method, seed=seed) for method in ("coop", "cocoop") for seed in (1, 2)]
    run_folder(board.root / "a", cells[:3])
    stale = cell("coop", 4, key="stale")
    run_folder(board.root / "b", [*cells[1:], stale])
    planned = [{"key": record["key"], **record["cell"]} for record, _ in cells[1:]]
    (board.root / "b" / PLAN).write_text(json.dumps(planned))

    code, said = board("--add", "a", "--add", "b")
    assert code == 0 and f"{len(cells)} records" in said
    assert said.count("added: ") == len(cells)
    assert board("--check") == (0, "board: its files are what its records give\n")
    first = contents(board.folder)
    shutil.rmtree(board.folder)
    board("--add", "b", "--add", "a")
    assert contents(board.folder) == first
    assert board()[1].endswith("0 files changed\n")

    shutil.rmtree(board.root / "a")
    (board.root / "fork").mkdir()
    board.folder.rename(board.root / "fork" / "board")
    board("--add", "fork/board")  # a leaderboard is a source too
    assert contents(board.folder) == first


def test_what_changed_since_a_revision(board: Board) -> None:
    run_folder(board.root / "a", [cell()])
    run_folder(board.root / "new", [cell(right=39, key="newer")])
    assert board("--add", "a")[0] == 0
    code, said = board("--against", "HEAD")
    assert code == 2 and "git rev-parse" in said
    board.git("commit", "-q", "--allow-empty", "-m", "empty")
    code, said = board("--check", "--against", "HEAD")
    assert code == 0 and "HEAD has no board: nothing to compare with" in said
    board.commit()

    before = contents(board.folder)
    code, said = board("--add", "new")
    assert code == 2 and "--reason TEXT" in said and contents(board.folder) == before
    code, said = board("--add", "new", "--reason", "the sampler was wrong")
    assert code == 0 and "replaced: coop on roles" in said and "(the sampler was wrong)" in said
    assert board("--against", "HEAD")[0] == 0
    board.commit()
    assert board("--remove", "newer", "--reason", "and so is this")[0] == 0
    history = board.folder / "history.jsonl"
    history.write_text(history.read_text().replace("the sampler was wrong", "all is well"))
    code, said = board("--against", "HEAD")
    assert code == 1 and "- history.jsonl: line 2: was '" in said


def test_a_damaged_folder_is_not_built_upon(board: Board) -> None:
    run_folder(board.root / "a", [cell()])
    board("--add", "a")
    (path,) = (board.folder / "records").iterdir()
    path.write_text(path.read_text().replace('"accuracy": 0.5', '"accuracy": 0.6'))
    before = contents(board.folder)
    for words in ((), ("--add", "a")):
        code, said = board(*words)
        assert code == 1 and "score 0.6, 0.5 in index.json" in said
        assert "git checkout -- board" in said and contents(board.folder) == before
    code, said = board("--check")
    assert code == 1 and said.endswith("board: 1 problem(s)\n")
    assert "tables and plots are compared when this is mended" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "make one with `--add RUN_FOLDER`"),
        (("--check",), "board: no leaderboard there"),
        (("--add", "nowhere"), "nowhere: no records there"),
        (("--check", "--reason", "x"), "--check changes nothing"),
    ],
)
def test_what_cannot_be_done_is_said(board: Board, words: tuple[str, ...], said: str) -> None:
    code, shown = board(*words)
    assert code == 2 and said in shown and not board.folder.exists()


def test_a_digit_of_the_shipped_leaderboard(board: Board) -> None:
    """`make leaderboard` checks it as it is; here a record's digit, then a table's."""
    shutil.copytree(SHIPPED, board.folder)
    record = sorted((board.folder / "records").iterdir())[0]
    kept = record.read_bytes()
    record.write_bytes(kept.replace(b'"tie_rate": 0', b'"tie_rate": 1', 1))
    code, said = board("--check")
    assert code == 1 and f"- records/{record.name} (" in said and "was changed" in said
    record.write_bytes(kept)
    table = board.folder / "tables" / "leaderboard.csv"
    table.write_bytes(table.read_bytes().replace(b",0.1", b",0.2", 1))
    code, said = board("--check")
    assert code == 1 and said.count("\n- ") + said.startswith("- ") == 1
    assert "- tables/leaderboard.csv: line " in said
