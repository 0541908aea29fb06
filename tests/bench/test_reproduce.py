"""A reproduction study, run for real: official annotations, drawn pictures, a stand-in backbone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.study import backbone_of
from bench.study_file import StudyError
from results.store import RecordStore
from tests.pack import DATA, needs_pack

ROOT = Path(__file__).resolve().parents[2]


def promptgrid(folder: Path, *words: str) -> str:
    """The command's output; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
        | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_pack
@pytest.mark.slow
def test_fashioniq_on_drawn_pictures_has_its_gaps_and_says_what_they_are(tmp_path: Path) -> None:
    study = str(ROOT / "studies/reproduce/fashioniq.yaml")
    annotations = ["--annotations", str(DATA / "fashioniq")]
    words = ["data", "build", "fashioniq", *annotations, "--split", "val", "--synthesise"]
    assert "warning: synthesised images" in promptgrid(tmp_path, *words)
    listed = promptgrid(tmp_path, "run", study, "--dry-run")
    assert "missing: weights of ViT-B-32-quickgelu/openai" in listed
    assert "missing: dataset" not in listed  # it is built now
    promptgrid(tmp_path, "run", study, "--backbone", "openmoji-vit", "--out", "out")
    gaps = pd.read_csv(tmp_path / "out/tables/published.csv")
    assert set(gaps["label"]) == {"image-only", "text-only", "image-plus-text"}
    assert set(gaps["metric"]) == {
        *(f"{c}/R@{k}" for c in ("dress", "shirt", "toptee") for k in (10, 50)),
        *("R@10", "R@50"),
    }
    assert len(gaps) == 24 and gaps["gap"].notna().all()
    assert ((gaps["ours"] - gaps["published"]) - gaps["gap"]).abs().max() < 2e-6
    assert gaps["gap"].lt(0).all()  # drawings are no garments
    assert not gaps["comparable"].any() and gaps["same_protocol"].all()
    assert gaps["note"].str.startswith("other backbone: not comparable; synthesised images").all()
    for record in RecordStore(tmp_path / "out").records():
        assert record["n_queries"] == 6016
        assert any(note.startswith("data: synthesised images") for note in record["notes"])
    page = (tmp_path / "out/tables/published.md").read_text(encoding="utf-8")
    assert page.count("synthesised images: not comparable") == 24


def test_a_backbone_named_on_the_command_line() -> None:
    assert backbone_of("openmoji-vit").label == "openmoji-vit"
    assert backbone_of("ViT-B-32-quickgelu/openai").label == "ViT-B-32-quickgelu/openai"
    for text, said in (
        ("ViT-B-32", "give exactly one of pretrained"),
        ("openmoji-vit/openai", "give no other source"),
        ("ViTT/openai", "is no open_clip model"),
    ):
        with pytest.raises(StudyError, match=f"--backbone {text}: 1 error") as refused:
            backbone_of(text)
        assert said in str(refused.value)
