"""`vary:` of a study: the combinations it names, and what is wrong with one."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.method_entry import MethodEntry, ablations
from bench.plan import plan
from bench.run import expected_cells
from bench.study import Study, load_study
from bench.study_file import StudyError
from bench.vary import Vary, combinations, differing, label
from tests.tiny import TINY_SPEC

VALUES = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b"]))
OPTIONS = ("alpha", "beta", "gamma")
LISTS = st.dictionaries(st.sampled_from(OPTIONS), st.lists(VALUES, min_size=1, max_size=4))
CASES = st.lists(st.dictionaries(st.sampled_from(OPTIONS), VALUES), max_size=4)
BASES = st.fixed_dictionaries(dict.fromkeys(OPTIONS, VALUES))


def kinds(setting: dict[str, Any]) -> tuple[Any, ...]:
    """True and 1 are two values."""
    return tuple((type(setting[name]), setting[name]) for name in OPTIONS)


@given(LISTS, LISTS, CASES, BASES)
def test_every_combination_once_and_the_base_never(
    grid: dict[str, Any], each: dict[str, Any], cases: list[dict[str, Any]], base: dict[str, Any]
) -> None:
    vary = Vary(grid=grid, each=each, cases=cases)
    settings = [{**base, **options} for options in combinations(vary)]
    found = [changed for changed in differing(base, settings) if changed is not None]
    named = {kinds({**base, **dict(zip(grid, v, strict=True))}) for v in product_of(grid)}
    named |= {kinds({**base, name: value}) for name, values in each.items() for value in values}
    named |= {kinds({**base, **case}) for case in cases}
    made = [kinds({**base, **changed}) for changed in found]
    assert len(made) == len(set(made))
    assert set(made) == named - {kinds(base)}
    assert all(changed for changed in found)
    for changed in found:  # nothing stands there that is as in the base
        assert all((type(base[n]), base[n]) != (type(v), v) for n, v in changed.items())


def product_of(grid: dict[str, Any]) -> list[tuple[Any, ...]]:
    return list(itertools.product(*grid.values()))


@given(st.dictionaries(st.sampled_from(OPTIONS), st.sets(st.integers(0, 9), min_size=1)), BASES)
def test_a_grid_has_its_size_without_the_base(
    values: dict[str, set[int]], base: dict[str, Any]
) -> None:
    grid = {name: sorted(own) for name, own in values.items()}
    settings = [{**base, **one} for one in combinations(Vary(grid=grid))]
    found = [one for one in differing(base, settings) if one is not None]
    size = math.prod(map(len, grid.values())) if grid else 0
    inside = bool(grid) and all(
        not isinstance(base[name], bool) and base[name] in own for name, own in grid.items()
    )
    assert len(found) == size - inside


def entry(**changes: Any) -> MethodEntry:
    return MethodEntry.model_validate({"name": "coop", "config": {"n_ctx": 4}, **changes})


def test_labels_hold_what_differs_from_the_base_in_the_methods_order() -> None:
    vary = {
        "grid": {"class_token_position": ["front", "end"], "n_ctx": [4, 16]},
        "each": {"n_ctx": [16], "ctx_init": ["a photo of a"], "class_specific": [True, False]},
        "cases": [{"training.lr": 0.01, "n_ctx": 8}, {"training.lr": 0.002}],
    }
    made = ablations(entry(vary=vary, label="mine"), {"epochs": 3})
    assert [one.label for one in made] == [
        "mine[class_token_position=front]",
        "mine[n_ctx=16, class_token_position=front]",
        "mine[n_ctx=16]",
        "mine[ctx_init=a photo of a]",
        "mine[class_specific=true]",
        "mine[n_ctx=8, training.lr=0.01]",
    ]
    assert made[1].varied == {"n_ctx": 16, "class_token_position": "front"}
    assert made[1].options()["n_ctx"] == 16 and made[1].ablation_of == "mine"
    recipe = made[-1].recipe({"epochs": 3})
    assert recipe is not None and (recipe.lr, recipe.epochs) == (0.01, 3)


def test_a_number_written_otherwise_is_the_same_number() -> None:
    """YAML's 0 and 0.0 for an option that is a fraction."""
    base = MethodEntry(name="dcar", config={"alpha": 0}, vary=Vary(each={"alpha": [0.0, 1, 1.0]}))
    assert [one.label for one in ablations(base, {})] == ["dcar[alpha=1.0]"]


