"""The study file: everything wrong with it in one list, each line with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import DEMO
from bench.study import RunOptions, Study, load_study
from bench.study_file import StudyError, study_datasets
from data_recipes.openmoji import (
    OpenMojiComposed,
    OpenMojiMulti,
    OpenMojiRoles,
    OpenMojiSource,
)
from tests.tiny import TINY_SPEC

SOUND = """
name: my-study
backbone: {model: tiny-clip, random_seed: 0}
datasets: [tiny, tiny/image-text]
methods:
  - zero-shot
  - coop
  - {name: coop, label: coop-csc, config: {class_specific: true}, training: {lr: 0.1}}
shots: [1, 2]
seeds: [1, 2, 3]
training: {epochs: 3}
run: {gangs: 2, ranks_per_cell: 2}
"""


def read(text: str, tiny_data: Path, tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, tiny_data)


def errors(text: str, tiny_data: Path, tmp_path: Path) -> list[str]:
    with pytest.raises(StudyError) as caught:
        read(text, tiny_data, tmp_path)
    return caught.value.errors


def replaced(**lines: str) -> str:
    """The sound study with some keys' values changed; an empty value removes the key."""
    kept = [line for line in SOUND.splitlines() if line and line[0] != " "]
    methods = [line for line in SOUND.splitlines() if line.startswith("  ")]
    out = []
    for line in kept:
        key = line.partition(":")[0]
        if key in lines:
            out += [f"{key}: {lines[key]}"] if lines[key] else []
        else:
            out += [line, *(methods if key == "methods" else [])]
    return "\n".join(out) + "\n"


def test_a_sound_study_is_read(tiny_data: Path, tmp_path: Path) -> None:
    study = read(SOUND, tiny_data, tmp_path)
    assert study.backbone == TINY_SPEC
    assert [entry.label or entry.name for entry in study.methods] == [
        "zero-shot",
        "coop",
        "coop-csc",
    ]
    assert study.run == RunOptions(gangs=2, ranks_per_cell=2)
    assert (study.shots, study.seeds) == ([1, 2], [1, 2, 3])


def test_recipes_are_the_methods_then_the_studys_then_the_entrys(
    tiny_data: Path, tmp_path: Path
) -> None:
    zero, coop, csc = read(SOUND, tiny_data, tmp_path).methods
    assert zero.recipe({"epochs": 3}) is None
    plain, own = coop.recipe({"epochs": 3}), csc.recipe({"epochs": 3, "lr": 0.7})
    assert plain is not None and own is not None
    assert (plain.epochs, plain.lr, plain.momentum) == (3, 0.002, 0.9)
    assert (own.epochs, own.lr) == (3, 0.1)
    assert csc.options()["class_specific"] is True
    assert csc.options()["n_ctx"] == 16


WRONG = """
nmae: my-study
backbone: {modle: tiny-clip, random_seed: no}
datasets: [tiny, tiny/compose, openmoji-rolse, openmoji-roles, 7]
methods:
  - coopp
  - {name: coop, config: {n_ctx: 0, class_token_position: ende}, labl: x}
  - {name: coop, label: "a b", training: {lr: 1e-3}}
  - {name: zero-shot, training: {epochs: 3}}
shots: [0, 1]
seeds: [1, -1]
training: {epoch: 3, momentum: 0.9e0}
run: {gangs: 0, zero_stage: 4, rank_per_cell: 1}
"""
EXPECTED = (
    "name: required, but not given",
    "nmae: unknown key. Did you mean: name?",
    "backbone.modle: unknown key. Did you mean: model?",
    "backbone.random_seed: input should be a valid integer, got true/false False; YAML reads yes, "
    "no, on and off as true and false: quote a word",
    "datasets.4: input should be a valid string, got a number 7",
    "methods.0.name: Unknown method 'coopp'. Did you mean: coop?",
    "methods.1.labl: unknown key. Did you mean: label?",
    "methods.2.label: use letters, digits, '.', '_' and '-'",
    "shots: 0 means no training on the dataset, so that a method that trains needs another one to "
    "learn on: name it with `source:`, or remove 0 (training-free methods run once in any case)",
    "seeds: seeds must not be negative",
    "run.gangs: input should be greater than 0, got 0",
    "run.zero_stage: input should be less than or equal to 3, got 4",
    "run.rank_per_cell: unknown key. Did you mean: ranks_per_cell?",
    "training.epoch: unknown key. Did you mean: epochs?",
    "training.momentum: input should be a valid number, got text '0.9e0'; YAML reads 0.9e0 as "
    "text, write 0.9e+0",
    "methods.1 (coop).config.n_ctx: input should be greater than 0, got 0",
    "methods.1 (coop).config.class_token_position: must be one of 'end', 'middle' or 'front', not "
    "'ende'. Did you mean: end?",
    "methods.2 (coop).training.lr: input should be a valid number, got text '1e-3'; YAML reads "
    "1e-3 as text, write 1.0e-3",
    "methods.3 (zero-shot).training: this method trains nothing; remove it",
    "datasets.1: dataset 'tiny' has no task 'compose'; it has: classification, image-text, "
    "composed",
    "datasets.2: unknown dataset 'openmoji-rolse'. Did you mean: openmoji-roles?",
    "datasets.3: dataset 'openmoji-roles' is not built in {root}; run "
    "`promptgrid data build openmoji-roles --out {root}`",
)


