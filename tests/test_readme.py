"""The README's study and those in studies/ are valid, and what the README names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.study import load_study
from bench.study_file import StudyError

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_study_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    path = tmp_path / "my-study.yaml"
    path.write_text(block)
    with pytest.raises(StudyError) as refused:
        load_study(path, tmp_path)
    # Only the datasets are missing, because nothing is built here.
    assert refused.value.errors and all("is not built" in line for line in refused.value.errors)


@pytest.mark.parametrize("path", sorted(ROOT.glob("studies/**/*.yaml")), ids=lambda path: path.stem)
def test_the_studies_are_valid(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as refused:
        load_study(path, tmp_path)
    assert refused.value.errors and all("is not built" in line for line in refused.value.errors)


def test_links_and_make_targets_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^    make (\w+)", TEXT, flags=re.MULTILINE)
    assert named == ["demo", "test"]
    for name in named:
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE), name
