"""The composed OpenMoji sets need both image and text: the controls' scores on real features."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cell import run_cell
from bench.plan import plan
from bench.study import Study
from data_recipes.core.build import build_dataset
from data_recipes.openmoji import OpenMojiConditional, OpenMojiMulti

pytestmark = pytest.mark.slow


def headlines(data: Path, dataset: str) -> dict[str, float]:
    """Method -> headline."""
    study = {
        "name": "controls",
        "datasets": [dataset],
        "methods": ["image-only", "text-only", "image-plus-text"],
        "shots": [1],
        "seeds": [1],
    }
    found = {}
    for cell in plan(Study.model_validate(study), data, data / ".features").cells:
        result = run_cell(cell)
        assert result is not None
        found[cell.method] = result.record["metrics"][result.record["headline"]]
    return found


def test_several_targets_need_image_and_text(tmp_path: Path) -> None:
    build_dataset(OpenMojiMulti(), tmp_path / "openmoji-multi")
    found = headlines(tmp_path, "openmoji-multi")
    assert max(found["image-only"], found["text-only"]) < 0.07
    assert 0.10 < found["image-plus-text"] < 0.30


def test_conditions_need_image_and_text(tmp_path: Path) -> None:
    """Chance is 1/10 in `focus` and 1/15 in `change`; a sum of features does not read a focus."""
    build_dataset(OpenMojiConditional(), tmp_path / "openmoji-conditional")
    change = headlines(tmp_path, "openmoji-conditional/change")
    assert max(change["image-only"], change["text-only"]) < 0.25
    assert 0.40 < change["image-plus-text"] < 0.70
    assert max(headlines(tmp_path, "openmoji-conditional/focus").values()) < 0.25
