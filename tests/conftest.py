"""Fixtures shared by all tests. They import what they need late: most tests need no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from data_recipes.core.dataset import Dataset
    from methods.core.backbone import Backbone

# No time limits: a busy machine is not a failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


STARTS_RAY = {"test_gang.py", "test_run.py", "test_run_group.py", "test_run_stages.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several test workers one gets all tests that start Ray: each wants two cores."""
    for item in items:
        if item.path.name in STARTS_RAY:
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def _no_gangs_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run in this process start no Ray before their study is planned.

    What is refused while gangs wait ends the process: `tests/bench/test_ahead.py` starts its own.
    """
    monkeypatch.setattr("bench.ahead.AHEAD", False)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root in which the dataset "tiny" is built (5 shards). Read-only: copy to change it."""
    from data_recipes.core.build import build_dataset
    from tests.tiny import TinyRecipe

    root = tmp_path_factory.mktemp("shards")
    build_dataset(TinyRecipe(), root / "tiny", per_shard=5)
    return root


@pytest.fixture(scope="session")
def tiny_dataset(tiny_data: Path) -> Dataset:
    """The opened dataset "tiny": tasks classification (default), image-text and composed."""
    from data_recipes.core.dataset import open_dataset

    return open_dataset(tiny_data / "tiny")


@pytest.fixture(scope="session")
def tiny_backbone() -> Backbone:
    """A real open_clip model with random weights, `tests.tiny.TINY_SPEC`: D = 16, 32 px."""
    from methods.core.backbone import load_backbone
    from tests.tiny import TINY_SPEC

    return load_backbone(TINY_SPEC)


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods of `tests.learners`, known by name for one test."""
    from methods.core.registry import registered
    from tests.learners import LEARNERS

    for kind in LEARNERS:
        monkeypatch.setitem(registered(), kind.name, kind)
