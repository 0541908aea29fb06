"""Dry runs without data or weights: the same cells as the plan's, and what is missing by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import outline as module
from bench.outline import missing_weights, outline, outlined
from bench.plan import plan
from bench.study import Study, load_study
from bench.study_file import StudyError
from data_recipes.core.registry import recipe
from methods.core.backbone import BackboneSpec
from tests.tiny import TINY_SPEC

STUDY: dict[str, Any] = {
    "name": "s",
    "backbone": TINY_SPEC.model_dump(),
    "datasets": ["tiny", "tiny/composed"],
    "evaluate_on": ["tiny/image-text"],
    "source": "tiny/image-text",
    "methods": [
        "zero-shot",
        "image-only",
        {"name": "coop", "config": {"n_ctx": 4}, "datasets": ["tiny/composed"]},
        {"name": "coop", "label": "varied", "vary": {"each": {"n_ctx": [2, 8]}}},
    ],
    "shots": [0, 1, 2],
    "seeds": [1, 2],
    "draws": [3, 4],
}
AWAY = {"model": "ViT-B-32-quickgelu", "checkpoint": "nowhere/weights.pt"}


def study(**changes: Any) -> Study:
    return Study.model_validate({**STUDY, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"draws": None, "shots": [1], "source": None}, {"datasets": ["tiny"], "evaluate_on": []}],
    ids=["all", "few", "one"],
)
def test_the_cells_are_those_of_the_plan(tiny_data: Path, changes: dict[str, Any]) -> None:
    if "datasets" in changes:
        changes = {**changes, "methods": ["zero-shot", "image-only", "coop"]}
    planned = plan(study(**changes), tiny_data, Path("cache"))
    found = outline(study(**changes, backbone=AWAY), tiny_data)
    assert found is not None
    assert found.cells == [cell.title for cell in planned.cells]
    assert found.left_out == planned.left_out
    assert found.missing == ["weights of ViT-B-32-quickgelu/weights: the file nowhere/weights.pt"]


def test_nothing_missing_is_no_outline(tiny_data: Path) -> None:
    assert outline(study(), tiny_data) is None


def test_data_that_is_not_built_is_named_with_its_command(tmp_path: Path) -> None:
    found = outline(
        study(
            datasets=["fashioniq", "genecis/average", "openmoji-roles", "imagefolder"],
            evaluate_on=[],
            source=None,
            shots=[1],
            draws=None,
            seeds=[1],
            methods=["image-only", "coop"],
        ),
        tmp_path,
    )
    assert found is not None
    text = "\n".join(outlined("s", found))
    assert (
        f"missing: dataset fashioniq: `promptgrid data build fashioniq --annotations DIR "
        f"--images DIR --out {tmp_path}` (files: https://github.com/XiaoxiaoGuo/fashion-iq)"
    ) in text
    assert (
        "missing: dataset openmoji-roles: `promptgrid data build openmoji-roles "
        f"--out {tmp_path}`\n" in text
    )
    assert found.cells == [
        "image-only on fashioniq/original",
        "coop on fashioniq/original, 1 shot, seed 1",
        "image-only on genecis/average",
        "coop on openmoji-roles/classification, 1 shot, seed 1",
        "image-only on imagefolder/default task",
        "coop on imagefolder/default task, 1 shot, seed 1",
    ]
    assert found.left_out == [
        "coop on genecis/average: genecis/average has no training split",
        "image-only on openmoji-roles/classification: image-only does composed, not classification",
    ]
    assert "not checked without it: whether coop does the task of imagefolder/default task" in text


def test_what_can_be_checked_is_an_error_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "{name: s, datasets: [circo/vall, cirrr], methods: [image-only], shots: [1], seeds: [1], "
        "reproduces: [XX]}"
    )
    with pytest.raises(StudyError) as refused:
        load_study(path, tmp_path, built=False)
    assert refused.value.errors[0].startswith("reproduces: no published source 'XX'; known: AA")
    assert refused.value.errors[1:] == [
        "datasets.0: dataset 'circo' has no task 'vall'; it has: val, test",
        "datasets.1: unknown dataset 'cirrr'. Did you mean: cirr?",
    ]
    nothing = study(
        datasets=["circo"], methods=["zero-shot"], evaluate_on=[], source=None, shots=[1]
    )
    with pytest.raises(StudyError, match="no method of the study fits any of its datasets"):
        outline(nothing, tmp_path)


def test_weights_that_are_here_are_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def hub(repository: str, file: str) -> str | None:
        asked.append((repository, file))
        return None if len(asked) < 3 else "there"

    monkeypatch.setattr(module, "try_to_load_from_cache", hub)
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = BackboneSpec(model="ViT-B-32-quickgelu", pretrained="openai")
    said = missing_weights(spec)
    assert said is not None and "pretrained='openai'" in said and "`checkpoint: FILE`" in said
    assert missing_weights(spec) is None  # found in the hub's cache
    assert {repository for repository, _ in asked} == {"timm/vit_base_patch32_clip_224.openai"}
    asked.clear()
    (tmp_path / ".cache/clip").mkdir(parents=True)
    (tmp_path / ".cache/clip/ViT-B-32.pt").write_bytes(b"")
    assert missing_weights(spec) is None
    assert missing_weights(BackboneSpec()) is None
    assert missing_weights(TINY_SPEC) is None


def test_embedded_recipes_tell_their_tasks() -> None:
    (task, *_) = recipe("openmoji-roles").outline()
    assert (task.name, task.kind, task.trains) == ("classification", "classification", True)
