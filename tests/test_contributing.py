"""The examples of CONTRIBUTING.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.method_facts import facts
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.recipe import Recipe
from methods.core.backbone import Backbone
from methods.core.contract import Method, TaskInfo
from methods.core.registry import registered
from tests.conform import open_world

ROOT = Path(__file__).resolve().parent.parent


def example(name: str) -> dict[str, Any]:
    """The names that the example file `name` defines."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (code,) = [block for block in blocks if block.startswith(f"# {name}")]
    assert code.count("\n") <= 40, "an example is under 40 lines"
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, name, "exec"), names)
    return names


def test_the_method_example(tiny_backbone: Backbone) -> None:
    kind: type[Method] = example("methods/text_residual.py")["TextResidual"]
    method = kind(kind.Config(), tiny_backbone, TaskInfo("classification", ("cat", "dog")))
    features = method.text(("cat", "dog"))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    features[0, 0].backward()
    (parameter,) = method.parameters()
    assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0


def test_the_method_example_conforms(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: type[Method] = example("methods/text_residual.py")["TextResidual"]
    monkeypatch.setitem(registered(), kind.name, kind)
    seen = open_world(tiny_data, tmp_path).teach(kind.name, "classification")
    assert seen.curve[-1] < seen.curve[0] and seen.reached == seen.declared == {"residual"}
    assert {k for k in seen.after if not torch.equal(seen.after[k], seen.before[k])} == {"residual"}
    assert (facts(kind.name)["trainable_parameters"] or 0) > 0
    assert [entry["about"] for entry in facts(kind.name)["options"]] == [
        "of the residual (alpha in the paper)."
    ]


def test_what_may_be_overridden_is_in_the_contract() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)", row)]
    assert len(names) > 15 and all(hasattr(Method, name) for name in names)
    public = {name for name in vars(Method) if not name.startswith("_")}
    shown = {"text", "paper", "Config"}  # in the example
    fixed = {"backbone", "query", "candidate", "forward"}  # not for a method to change
    assert public - set(names) == shown | fixed, "the table of the contract misses or invents one"


def test_the_dataset_example(tmp_path: Path) -> None:
    kind: type[Recipe] = example("data_recipes/two_colours.py")["TwoColours"]
    manifest = build_dataset(kind(), tmp_path / "two-colours")
    assert manifest.images == 8 and check_dataset(tmp_path / "two-colours") == []
    task = open_dataset(tmp_path / "two-colours").task()
    assert len(task.train.queries) == 4 == len(task.evaluate[0].queries)
