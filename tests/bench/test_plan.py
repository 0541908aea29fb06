"""From a study to its cells: which cells there are, and what their keys depend on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import fields
from bench.method_entry import MethodEntry
from bench.plan import Plan, plan
from bench.study import RunOptions, Study
from bench.study_file import StudyError
from data_recipes.core.build import build_dataset
from methods.core.backbone import Backbone
from tests.tiny import COLOURS, TINY_SPEC, TinyConfig, TinyRecipe

STUDY: dict[str, Any] = {
    "name": "s",
    "backbone": TINY_SPEC.model_dump(),
    "datasets": ["tiny", "tiny/image-text", "tiny/composed"],
    "methods": ["zero-shot", {"name": "coop", "config": {"n_ctx": 4}}],
    "shots": [1, 2],
    "seeds": [1, 2, 3],
}


@pytest.fixture(autouse=True)
def _one_load(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone of the session; every other spec is loaded as usual."""
    from bench import plan as module

    load = module.load_backbone
    monkeypatch.setattr(
        module,
        "load_backbone",
        lambda spec: tiny_backbone if spec == TINY_SPEC else load(spec),
    )


def planned(data: Path, cache: Path = Path("cache"), **changes: Any) -> Plan:
    return plan(Study.model_validate({**STUDY, **changes}), data, cache)


def coordinates(found: Plan) -> list[tuple[str, str, int, int]]:
    return [(cell.task, cell.method, cell.shots, cell.seed) for cell in found.cells]


def keys_of(found: Plan) -> set[str]:
    return {cell.key for cell in found.cells}


def test_the_grid_in_the_studys_order(tiny_data: Path) -> None:
    found = planned(tiny_data)
    draws = [(shots, seed) for shots in (1, 2) for seed in (1, 2, 3)]
    assert coordinates(found) == [
        ("classification", "zero-shot", 0, 0),
        *[("classification", "coop", *draw) for draw in draws],
        ("image-text", "zero-shot", 0, 0),
        *[("image-text", "coop", *draw) for draw in draws],
        *[("composed", "coop", *draw) for draw in draws],
    ]
    assert len(keys_of(found)) == len(found.cells)


def test_what_cannot_be_is_named_with_the_reason(tiny_data: Path) -> None:
    assert planned(tiny_data).left_out == [
        "zero-shot on tiny/composed: zero-shot does classification, image_text, not composed"
    ]


def test_cells_carry_their_options_recipe_and_protocol(
    tiny_data: Path, tiny_backbone: Backbone
) -> None:
    zero, coop = planned(tiny_data, training={"epochs": 3}, shots=[1], seeds=[5]).cells[:2]
    assert zero.training is None
    assert coop.training is not None and coop.training.epochs == 3
    assert coop.config["n_ctx"] == 4
    assert {"class_specific", "text_weight"} <= coop.config.keys()
    assert coop.protocol == "classification/1"
    assert coop.backbone_digest == tiny_backbone.digest
    assert (coop.shots, coop.seed) == (1, 5)
    assert Path(coop.data_root).is_absolute() and Path(coop.cache).is_absolute()


def test_the_same_dataset_twice_is_refused(tiny_data: Path) -> None:
    """The default task by its name and without it."""
    with pytest.raises(StudyError, match="tiny/classification is listed twice"):
        planned(tiny_data, datasets=["tiny", "tiny/classification"])


IDENTITY: dict[str, Any] = {
    "backbone": TINY_SPEC.model_copy(update={"random_seed": 1}).model_dump(),
    "datasets": ["tiny/composed"],
    "methods": [{"name": "coop", "config": {"n_ctx": 8}}],
    "shots": [4],
    "seeds": [4],
    "draws": [1],
    "training": {"lr": 0.5},
    "evaluate_on": ["tiny/composed"],
    "source": "tiny/image-text",
    "descriptions": None,  # written by the test
    "few_shot": "coop",
}
RUNTIME: dict[str, list[Any]] = {
    "name": ["t"],
    "selection": [{"rule": "oracle", "split": "test"}],
    "reproduces": [["CF"]],
    "run": [
        {
            "gangs": 3,
            "ranks_per_cell": 2,
            "threads_per_rank": 2,
            "gpu": False,
            "zero_stage": 1,
            "seeds_together": 2,
            "compile": True,
        }
    ],
}


def test_every_field_of_a_study_is_tried_below() -> None:
    roles = {name: fields.role(Study, name) for name in Study.model_fields}
    assert {name for name, role in roles.items() if role == "identity"} == IDENTITY.keys()
    assert {name for name, role in roles.items() if role == "runtime"} == RUNTIME.keys()
    assert RunOptions.model_fields.keys() == RUNTIME["run"][0].keys()


