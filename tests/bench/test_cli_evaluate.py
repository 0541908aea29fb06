"""`promptgrid evaluate`: options, output, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import cli
from results.absent import restrict
from results.frames import load
from results.report import write_report
from results.store import RecordStore
from tests.pack import write

Run = Callable[..., tuple[int, str, str]]
RECORDS = [{"candidate": "B0", "target": f"B{i}", "captions": ["x", "y"]} for i in (1, 2)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `promptgrid evaluate WORDS` among two categories' files; gives code, out, err."""
    for category, lists in (("dress", [["B1"], ["B2"]]), ("shirt", [["B1"], ["B1"]])):
        write(tmp_path / f"cap.{category}.val.json", RECORDS)
        write(tmp_path / f"{category}.json", {str(i): row for i, row in enumerate(lists)})
    write(tmp_path / "split.json", [f"B{i}" for i in range(60)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptgrid", "evaluate", *words.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, out, err

    return command


DRESS = "--annotations cap.dress.val.json --gallery split.json --predictions dress.json"
SHIRT = "--annotations cap.shirt.val.json --gallery split.json --predictions shirt.json"


def test_one_set_as_json(run: Run) -> None:
    code, out, err = run(f"--protocol fashioniq-original {DRESS} --json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["protocol"] == "fashioniq-original/1"
    assert [found[f"R@{k}"] for k in (1, 5, 10, 50)] == [1.0] * 4
    assert (found["n"], found["missing"], found["tie_rate"]) == (2, 0, None)


def test_the_result_is_written_where_asked(run: Run, tmp_path: Path) -> None:
    _, out, _ = run(f"--protocol fashioniq-original {DRESS} --json --out kept/dress.json")
    assert json.loads((tmp_path / "kept/dress.json").read_text()) == json.loads(out)


def test_several_sets_as_a_table_with_their_mean(run: Run) -> None:
    code, out, _ = run(f"--protocol fashioniq-original {DRESS} {SHIRT}")
    assert code == 0
    for line in ("dress/R@1 ", "1.000000", "shirt/R@1 ", "0.500000", "mean R@10 ", "0.750000"):
        assert line in out
    assert "4 queries scored, 0 without a prediction" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"--protocol fashioniq-orignal {DRESS}", "Did you mean: fashioniq-original/1?"),
        (f"--protocol circo {DRESS}", "dress.json: query '0': 'B1' is no COCO id"),
        (f"--protocol fashioniq-val {DRESS}", "dress.json: query '0' is not in the annotations"),
        (f"--protocol fashioniq-original {DRESS} {DRESS}", "two sets are called 'dress'"),
        (
            f"--protocol fashioniq-original {DRESS} --annotations cap.shirt.val.json",
            "2 --annotations, 1 --predictions and 1 --gallery; give one of each for every set",
        ),
        (f"--protocol fashioniq-original {DRESS} --missing drop", "'drop' is not one of"),
        (
            "--protocol cirr --annotations gone.json --predictions dress.json",
            "gone.json: no such file",
        ),
        ("--protocol circo --annotations split.json", "Missing option"),
        (
            "--protocol fashioniq-val --annotations cap.dress.val.json --predictions gone.json",
            "gone.json: no such file",
        ),
    ],
)
def test_errors_have_code_2_and_no_traceback(run: Run, words: str, message: str) -> None:
    code, out, err = run(words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_a_system_enters_the_leaderboard_of_a_run(run: Run, tmp_path: Path) -> None:
    words = f"--protocol fashioniq-original {DRESS} {SHIRT} --record runs/x"
    code, out, _ = run(f"{words} --method theirs --backbone ViT-B-32 --origin published-lists")
    assert code == 0 and "recorded in runs/x" in out
    store = RecordStore(tmp_path / "runs/x")
    (record,) = store.read_all()
    assert record["cell"]["task"] == "dress+shirt"  # not all categories: a column of its own
    assert record["metrics"]["R@10"] == 0.75 and record["metrics"]["dress/R@1"] == 1.0
    assert record["metrics"]["R@1"] == 0.75 and "Rmean" in record["metrics"]
    ranks = store.read_ranks(record["key"])
    assert ranks is not None and ranks["part"].tolist() == ["dress"] * 2 + ["shirt"] * 2
    board = (write_report(store.root, store.root / "report"), store.root / "report")[1]
    text = (board / "tables" / "leaderboard.md").read_text()
    assert "| theirs | 75.0 (1) |" in text
    assert "theirs: scored from prediction files, not run here (published-lists)" in text
    code, out, _ = run(f"{words} --method theirs --backbone ViT-B-32 --origin published-lists")
    assert code == 0 and "recorded already" in out


def test_a_study_keeps_the_systems_put_beside_it(run: Run, tmp_path: Path) -> None:
    run(f"--protocol fashioniq-original {DRESS} --record x --method theirs --backbone b")
    frame = load(tmp_path / "x")
    assert set(restrict(frame, [])["method"]) == {"theirs"}


def test_a_record_needs_its_labels(run: Run) -> None:
    code, _, err = run(f"--protocol fashioniq-original {DRESS} --record x --method theirs")
    assert code == 2 and "--record needs --method NAME and --backbone NAME" in err


def test_a_reference_against_the_rule_is_said_and_never_recorded(run: Run) -> None:
    code, out, _ = run(f"--protocol fashioniq-original {DRESS} --reference remove --json")
    assert code == 0 and json.loads(out)["protocol"] == "fashioniq-original/1, references removed"
    words = f"--protocol fashioniq-original {DRESS} --reference remove --record x"
    code, _, err = run(f"{words} --method theirs --backbone b")
    assert code == 2 and "--record takes official results only" in err


def test_a_record_never_leaves_queries_out(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "dress.json", {"0": ["B1"]})
    words = f"--protocol fashioniq-original {DRESS} --record x --method theirs --backbone b"
    code, _, err = run(words)
    assert code == 2 and "1 of 2 queries have no prediction and were left out" in err
    assert not (tmp_path / "x").exists()
    assert run(f"{words} --missing miss")[0] == 0
    (record,) = RecordStore(tmp_path / "x").read_all()
    assert record["metrics"]["R@1"] == 0.5 and (record["n_queries"], record["n_used"]) == (2, 1)
