"""What `promptgrid methods` says: read from the classes, counted on a built method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pytest
import yaml
from pydantic import Field
from torch import Tensor
from typer.testing import CliRunner

from bench.cli import app
from bench.method_facts import CLASSES, descriptions, facts, options, type_name
from data_recipes.core.model import TASK_KINDS, TaskKind
from methods.coop import CoOp, CoOpConfig
from methods.core.config import MethodConfig, Training
from methods.core.contract import Method
from methods.core.registry import UnknownMethodError, registered

WIDTH = 128  # of the embedded backbone's token embeddings


class NeedyConfig(MethodConfig):
    """path: where the weights are, in `dtype`. n_ctx, depth: how much of
    it: and so on.
    """

    path: str
    dtype: str = "half"
    n_ctx: int = 4
    depth: Literal["deep", "shallow"] | None = None
    silent: list[int] = Field(default_factory=lambda: [1])


class Needy(Method):
    """Cannot be built without a file."""

    name = "needy"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed"})
    pixels = touches_vision = True
    stage = Training(lr=0.5)
    Config = NeedyConfig

    def text(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("name", registered())
def test_facts_are_json_and_follow_the_class(name: str) -> None:
    kind, row = registered()[name], facts(name)
    assert json.loads(json.dumps(row)).keys() == row.keys()
    assert row["about"] and row["paper"] == kind.paper and row["tasks"] == sorted(kind.tasks)
    assert (row["trains"], row["pixels"]) == (kind.trains, kind.pixels)
    assert (row["stage"] is None) == (kind.stage is None)
    assert (row["recipe"] is None) == (not kind.trains)
    assert [entry["option"] for entry in row["options"]] == [*kind.Config.model_fields]
    assert all(entry["about"] for entry in row["options"]), "each option is in the docstring"
    assert (row["trainable_parameters"] is None) == (row["not_counted"] is not None)
    if row["trainable_parameters"] is not None:
        assert (row["trainable_parameters"] > 0) == kind.trains
        counted_on = next(k for k in TASK_KINDS if k in kind.tasks)
        assert row["counted_on"] == (counted_on if kind.trains else None)


def test_coops_context_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts("coop")["trainable_parameters"] == 16 * WIDTH

    class Specific(CoOpConfig):
        class_specific: bool = True
        n_ctx: int = 4

    monkeypatch.setattr(CoOp, "Config", Specific)
    assert facts("coop")["trainable_parameters"] == len(CLASSES) * 4 * WIDTH


def test_what_cannot_be_counted_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registered(), "needy", Needy)
    row = facts("needy")
    assert row["trainable_parameters"] is None and row["counted_on"] is None
    assert "path" in row["not_counted"] and "Field required" in row["not_counted"]
    assert row["stage"]["kind"] == "image_text" and row["stage"]["lr"] == 0.5


def test_options_have_types_defaults_and_what_the_docstring_says() -> None:
    def entry(option: str, kind: str, default: Any, required: bool, about: str | None) -> Any:
        return {
            "option": option,
            "type": kind,
            "default": default,
            "required": required,
            "about": about,
        }

    said = "how much of it: and so on."
    assert options(NeedyConfig) == [
        entry("path", "str", None, True, "where the weights are, in `dtype`."),
        entry("dtype", "str", "half", False, "where the weights are, in `dtype`."),
        entry("n_ctx", "int", 4, False, said),
        entry("depth", "deep | shallow | None", None, False, said),
        entry("silent", "list[int]", [1], False, None),
    ]
    assert descriptions(MethodConfig) == {} and options(MethodConfig) == []
    assert type_name(int | None) == "int | None" and type_name(dict[int, int]) == "dict[int, int]"


def page(*words: str, width: int = 200) -> str:
    ended = CliRunner().invoke(app, ["methods", *words], env={"COLUMNS": str(width)})
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_one_method_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page("coop")
    assert "trainable parameters: 2,048 (for classification)" in text
    assert "Only the context moves" in text and "arXiv 2109.01134" in text
    assert all(f"inferred: {choice}" in text for choice in CoOp.inferred)
    assert all(option in text for option in CoOpConfig.model_fields)
    lines = text.split("recipe (training:)\n")[1]
    assert Training.model_validate(yaml.safe_load(lines)) == CoOp.recipe  # fits into a study
    (row,) = json.loads(page("coop", "--json"))
    assert row == json.loads(json.dumps(facts("coop")))
    monkeypatch.setitem(registered(), "needy", Needy)
    text = page("needy")
    assert "images: pixels, changes the vision tower" in text and "must be given" in text
    assert "stage before: on a source of kind image_text" in text and "lr: 0.5" in text


def test_the_table_has_a_row_for_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registered(), "needy", Needy)
    text = page(width=4000)
    for name, kind in registered().items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"│ {name} ")]
        assert (kind.paper in row) and ("trains nothing" in row) == (not kind.trains)
    assert "2,048" in text and "not counted: 1 validation error" in text


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UnknownMethodError, match="Did you mean: coop"):
        facts("coopp")