def test_every_error_of_a_file_is_listed_at_once(tiny_data: Path, tmp_path: Path) -> None:
    found = errors(WRONG, tiny_data, tmp_path)
    assert sorted(found) == sorted(line.format(root=tiny_data) for line in EXPECTED)


def test_the_message_counts_the_errors_and_names_the_file(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        read(WRONG, tiny_data, tmp_path)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{tmp_path / 'study.yaml'}: {len(EXPECTED)} errors"
    assert all(line.startswith("  - ") for line in lines)
    with pytest.raises(StudyError, match=r"study\.yaml: 1 error\n"):
        read(replaced(shots="[0]"), tiny_data, tmp_path)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ({"shots": "[]"}, "shots: list should have at least 1 item after validation, not 0"),
        ({"shots": "[1, 2, 1]"}, "shots: 1 is listed more than once"),
        ({"shots": "4"}, "shots: input should be a valid list, got a number 4"),
        ({"shots": "[true]"}, "shots.0: input should be a valid integer, got true/false True"),
        ({"shots": "[1.5]"}, "shots.0: input should be a valid integer, got a number 1.5"),
        ({"seeds": ""}, "seeds: required, but not given"),
        ({"seeds": "[1]\ndraws: []"}, "draws: list should have at least 1 item"),
        ({"seeds": "[1]\ndraws: [1, 1]"}, "draws: 1 is listed more than once"),
        ({"seeds": "[1]\ndraws: [-1]"}, "draws: seeds must not be negative"),
        (
            {"shots": "[0]", "seeds": "[1]\nsource: tiny/image-text\ndraws: [1]"},
            "draws: shots 0 draws nothing",
        ),
        ({"seeds": "[1]\nselection: {rule: orcale}"}, "Did you mean: oracle?"),
        ({"seeds": "[1]\nselection: {rul: oracle}"}, "selection.rul: unknown key. Did you mean: r"),
        (
            {"seeds": "[1]\nselection: {rule: oracle}"},
            "selection: rule oracle needs the split",
        ),
        ({"seeds": "[1]\nselection: {split: val}"}, "selection: rule fixed chooses on no split"),
        ({"datasets": "[tiny, tiny]"}, "datasets: 'tiny' is listed more than once"),
        ({"datasets": "[nowhere]"}, "datasets.0: unknown dataset 'nowhere'"),
        ({"name": "a/b"}, "name: use letters, digits"),
        ({"name": "no"}, "name: input should be a valid string, got true/false False; YAML reads"),
        ({"methods": "coop"}, "methods: input should be a valid list, got text 'coop'"),
        ({"methods": "[coop, coop]"}, "two methods are called 'coop'; give one of them a label"),
        ({"methods": "[coop, {name: zero-shot, label: coop}]"}, "two methods are called 'coop'"),
        ({"methods": "[{label: x}]"}, "methods.0.name: required, but not given"),
        ({"methods": "[{name: [coop]}]"}, "methods.0.name: input should be a valid string, got a"),
        ({"methods": "[{name: coop, config: 3}]"}, "methods.0.config: input should be a valid dic"),
        ({"backbone": "ViT-B-32"}, "backbone: ViT-B-32: give exactly one of pretrained, checkpoin"),
        ({"backbone": "{model: x, random_seed: 1}"}, "backbone: x is no open_clip model"),
        ({"backbone": "{model: openmoji-vit, random_seed: 1}"}, "has its weights in the package"),
        ({"training": "{steps: 5}"}, "training: schedule 'coop' is counted in epochs"),
        ({"training": "{schedule: cosin}"}, "Did you mean: cosine?"),
        ({"training": "[1]"}, "training: input should be a valid dictionary, got a list [1]"),
        (
            # Each is sound alone; together they are not.
            {
                "training": "{steps: 5, schedule: cosine}",
                "methods": "[{name: coop, training: {schedule: coop}}]",
            },
            "methods.0 (coop).training: schedule 'coop' is counted in epochs",
        ),
        ({"run": "{gangs: 1.0}"}, "run.gangs: input should be a valid integer, got a number 1.0"),
    ],
)
def test_one_wrong_line(tiny_data: Path, tmp_path: Path, lines: dict[str, str], error: str) -> None:
    (found,) = errors(replaced(**lines), tiny_data, tmp_path)
    assert error in found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (SOUND + "name: again\n", "the key 'name' is given twice"),
        (SOUND.replace("gangs: 2,", "gangs: 2, gangs: 3,"), "the key 'gangs' is given twice"),
        ("", "a study is a mapping of keys to values, not nothing"),
        ("- coop\n", "a study is a mapping of keys to values, not a list"),
        ("coop", "a study is a mapping of keys to values, not text"),
        ("name: [a\n", "while parsing a flow sequence"),
        ("name: {{study}}\n", "unhashable key"),
        ("name: !!python/object:os.system x\n", "could not determine a constructor"),
        ("name: 2024-13-45\n", "month must be in 1..12"),
        ("\tname: x\n", "cannot start any token"),
    ],
)
def test_files_that_are_no_mapping(tiny_data: Path, tmp_path: Path, text: str, error: str) -> None:
    (found,) = errors(text, tiny_data, tmp_path)
    assert error in found


