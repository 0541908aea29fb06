"""The manifest: read strictly, with the command that mends it in every message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_recipes.core.dataset import Dataset
from data_recipes.core.manifest import MANIFEST, read_manifest
from data_recipes.core.model import DataError


def changed(source: Path, folder: Path, **changes: Any) -> Path:
    """A folder with the manifest of `source`, some fields changed; None removes a field."""
    folder.mkdir()
    raw = json.loads((source / MANIFEST).read_text()) | changes
    kept = {name: value for name, value in raw.items() if value is not None}
    (folder / MANIFEST).write_text(json.dumps(kept))
    return folder


def test_the_default_task_is_the_first(tiny_dataset: Dataset) -> None:
    manifest = tiny_dataset.manifest
    assert [task.name for task in manifest.tasks] == ["classification", "image-text", "composed"]
    assert manifest.task(None).name == "classification"
    assert manifest.task("composed").protocol == "composed/1"


def test_an_unknown_task_is_answered_with_the_known_ones(tiny_dataset: Dataset) -> None:
    with pytest.raises(
        DataError, match=r"'tiny' has no task 'x'.*classification, image-text, composed"
    ):
        tiny_dataset.manifest.task("x")


def test_counts_and_licence_are_in_the_manifest(tiny_dataset: Dataset) -> None:
    manifest = tiny_dataset.manifest
    assert (manifest.images, len(manifest.shards)) == (24, 5)
    assert [shard.samples for shard in manifest.shards] == [5, 5, 5, 5, 4]
    train, test = manifest.task("composed").parts
    assert (train.queries, train.candidates, train.groups) == (48, 16, 4)
    assert (test.queries, test.candidates, test.groups) == (24, 8, 4)
    assert (manifest.licence, manifest.source) == ("CC0-1.0", "tests/tiny.py")
    assert manifest.config == {"size": 16}


def test_no_manifest_names_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest.*`promptgrid data build roles --out "):
        read_manifest(tmp_path / "roles")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": None}, "digest: Field required"),
        ({"images": "24"}, "images: Input should be a valid integer"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
        ({"schema_version": 0}, "manifest version 0, this program reads 1"),
    ],
)
def test_a_strange_manifest_is_refused(
    tiny_dataset: Dataset, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = changed(tiny_dataset.folder, tmp_path / "tiny", **changes)
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(folder)
    assert str(caught.value).startswith(str(folder / MANIFEST))
    assert "build the dataset again" in str(caught.value)


def test_the_command_that_mends_a_renamed_dataset_names_its_recipe(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    folder = changed(tiny_dataset.folder, tmp_path / "mine", name="mine", images="24")
    with pytest.raises(DataError, match="`promptgrid data build tiny --name mine --out "):
        read_manifest(folder)


def test_a_cut_manifest_is_refused(tiny_dataset: Dataset, tmp_path: Path) -> None:
    text = (tiny_dataset.folder / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=r"manifest\.json: not JSON at line"):
        read_manifest(tmp_path)
