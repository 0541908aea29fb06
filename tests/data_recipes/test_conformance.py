"""What every registered recipe must do, generated for each: built from its tiny world."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from data_recipes.core import registry
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.protocol import PROTOCOLS
from data_recipes.core.recipe import Recipe
from tests.raw import World
from tests.worlds import WORLDS

NAMES = list(registry.recipes())
EMBEDDED = [name for name in NAMES if not registry.recipe(name).inputs]
DOCS = Path(__file__).resolve().parents[2] / "data_recipes/docs"
PAGES = {
    **{name: "openmoji" for name in NAMES if name.startswith("openmoji-")},
    **dict.fromkeys(("imagefolder", "jsonl"), "your-own-data"),
}


def made(name: str, root: Path) -> tuple[Recipe, World]:
    assert name in WORLDS, f"write a tiny world of {name!r} into tests/worlds.py"
    world = WORLDS[name](root)
    kind = registry.recipe(name)
    return kind(kind.Config.model_validate(world.options), world.folders), world


def page(name: str) -> Path:
    recipe = registry.recipe(name)
    module = recipe.__module__.split(".")[1]
    of_coop = "coop-sets" if module.startswith(("coop_sets", "imagenet")) else name
    return DOCS / f"{PAGES.get(name, of_coop)}.md"


def names(text: str, protocol: str) -> bool:
    """Whether a page has a protocol's name in code, "x-<task>/1" for a family of them."""
    said = [re.escape(code) for code in re.findall(r"`([^`\n]+)`", text)]
    return any(re.fullmatch(re.sub(r"<\w+>", r"[\\w-]+", code), protocol) for code in said)


@pytest.mark.parametrize("name", NAMES)
def test_it_declares_itself(name: str) -> None:
    kind = registry.recipe(name)
    assert kind.name == name and kind.summary and kind.source and kind.__doc__
    assert kind.licence and kind.licence != "unknown"
    kind.Config()  # every option has a default
    assert kind.Config.model_config["strict"] and kind.Config.model_config["extra"] == "forbid"


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_page(name: str) -> None:
    text = page(name).read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", text)
    assert re.search(rf"promptgrid data build (.* )?({name}|<name>)(?![\w-])", text)
    for word in ("icence", "shot"):
        assert word in text, f"{page(name).name} says nothing of {word!r}"
    for protocol in open_protocols(name):
        assert names(text, protocol), f"{page(name).name} does not name {protocol}"


def open_protocols(name: str) -> set[str]:
    """The protocols of a recipe's tasks, without a build; of embedded ones the tasks are cheap."""
    if name not in EMBEDDED:
        return set()
    return {task.protocol for task in registry.recipe(name)().tasks()}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EMBEDDED])
def test_it_builds_soundly_and_equally(name: str, tmp_path: Path) -> None:
    recipe, world = made(name, tmp_path / "world")
    manifest = build_dataset(recipe, tmp_path / "built")
    assert manifest.images == world.images and not manifest.missing
    assert check_dataset(tmp_path / "built") == []  # shards, digests, tasks; every image decoded
    foreseen = {task.name: task for task in recipe.outline()}
    for task in manifest.tasks if foreseen else ():
        known = foreseen[task.name]
        assert (known.kind, known.protocol) == (task.kind, task.protocol)
        assert known.trains or not task.trains
    assert not foreseen or manifest.tasks[0].name == next(iter(foreseen))
    again, _ = made(name, tmp_path / "world")
    assert build_dataset(again, tmp_path / "again").digest == manifest.digest
    assert manifest.warnings == recipe.warnings()
    dataset = open_dataset(tmp_path / "built")
    text = page(name).read_text(encoding="utf-8")
    for entry in manifest.tasks:
        assert entry.protocol in PROTOCOLS
        assert names(text, entry.protocol), f"{page(name).name} does not name {entry.protocol}"
        task = dataset.task(entry.name)
        assert all(part.problems() == [] for part in task.parts())
        if task.kind == "classification":
            assert task.templates and all(t.count("{}") == 1 for t in task.templates)
        if task.train is not None:
            assert all(query.relevant for query in task.train.queries)
    ids = list(dataset.reader.index)
    assert all(image.mode == "RGB" for image in dataset.images(ids))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EMBEDDED])
def test_another_image_is_another_dataset(name: str, tmp_path: Path) -> None:
    recipe, world = made(name, tmp_path / "world")
    before = build_dataset(recipe, tmp_path / "before")
    assert world.folders.images is not None
    first = next(iter(recipe.images())).path
    assert first is not None and first.is_relative_to(world.folders.images)
    Image.new("RGB", (9, 7), "orange").save(first)
    again = registry.recipe(name)(recipe.config, world.folders)
    assert build_dataset(again, tmp_path / "after").digest != before.digest


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_ones_build_soundly_and_equally(name: str, tmp_path: Path) -> None:
    recipe, world = made(name, tmp_path / "world")
    manifest = build_dataset(recipe, tmp_path / "built")
    assert manifest.images == world.images
    assert check_dataset(tmp_path / "built") == []
    again, _ = made(name, tmp_path / "world")
    assert build_dataset(again, tmp_path / "again").digest == manifest.digest