def test_the_studys_recipe_is_the_base() -> None:
    vary = {"each": {"training.lr": [0.1, 0.002]}}
    labels = [one.label for one in ablations(entry(vary=vary), {"lr": 0.1})]
    assert labels == ["coop[training.lr=0.002]"]


def test_where_it_runs() -> None:
    limited = entry(datasets=["a", "b"], shots=[1, 2], vary={"each": {"n_ctx": [2]}})
    (one,) = ablations(limited, {})
    assert (one.datasets, one.shots, one.vary) == (["a", "b"], [1, 2], None)
    own = {"each": {"n_ctx": [2]}, "datasets": ["b"], "shots": [2]}
    (one,) = ablations(limited.model_copy(update={"vary": Vary.model_validate(own)}), {})
    assert (one.datasets, one.shots) == (["b"], [2])


def test_words_of_a_label() -> None:
    assert label("m", {"a": None, "b": True, "c": 0.5, "d": "x\ny"}) == (
        'm[a=null, b=true, c=0.5, d="x\\ny"]'
    )


STUDY: dict[str, Any] = {
    "name": "s",
    "backbone": TINY_SPEC.model_dump(),
    "datasets": ["tiny", "tiny/image-text"],
    "shots": [1, 2],
    "seeds": [1, 2],
}


def planned(data: Path, *methods: Any) -> list[dict[str, Any]]:
    study = Study.model_validate({**STUDY, "methods": list(methods)})
    return expected_cells(plan(study, data, Path("cache")))


def test_ablations_are_cells_beside_their_base(tiny_data: Path) -> None:
    vary = {"each": {"n_ctx": [2, 4]}, "datasets": ["tiny"], "shots": [2]}
    found = planned(tiny_data, {"name": "coop", "config": {"n_ctx": 4}, "vary": vary})
    made = [cell for cell in found if cell["ablation_of"] is not None]
    assert len(found) - len(made) == 8
    assert [(c["task"], c["shots"], c["seed"]) for c in made] == [
        ("classification", 2, 1),
        ("classification", 2, 2),
    ]
    assert {(c["ablation_of"], c["variant"]) for c in made} == {("coop", "coop[n_ctx=2]")}
    assert all(c["varied"] == {"n_ctx": 2} for c in made)
    assert all(c["varied"] == {} for c in found if c["ablation_of"] is None)


def test_what_its_base_cannot_do_is_said_of_the_base_alone(tiny_data: Path) -> None:
    vary = {"each": {"class_specific": [True], "n_ctx": [2]}}
    study = {**STUDY, "datasets": ["tiny", "tiny/composed"], "shots": [1], "seeds": [1]}
    entry = {"name": "image-plus-text", "vary": {"each": {"text_weight": [0.25]}}}
    methods = [entry, {"name": "coop", "config": {"n_ctx": 4}, "vary": vary}]
    found = plan(Study.model_validate({**study, "methods": methods}), tiny_data, Path("cache"))
    names = [line.partition(":")[0] for line in found.left_out]
    assert names == [
        "image-plus-text on tiny/classification",
        "coop[class_specific=true] on tiny/composed",
    ]


def test_an_ablations_record_is_that_of_a_method_with_its_options(tiny_data: Path) -> None:
    base = {"name": "coop", "config": {"n_ctx": 4}}
    varied = planned(tiny_data, {**base, "vary": {"each": {"n_ctx": [2], "training.lr": [0.1]}}})
    alone = planned(tiny_data, {"name": "coop", "label": "short", "config": {"n_ctx": 2}})
    fast = planned(tiny_data, {**base, "training": {"lr": 0.1}})
    by_label = {
        name: {c["key"] for c in varied if c["variant"] == name}
        for name in ("coop[n_ctx=2]", "coop[training.lr=0.1]")
    }
    assert by_label["coop[n_ctx=2]"] == {c["key"] for c in alone}
    assert by_label["coop[training.lr=0.1]"] == {c["key"] for c in fast}


