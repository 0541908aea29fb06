"""Every study under studies/ passes `--dry-run` where nothing is built and no weights are there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import cli

ROOT = Path(__file__).resolve().parent.parent
STUDIES = sorted((ROOT / "studies").rglob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: str(p.relative_to(ROOT / "studies")))
def test_it_passes_a_dry_run_with_nothing_there(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "argv", ["promptgrid", "run", str(path), "--dry-run"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    assert (left.value.code or 0, err) == (0, ""), out + err
    cells = [line for line in out.splitlines() if line.startswith("  to run   ")]
    assert f": {len(cells)} cells, none of which can run yet" in out and cells
    assert "missing: dataset " in out and "`promptgrid data build " in out
    assert "has no training split" not in out  # a study asks for nothing that cannot be
    assert list(tmp_path.iterdir()) == []


def test_without_dry_run_the_same_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = ROOT / "studies/reproduce/fashioniq.yaml"
    monkeypatch.setattr(sys, "argv", ["promptgrid", "run", str(path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "dataset 'fashioniq' is not built in shards" in said
    assert "promptgrid data build fashioniq --annotations DIR --images DIR --out shards" in said
