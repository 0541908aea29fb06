"""The benchmark of features: what it calls a second use is one, and gives the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.score import score
from bench.speed_features import captions, images, sha256, texts
from data_recipes.core.dataset import Dataset
from data_recipes.core.registry import recipe
from methods.core.backbone import Backbone
from methods.core.contract import TaskInfo
from methods.core.frozen_texts import FrozenTexts
from methods.core.text_tower import TextTower
from methods.zero_shot import ZeroShot, ZeroShotConfig


def test_a_second_use_encodes_nothing(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def both() -> list[torch.Tensor]:
        return [images(tiny_dataset, tiny_backbone, tmp_path), texts(tiny_backbone, tmp_path)]

    first = both()
    monkeypatch.delattr(TextTower, "encode_texts")
    monkeypatch.delattr(Backbone, "encode_pixels")
    later = both()
    assert [*map(sha256, first)] == [*map(sha256, later)]
    assert len(first[0]) == 24 and len(first[1]) == sum(map(len, captions()))


def test_captions_are_cut_as_scoring_cuts_them(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = [task for task in recipe("openmoji-roles")().tasks() if task.kind == "image_text"]
    method = ZeroShot(ZeroShotConfig(), tiny_backbone, TaskInfo("image_text"))
    asked: list[list[str]] = []

    def hear(known: FrozenTexts, texts: list[str]) -> torch.Tensor:
        asked.append(list(texts))
        return torch.nn.functional.normalize(torch.ones(len(texts), 16), dim=-1)

    monkeypatch.setattr(FrozenTexts, "__call__", hear)
    score(method, task, lambda ids: torch.ones(len(ids), 16) / 4)
    assert {*map(tuple, asked)} == {*map(tuple, captions())}
    assert len(captions()) == len({*map(tuple, captions())}) > 1
