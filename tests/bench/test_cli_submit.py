"""`promptgrid submit` from a record to the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from bench import cli
from data_recipes.core.build import build_dataset
from data_recipes.core.recipe import Folders
from results.answers import answers
from results.report import write_answers
from results.store import RecordStore
from tests.bench.test_submit import store_record
from tests.results.conftest import synthetic_record
from tests.servers import CIRR, Run, Servers, submit_command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return submit_command(tmp_path / "there", monkeypatch, capsys)


@pytest.fixture
def folder(run: Run) -> Path:
    """A run's folder "runs" beside the built dataset in "shards", with one CIRR record."""
    build_dataset(Servers(folders=Folders(Path())), Path("shards/servers"))
    store_record(RecordStore(Path("runs")), Path("shards"), "cirr-test")
    return Path("runs")


def test_from_a_record_to_the_server_and_back(run: Run, folder: Path) -> None:
    code, out, err = run("runs --out up --note first")
    assert (code, err) == (0, "")
    assert out.startswith("image-only on servers/cirr-test: cirr/1, split 10-queries\n")
    assert "read back: the record's lists, within every rule of the server" in out
    (line,) = (folder / "submissions.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["key"], entry["note"]) == ("cirr-test-image-only", "first")
    assert [file["name"] for file in entry["files"]] == ["recall.json", "recall_subset.json"]
    assert f"promptgrid submit runs --sent {entry['id']} --score NAME=VALUE" in out
    assert run(f"{CIRR} up/recall.json up/recall_subset.json")[0] == 0

    code, out, err = run(f"runs --sent {entry['id'][:5]} --score Recall@1=35.28 --score x=1%")
    assert (code, out, err) == (0, f"{entry['id']}: 2 score(s) noted\n", "")
    code, out, err = run("runs --list")
    assert (code, err) == (0, "")
    assert "runs: 1 record(s) can be submitted" in out
    assert "withheld" in out
    assert f"{entry['id']}  {entry['when']}  cirr-test-im  cirr/1 10-queries  recall.json" in out
    assert "Recall@1 35.28, x 1.0" in out


def test_several_records_are_listed_or_get_a_folder_each(run: Run, folder: Path) -> None:
    store_record(RecordStore(folder), Path("shards"), "cirr-val")
    code, out, err = run("runs --out up")
    assert (code, out) == (2, "")
    assert err.startswith("error: runs: 2 records that can be submitted; name one by --key:\n")
    assert not Path("up").exists()
    code, out, err = run("runs --out up --key cirr-test --key cirr-val")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in Path("up").iterdir()) == [
        "image-only-cirr-test-im",
        "image-only-cirr-val-ima",
    ]
    assert "the files give Recall@5 0." in out


def test_scores_that_cannot_be_are_refused_or_warned_of(run: Run, folder: Path) -> None:
    run("runs --out up")
    for words, message in (
        ("runs --score Recall@1=3", "--sent ID and --score NAME=VALUE go together"),
        ("runs --sent zz --score a=1", "runs/submissions.jsonl: no submission has the id 'zz'"),
        ("runs --sent zz --score a=101", "--score 'a=101': expected a value from 0 to 100"),
    ):
        code, out, err = run(words)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {message}")
    assert len((folder / "submissions.jsonl").read_text().splitlines()) == 1


def test_a_report_with_withheld_targets_names_the_command(folder: Path) -> None:
    RecordStore(folder).write(synthetic_record())
    console = Console(width=200, record=True)
    found = answers(RecordStore(folder))
    cli.show_report(found, folder, write_answers(found, folder), console)
    text = console.export_text()
    assert "withheld: 1 cell ran on a split whose targets are not public; submit with" in text
    assert "roles/classification · tiny: accuracy in %" in text
