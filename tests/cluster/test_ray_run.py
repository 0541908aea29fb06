"""Gangs as runs of Ray Train: which of its actors they do without."""

from __future__ import annotations

import os

import pytest

from cluster.ray_session import RAY_ENVIRONMENT


@pytest.mark.slow  # imports Ray Train
def test_a_gang_drops_the_callbacks_it_names_and_no_others() -> None:
    os.environ.update(RAY_ENVIRONMENT | os.environ)
    from ray.train.torch import TorchTrainer

    from cluster.gang import serve
    from cluster.ray_run import UNUSED, UNUSED_ALONE, GangTrainer

    def names(trainer: TorchTrainer) -> list[str]:
        return [type(one).__name__ for one in trainer._create_default_callbacks()]

    every = names(TorchTrainer(serve))
    assert {*UNUSED, *UNUSED_ALONE} <= {*every}, "Ray names its callbacks otherwise by now"
    assert names(GangTrainer(True)) == [n for n in every if n not in UNUSED + UNUSED_ALONE]
    assert names(GangTrainer(False)) == [n for n in every if n not in UNUSED]