@pytest.mark.parametrize("name", IDENTITY)
def test_identity_fields_of_a_study_give_other_cells(
    tiny_data: Path, tmp_path: Path, name: str, learners: None
) -> None:
    base = {"datasets": ["tiny"], "methods": [STUDY["methods"][1]], "shots": [1], "seeds": [1]}
    value, zero = IDENTITY[name], {"shots": [0]} if name == "source" else {}
    if name == "descriptions":
        base["methods"] = [{"name": "told-coop", "config": {"n_ctx": 4}}]
        for number, file in enumerate(("first", "second")):
            told = {f"{colour}_square": [f"{colour} {number}"] for colour in COLOURS}
            (tmp_path / file).write_text(json.dumps(told))
        base["descriptions"], value = ({"tiny": str(tmp_path / f)} for f in ("first", "second"))
    before = planned(tiny_data, **base)
    after = planned(tiny_data, **{**base, **zero, name: value})
    added = keys_of(after) - keys_of(before)
    assert len(before.cells) == len(added) == 1
    assert (keys_of(before) <= keys_of(after)) == (name == "evaluate_on")


@pytest.mark.parametrize("name", RUNTIME)
def test_runtime_fields_of_a_study_give_the_same_cells(tiny_data: Path, name: str) -> None:
    for value in RUNTIME[name]:
        changed = planned(tiny_data, **{name: value})
        assert [c.key for c in changed.cells] == [c.key for c in planned(tiny_data).cells]


@pytest.mark.parametrize("name", MethodEntry.model_fields)
def test_fields_of_an_entry_follow_their_marks(tiny_data: Path, name: str, learners: None) -> None:
    other = {"name": "coop", "label": "x", "config": {"n_ctx": 3}}
    other |= {"training": {"lr": 0.1}, "stage_training": {"lr": 0.1}}
    other |= {"datasets": ["tiny"], "shots": [1], "vary": {"each": {"n_ctx": [3]}}}
    other |= {"selection": {"rule": "oracle", "split": "test"}}
    base = {"datasets": ["tiny"], "shots": [1], "seeds": [1], "source": "tiny/image-text"}
    if name == "name":
        base |= {"shots": [0, 1]}
    if name == "shots":
        base |= {"shots": [1, 2]}
    if name == "datasets":
        base |= {"datasets": ["tiny", "tiny/composed"]}
    before = planned(tiny_data, methods=[{"name": "staged-coop"}], **base)
    after = planned(tiny_data, methods=[{"name": "staged-coop", name: other[name]}], **base)
    same = keys_of(before) == keys_of(after)
    assert same == (fields.role(MethodEntry, name) == "runtime")


def test_places_do_not_change_a_key_and_contents_do(tiny_data: Path, tmp_path: Path) -> None:
    before = keys_of(planned(tiny_data))
    shutil.copytree(tiny_data, tmp_path / "moved")
    assert keys_of(planned(tmp_path / "moved", tmp_path / "cache")) == before
    build_dataset(TinyRecipe(TinyConfig(size=20)), tmp_path / "moved" / "tiny")
    assert keys_of(planned(tmp_path / "moved")).isdisjoint(before)


def test_methods_that_cannot_be_built_or_are_equal_are_refused_together(
    tiny_data: Path, tmp_path: Path
) -> None:
    study = Study.model_validate(
        {
            "name": "wrong",
            "backbone": TINY_SPEC.model_dump(),
            "datasets": ["tiny"],
            "methods": [
                {"name": "coop", "config": {"n_ctx": 75}},
                {"name": "coop", "label": "words", "config": {"ctx_init": "unphotographable"}},
                "zero-shot",
                {"name": "zero-shot", "label": "twin"},
            ],
            "shots": [1],
            "seeds": [1],
        }
    )
    with pytest.raises(StudyError) as refused:
        plan(study, tiny_data, tmp_path)
    assert [line.split(":")[0] for line in refused.value.errors] == [
        "coop on tiny/classification",
        "words on tiny/classification",
        "twin and zero-shot are the same on tiny/classification",
    ]


def test_a_study_without_any_fitting_pair_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    study = Study.model_validate(
        {
            "name": "empty",
            "backbone": TINY_SPEC.model_dump(),
            "datasets": ["tiny"],
            "methods": ["image-only"],
            "shots": [1],
            "seeds": [1],
        }
    )
    with pytest.raises(StudyError, match="no method of the study fits"):
        plan(study, tiny_data, tmp_path)


