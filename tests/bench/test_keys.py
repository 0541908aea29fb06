"""Keys: the same for the same identity, another one for every change that decides a result."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import fields, keys
from bench.cell_spec import Cell, TrainedOn
from methods.core.config import Training
from tests.tiny import TINY_SPEC

CELL = Cell(
    method="coop",
    config={"n_ctx": 4, "ctx_init": None},
    training=Training(),
    sources={"method": "a", "engine": "b"},
    dataset="tiny",
    dataset_digest="d",
    task="classification",
    protocol="classification/1",
    backbone_digest="w",
    shots=1,
    seed=1,
    kind="classification",
    study="s",
    variant=None,
    backbone=TINY_SPEC,
    data_root="shards",
    cache="features",
)
STAGE = CELL.model_copy(
    update={
        "stage": True,
        "shots": 0,
        "seed": 0,
        "trained_on": TrainedOn(dataset="src", dataset_digest="s", task="captions", whole=True),
    }
)
OTHER: dict[str, list[Any]] = {
    "method": ["coop2"],
    "config": [{"n_ctx": 5, "ctx_init": None}, {"n_ctx": 4}, {"n_ctx": 4, "ctx_init": ""}],
    "training": [None, Training(lr=0.003), Training(epochs={1: 50}), Training(accumulation=2)],
    "sources": [{"method": "a", "engine": "c"}, {"method": "b", "engine": "b"}],
    "dataset": ["tiny2"],
    "dataset_digest": ["e"],
    "task": ["composed"],
    "protocol": ["classification/2"],
    "trained_on": [
        TrainedOn(dataset="tiny", dataset_digest="d", task="captions", whole=whole)
        for whole in (True, False)
    ],
    "stage": [True],
    "after": [STAGE, STAGE.model_copy(update={"training": Training(lr=0.003)})],
    "descriptions": ["f", "g"],
    "descriptions_file": ["elsewhere.json"],
    "backbone_digest": ["v"],
    "few_shot": ["coop"],
    "shots": [2],
    "seed": [2],
    "draw": [0, 1, 2],
    "kind": ["composed"],
    "study": ["t"],
    "variant": ["coop-4"],
    "backbone": [TINY_SPEC.model_copy(update={"random_seed": 7})],
    "data_root": ["elsewhere"],
    "cache": ["elsewhere"],
    "zero_stage": [2],
    "compile": [True],
    "selection": ["oracle"],
    "selection_split": ["test"],
    "ablation_of": ["coop"],
    "varied": [{"n_ctx": 4}],
}


def test_there_is_another_value_for_every_field() -> None:
    assert OTHER.keys() == Cell.model_fields.keys()


@pytest.mark.parametrize("name", OTHER)
def test_identity_fields_change_the_key_and_runtime_fields_do_not(name: str) -> None:
    changed = {CELL.model_copy(update={name: value}).key for value in OTHER[name]}
    if fields.role(Cell, name) == "identity":
        assert len(changed | {CELL.key}) == len(OTHER[name]) + 1
    else:
        assert changed == {CELL.key}


def test_what_decides_a_stage_decides_what_follows_and_its_scoring_does_not() -> None:
    later = CELL.model_copy(update={"after": STAGE})
    for name, changes_it in {"seed": True, "study": False, "protocol": False}.items():
        stage = STAGE.model_copy(update={name: OTHER[name][0]})
        other = CELL.model_copy(update={"after": stage})
        assert (other.key != later.key) == (other.training_key != later.training_key) == changes_it
    assert later.training_key != CELL.training_key


@pytest.mark.parametrize("name", Training.model_fields)
def test_every_field_of_the_recipe_changes_the_key(name: str) -> None:
    other: dict[str, Any] = {
        "optimizer": "adamw",
        "schedule": "constant",
        "epochs": 7,
        "steps": 7,
        "precision": "bf16",
        "accumulation": 2,
        "batch_size": 7,
        "warmup_steps": 7,
    }
    recipe = Training().model_copy(update={name: other.get(name, 0.125)})
    assert CELL.model_copy(update={"training": recipe}).key != CELL.key


def test_a_cell_that_went_through_json_keeps_its_key() -> None:
    assert Cell.model_validate_json(CELL.model_dump_json()).key == CELL.key
    assert len(CELL.key) == 64


def test_the_order_of_options_does_not_change_the_key() -> None:
    turned = CELL.model_copy(update={"config": {"ctx_init": None, "n_ctx": 4}})
    assert turned.key == CELL.key


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_have_no_key(value: float) -> None:
    with pytest.raises(ValueError):
        keys.key({"lr": value})
    recipe = Training().model_copy(update={"lr": value})
    for changes in ({"config": {"weights": [1.0, value]}}, {"training": recipe}):
        with pytest.raises(ValueError, match="holds NaN or infinity"):
            _ = CELL.model_copy(update=changes).key


FILES = {
    "__init__": "",
    "method": "import math\nfrom probe.near import f\n\n\ndef g():\n    from probe import late\n",
    "near": "def f():\n    pass\n\n\nimport probe.far\n",
    "far": "from probe import method, quiet\n",  # a circle
    "late": "",
    "quiet": "",
    "stranger": "",
}


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small package that counts as the project's."""
    folder = tmp_path / "probe"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(keys, "PACKAGES", ("probe",))
    monkeypatch.setattr(keys, "NOT_DECIDING", frozenset({"probe.quiet"}))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "probe"]:
        del sys.modules[name]
    keys.source_digest.cache_clear()


def digest_of(module: str) -> str:
    importlib.invalidate_caches()
    keys.source_digest.cache_clear()
    return keys.source_digest(module)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("method", True),
        ("near", True),
        ("far", True),  # through `near`
        ("late", True),  # imported inside a function
        ("quiet", False),  # declared not to decide
        ("stranger", False),  # not imported
    ],
)
def test_a_changed_line_in_an_imported_module_changes_the_digest(
    probe: Path, name: str, counts: bool
) -> None:
    before = digest_of("probe.method")
    path = probe / f"{name}.py"
    path.write_text(path.read_text() + "# changed\n")
    assert (digest_of("probe.method") != before) == counts
    path.write_text(FILES[name])
    assert digest_of("probe.method") == before


def test_modules_outside_the_project_are_not_followed(
    probe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_of("probe.method")
    monkeypatch.setattr(keys, "PACKAGES", ("elsewhere",))
    alone = digest_of("probe.method")
    (probe / "near.py").write_text("x = 1\n")
    assert digest_of("probe.method") == alone != before
    (probe / "method.py").write_text("x = 1\n")
    assert digest_of("probe.method") != alone


def test_the_engine_is_all_that_run_cell_needs_and_nothing_else() -> None:
    closure = set(keys._closure(keys.ENGINE_MODULE))
    assert {
        "bench.cell",
        "bench.batches",
        "bench.features",
        "bench.keys",
        "bench.metrics",
        "bench.ranking",
        "bench.schedule",
        "bench.score",
        "bench.train",
        "data_recipes.core.sampler",
        "data_recipes.core.protocol",
        "methods.core.backbone",
        "methods.core.losses",
        "methods.core.text_tower",
    } <= closure
    assert not {"bench.provenance", "bench.cli", "bench.live", "bench.run", "bench.study"} & closure
    assert not {name for name in closure if name.partition(".")[0] not in keys.PACKAGES}


def test_a_method_counts_itself_and_its_core_but_no_other_method() -> None:
    closure = set(keys._closure("methods.coop"))
    assert {"methods.coop", "methods.core.contract", "methods.core.losses"} <= closure
    assert "methods.zero_shot" not in closure