def test_files_that_cannot_be_read(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file; the README shows"):
        load_study(tmp_path / "gone.yaml", tiny_data)
    with pytest.raises(StudyError, match="directory"):
        load_study(tmp_path, tiny_data)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9t\xe9\n")
    with pytest.raises(StudyError, match="utf-8"):
        load_study(tmp_path / "latin.yaml", tiny_data)


def test_a_scientific_number_is_explained(tiny_data: Path, tmp_path: Path) -> None:
    for text, advice in (("1e-3", "1.0e-3"), ("2.5e3", "2.5e+3"), ("1E5", "1.0e+5")):
        (found,) = errors(replaced(training=f"{{lr: {text}}}"), tiny_data, tmp_path)
        assert found.endswith(f"YAML reads {text} as text, write {advice}")
        assert read(replaced(training=f"{{lr: {advice}}}"), tiny_data, tmp_path).training == {
            "lr": float(text)
        }


def test_a_damaged_dataset_is_one_line(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "manifest.json").write_text("{")
    (found,) = errors(replaced(datasets="[tiny]"), tmp_path, tmp_path)
    assert found.startswith("datasets.0: ") and "not JSON" in found


def test_the_embedded_study_is_sound(tmp_path: Path) -> None:
    """Without its datasets: only they are missing."""
    with pytest.raises(StudyError) as caught:
        load_study(DEMO, tmp_path)
    known = set(study_datasets(DEMO))
    used = (OpenMojiRoles, OpenMojiComposed, OpenMojiMulti, OpenMojiSource)
    assert {recipe.name for recipe in used} == known
    assert all("is not built in" in line for line in caught.value.errors)
    assert all(any(name in line for name in known) for line in caught.value.errors)