def test_an_entry_learns_on_the_datasets_that_it_names(tiny_data: Path) -> None:
    study: dict[str, Any] = {
        "datasets": ["tiny", "tiny/composed"],
        "evaluate_on": ["tiny/image-text"],
        "methods": [
            {"name": "coop", "label": "here", "datasets": ["tiny/composed"]},
            {"name": "coop", "config": {"n_ctx": 2}},
        ],
    }
    found = {
        (c.variant or c.method, c.trained_on.task if c.trained_on else c.task, c.task)
        for c in planned(tiny_data, **study).cells
    }
    assert found == {
        ("here", "composed", "composed"),
        ("here", "composed", "image-text"),
        ("coop", "classification", "classification"),
        ("coop", "classification", "image-text"),
        ("coop", "composed", "composed"),
        ("coop", "composed", "image-text"),
    }
    study["methods"] = [{"name": "coop", "datasets": ["tiny/compose"]}]
    with pytest.raises(ValueError, match=r"is not one of.*Did you mean: tiny/composed"):
        planned(tiny_data, **study)


def test_draws_are_crossed_with_seeds(tiny_data: Path) -> None:
    changes: dict[str, Any] = {"datasets": ["tiny"], "shots": [1, 2], "seeds": [1, 2]}
    found = planned(tiny_data, **changes, draws=[7, 8]).cells
    crossed = [(s, d, seed) for s in (1, 2) for d in (7, 8) for seed in (1, 2)]
    assert [(c.shots, c.draw, c.seed) for c in found] == [(0, None, 0), *crossed]
    assert [c.coordinates["draw"] for c in found] == [None, *(draw for _, draw, _ in crossed)]
    assert found[1].title == "coop on tiny/classification, 1 shot, draw 7, seed 1"
    assert len({c.training_key for c in found[1:]}) == 8
    plain = planned(tiny_data, **changes).cells
    assert keys_of(Plan(plain, [])) & keys_of(Plan(found, [])) == {plain[0].key}


def test_what_is_scored_elsewhere_has_the_draw_of_its_training(tiny_data: Path) -> None:
    found = planned(
        tiny_data,
        datasets=["tiny"],
        methods=STUDY["methods"][1:],
        shots=[1],
        seeds=[1],
        draws=[7, 8],
        evaluate_on=["tiny/image-text"],
    ).cells
    home, away = found[:2], found[2:]
    assert [c.draw for c in away] == [c.draw for c in home] == [7, 8]
    assert [c.training_key for c in away] == [c.training_key for c in home]


def test_where_all_of_a_source_is_learned_nothing_is_drawn(tiny_data: Path) -> None:
    found = planned(
        tiny_data,
        datasets=["tiny"],
        methods=STUDY["methods"][1:],
        shots=[0, 1],
        seeds=[1, 2],
        draws=[7, 8],
        source="tiny/image-text",
    ).cells
    whole = [c for c in found if c.shots == 0]
    assert [(c.draw, c.seed) for c in whole] == [(None, 1), (None, 2)] and len(found) == 6


def test_how_options_were_chosen_is_the_studys_unless_an_entry_says_it(tiny_data: Path) -> None:
    rule = {"rule": "validation", "split": "val"}
    vary = {"each": {"n_ctx": [2]}}
    methods = ["zero-shot", {**STUDY["methods"][1], "selection": rule, "vary": vary}]
    oracle = {"rule": "oracle", "split": "test"}
    found = planned(
        tiny_data, datasets=["tiny"], shots=[1], seeds=[1], methods=methods, selection=oracle
    ).cells
    said = [
        (c.variant, c.coordinates["selection"], c.coordinates["selection_split"]) for c in found
    ]
    assert said == [
        (None, "oracle", "test"),
        (None, "validation", "val"),
        ("coop[n_ctx=2]", "validation", "val"),
    ]


def test_an_entry_has_the_shots_that_it_names(tiny_data: Path) -> None:
    few = {"name": "coop", "label": "few", "config": {"n_ctx": 2}, "shots": [2]}
    study: dict[str, Any] = {"methods": [few, "coop"], "shots": [1, 2], "seeds": [1]}
    found = {(c.variant or c.method, c.shots) for c in planned(tiny_data, **study).cells}
    assert found == {("few", 2), ("coop", 1), ("coop", 2)}
    with pytest.raises(StudyError, match="options and training are equal"):
        planned(tiny_data, **{**study, "methods": ["coop", {**few, "config": {}}]})
    with pytest.raises(ValueError, match=r"methods.0 \(coop\).shots: 4 is not one of"):
        planned(tiny_data, **{**study, "methods": [{"name": "coop", "shots": [4]}]})