def test_an_ablation_that_is_another_method_of_the_study_is_refused(tiny_data: Path) -> None:
    vary = {"each": {"n_ctx": [2]}}
    with pytest.raises(StudyError) as refused:
        planned(
            tiny_data,
            {"name": "coop", "config": {"n_ctx": 4}, "vary": vary},
            {"name": "coop", "label": "short", "config": {"n_ctx": 2}},
        )
    assert "short and coop[n_ctx=2] are the same on tiny/classification" in str(refused.value)


FILE = """
name: s
backbone: {model: tiny-clip, random_seed: 0}
datasets: [tiny, tiny/image-text]
methods:
  - {name: coop, config: {n_ctx: 4}, datasets: [tiny], vary: VARY}
shots: [1, 2]
seeds: [1]
"""


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ("{gird: {n_ctx: [4]}}", ["methods.0.vary.gird: unknown key. Did you mean: grid?"]),
        (
            "{each: {n_ctxx: [4]}, cases: [{training.rl: 0.1}]}",
            [
                "methods.0 (coop).vary.each.n_ctxx: unknown option. Did you mean: n_ctx?",
                "methods.0 (coop).vary.cases.0.training.rl: unknown option. Did you mean: "
                "training.lr?",
            ],
        ),
        (
            "{grid: {n_ctx: [0, 8], class_token_position: [end, ende]}, each: {training.lr: [-1]}}",
            [
                "methods.0 (coop).vary.n_ctx: input should be greater than 0, got 0",
                "methods.0 (coop).vary.class_token_position: must be one of 'end', 'middle' or "
                "'front', not 'ende'. Did you mean: end?",
                "methods.0 (coop).vary.training.lr: input should be greater than 0, got -1",
            ],
        ),
        (
            "{grid: {n_ctx: [3, 4], class_token_position: [middle]}}",
            [
                "methods.0 (coop).vary[n_ctx=3, class_token_position=middle]: "
                "class_token_position 'middle' needs an even M, not 3"
            ],
        ),
        (
            "{each: {n_ctx: [4]}}",
            [
                "methods.0 (coop).vary: names no combination of options other than the method's "
                "own; give some under grid, each or cases"
            ],
        ),
        (
            "{each: {n_ctx: []}}",
            [
                "methods.0.vary.each.n_ctx: list should have at least 1 item after validation, "
                "not 0, got []"
            ],
        ),
        (
            "{each: {n_ctx: [8]}, shots: [4]}",
            ["study: methods.0 (coop).vary.shots: 4 is not one of its method's `shots` [1, 2]"],
        ),
        (
            "{each: {n_ctx: [8]}, datasets: [tiny/image-text]}",
            [
                "study: methods.0 (coop).vary.datasets: 'tiny/image-text' is not one of its "
                "method's `datasets`. Known: tiny."
            ],
        ),
    ],
)
def test_what_is_wrong_with_it(
    tiny_data: Path, tmp_path: Path, vary: str, expected: list[str]
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(FILE.replace("VARY", vary))
    with pytest.raises(StudyError) as refused:
        load_study(path, tiny_data)
    assert refused.value.errors == expected


def test_what_is_wrong_with_its_base_is_said_once(tiny_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    text = FILE.replace("VARY", "{each: {n_ctx: [8, 16], training.lr: [0.1]}}")
    path.write_text(text.replace("datasets: [tiny],", "training: {lr: -1, epoch: 3},"))
    with pytest.raises(StudyError) as refused:
        load_study(path, tiny_data)
    assert refused.value.errors == [
        "methods.0 (coop).training.lr: input should be greater than 0, got -1",
        "methods.0 (coop).training.epoch: unknown key. Did you mean: epochs?",
    ]


def test_a_recipe_of_what_trains_nothing_cannot_vary(tiny_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    vary = "{each: {text_weight: [0.25], training.lr: [0.1]}}"
    text = FILE.replace("VARY", vary).replace("tiny]", "tiny/composed]")
    text = text.replace("name: coop, config: {n_ctx: 4}", "name: image-plus-text")
    path.write_text(text.replace("[tiny, tiny/image-text]", "[tiny/composed]"))
    with pytest.raises(StudyError, match=r"vary\[training.lr=0.1\]: this method trains nothing"):
        load_study(path, tiny_data)
