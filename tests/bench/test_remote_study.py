"""A study over remote shards: the same keys and the same numbers as over local ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.implementations.http import HTTPFileSystem
from typer.testing import CliRunner

from bench import cli
from bench.cell import run_cell
from bench.plan import plan
from bench.study import StudyError, load_study
from data_recipes.core.remote import place
from tests.shelves import BUCKET, http_server, s3_server

STUDY = """
name: far
backbone: {model: tiny-clip, random_seed: 0}
datasets: [tiny/composed]
methods: [image-plus-text]
shots: [1]
seeds: [1]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def check_equal(study: Path, here: Path, address: str, caches: Path) -> None:
    found = []
    for name, root in (("here", place(here)), ("there", place(Path(address)))):
        (cell,) = plan(load_study(study, root), root, caches / name).cells
        result = run_cell(cell)
        assert result is not None
        found.append((cell.key, result.record["metrics"], result.queries.to_dict()))
    assert found[0] == found[1]


def test_over_http(study: Path, tiny_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="HTTP needs promptgrid[remote]")
    with http_server(tiny_data) as server:
        check_equal(study, tiny_data, server.url, tmp_path)
        study.write_text(STUDY.replace("tiny/composed", "tinny"))
        with pytest.raises(StudyError, match=r"datasets\.0: http://.*/tinny/manifest\.json: noth"):
            load_study(study, place(server.url))
    HTTPFileSystem.clear_instance_cache()


def test_the_command_line_takes_an_address(
    study: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="HTTP needs promptgrid[remote]")
    monkeypatch.chdir(tmp_path)
    with http_server(tiny_data) as server:
        words = ["run", str(study), "--data", server.url, "--dry-run"]
        shown = CliRunner().invoke(cli.app, words, env={"COLUMNS": "200"})
    HTTPFileSystem.clear_instance_cache()
    assert shown.exit_code == 0, shown.output
    assert "image-plus-text" in shown.output and "1 cell" in shown.output


def test_over_s3(
    study: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(monkeypatch) as files:
        files.put(str(tiny_data / "tiny"), f"{BUCKET}/shards/tiny", recursive=True)
        check_equal(study, tiny_data, f"s3://{BUCKET}/shards", tmp_path)
