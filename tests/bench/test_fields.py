"""The guard of the keys: no field may be neither identity nor runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from bench import fields
from bench.cell_spec import Cell, TrainedOn
from bench.method_entry import Ablation, MethodEntry, Selection
from bench.study import RunOptions, Study
from bench.vary import Vary
from methods.core.config import Training
from methods.core.registry import registered

MARKED: tuple[type[BaseModel], ...] = (
    Study,
    MethodEntry,
    Ablation,
    Vary,
    Selection,
    RunOptions,
    Cell,
)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Pydantic models anywhere inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def nested(model: type[BaseModel], role: str | None = None) -> set[type[BaseModel]]:
    """All models below fields of `model` (those with `role`), transitively."""
    found: set[type[BaseModel]] = set()
    for name, info in model.model_fields.items():
        if fields.stands_for(model, name) is None and role in (None, fields.role(model, name)):
            for inner in models_in(info.annotation):
                found |= {inner} | nested(inner)
    return found


@pytest.mark.parametrize("model", MARKED, ids=lambda model: model.__name__)
def test_every_field_is_marked(model: type[BaseModel]) -> None:
    unmarked = [
        name
        for name in model.model_fields
        if fields.role(model, name) not in ("identity", "runtime")
    ]
    assert not unmarked, (
        f"{model.__name__}: say of {', '.join(unmarked)} whether it decides a result "
        "(fields.identity) or not (fields.runtime)"
    )


def test_nested_models_are_marked_or_enter_whole() -> None:
    for inner in set().union(*map(nested, MARKED)) - set(MARKED):
        marks = {fields.role(inner, name) for name in inner.model_fields}
        assert marks == {None}, f"{inner.__name__} is marked but not guarded: add it to MARKED"


def test_nothing_below_an_identity_field_of_a_cell_is_left_out() -> None:
    below = nested(Cell, "identity")
    assert below == {Training, TrainedOn}
    for model in {*below, *(method.Config for method in registered().values())}:
        for name, info in model.model_fields.items():
            assert info.exclude is None, f"{model.__name__}.{name} would not enter the key"


@pytest.mark.parametrize("name", registered())
def test_every_option_of_a_method_enters_its_cells(name: str) -> None:
    config = registered()[name].Config
    assert MethodEntry(name=name).options().keys() == config.model_fields.keys()


def test_the_identity_of_a_cell_is_what_it_was() -> None:
    """A field moved in or out changes every key: do so on purpose, and say it in the changes."""
    found = {role: set() for role in ("identity", "runtime")}  # type: dict[str, set[str]]
    for name in Cell.model_fields:
        found[str(fields.role(Cell, name))].add(name)
    assert found["identity"] == {
        "method",
        "config",
        "training",
        "sources",
        "dataset",
        "dataset_digest",
        "task",
        "protocol",
        "trained_on",
        "stage",
        "after",
        "descriptions",
        "backbone_digest",
        "few_shot",
        "shots",
        "seed",
        "draw",
    }
    assert found["runtime"] == {
        "kind",
        "study",
        "variant",
        "backbone",
        "data_root",
        "cache",
        "zero_stage",
        "compile",
        "descriptions_file",
        "selection",
        "selection_split",
        "ablation_of",
        "varied",
    }


class Sound(BaseModel):
    rate: float = fields.identity(default=0.5, gt=0)
    folder: str = fields.runtime()


class Unsound(Sound):
    forgotten: int = 1


def test_identity_of_takes_the_identity_fields() -> None:
    assert fields.identity_of(Sound(folder="x")) == {"rate": 0.5}


class Later(BaseModel):
    before: Sound | None = fields.identity(default=None, by="folder")


def test_a_field_may_decide_through_one_attribute_of_its_value() -> None:
    assert fields.identity_of(Later(before=Sound(folder="x"))) == {"before": "x"}
    assert fields.identity_of(Later()) == {"before": None}


def test_only_the_stage_of_a_cell_decides_through_an_attribute() -> None:
    """Its weights are all that it gives on, and its training key stands for them."""
    through = {(m.__name__, n): fields.stands_for(m, n) for m in MARKED for n in m.model_fields}
    assert {k: v for k, v in through.items() if v} == {("Cell", "after"): "training_key"}


def test_identity_of_refuses_an_unmarked_field() -> None:
    with pytest.raises(TypeError, match=r"Unsound\.forgotten is neither identity nor runtime"):
        fields.identity_of(Unsound(folder="x"))


def test_marks_keep_a_fields_constraints() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Sound(rate=0, folder="x")
