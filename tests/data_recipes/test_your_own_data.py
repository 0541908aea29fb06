"""The example of docs/your-own-data.md runs as it stands: build, check, and a study over it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bench import cli
from bench.cell import run_cell
from bench.plan import plan
from bench.study import load_study
from tests.raw import pictures

PAGE = Path(__file__).resolve().parents[2] / "data_recipes/docs/your-own-data.md"


def block(language: str) -> str:
    """The page's only block of a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(text)


def promptgrid(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command line of the page, as the installed script would."""
    monkeypatch.setattr("sys.argv", shlex.split(command))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code, command


def test_the_retrieval_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "my-data/images", ["red.png", "blue.png"])
    (tmp_path / "my-data/test.jsonl").write_text(block("json"))
    study = tmp_path / "my-study.yaml"
    study.write_text(block("yaml"))
    commands = block("sh").splitlines()
    assert [line.split()[1] for line in commands] == ["data", "data", "run"]
    for line in commands:
        promptgrid(line, monkeypatch)
    shown = capsys.readouterr().out
    assert "shards/my-data: sound" in shown
    assert "2 to run" in shown and "image-plus-text on my-data/composed" in shown
    cells = plan(load_study(study, Path("shards")), Path("shards"), tmp_path / "cache").cells
    result = run_cell(cells[0])
    assert result is not None
    assert result.record["metrics"]["recall@1"] == 1.0  # one candidate is left: the right one


def test_the_classes_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (command,) = re.findall(r"^    (promptgrid data build imagefolder .*)$", text, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "my-animals", [f"{c}/{n}.png" for c in ("big_dog", "cat") for n in "123"])
    promptgrid(command, monkeypatch)
    promptgrid("promptgrid data check shards/my-animals", monkeypatch)
