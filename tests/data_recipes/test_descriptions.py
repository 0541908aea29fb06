"""Descriptions: read strictly, built into the dataset, checked there, and no part of its digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from fsspec.implementations.http import HTTPFileSystem

from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.descriptions import DESCRIPTIONS as FILE
from data_recipes.core.descriptions import read_descriptions
from data_recipes.core.model import DataError
from tests.shelves import Shelf, http_server
from tests.tiny import DESCRIPTIONS, DescribedRecipe, TinyRecipe


class Told(TinyRecipe):
    """The tiny recipe with any descriptions."""

    def __init__(self, told: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._told = told

    def descriptions(self) -> Mapping[str, Sequence[str]]:
        return self._told


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("described") / "tiny"
    build_dataset(DescribedRecipe(), folder)
    return folder


@pytest.fixture
def copy(described: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(described, tmp_path / "tiny"))


def test_a_cupl_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "CuPL_prompts.json"
    path.write_text('{"tench": ["A fish.", "A tench is green."], "crane": ["Ein Vogel: ä"]}')
    assert read_descriptions(path) == {
        "tench": ("A fish.", "A tench is green."),
        "crane": ("Ein Vogel: ä",),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a"]', "holds a list; descriptions are one object from class names"),
        ('{"cat": "a cat."}', "of 'cat': a text; give a list of sentences, or leave the key out"),
        ('{"cat": []}', "of 'cat': an empty list; give a list"),
        ('{"dog": ["a"], "cat": ["a cat.", " "]}', "of 'cat': ' ' in its list; give"),
        ('{"cat": ["a cat.", 3]}', "of 'cat': 3 in its list"),
        ('{"cat": ["a"], "cat": ["b"]}', "the key 'cat' occurs twice"),
        ("", "the file is empty"),
        ('{"cat": ["a"', "not JSON at line 1"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "told.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_descriptions(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_they_are_built_into_the_dataset_and_read_back(described: Path) -> None:
    dataset = open_dataset(described)
    assert dataset.descriptions == DESCRIPTIONS
    assert check_dataset(described) == []


def test_the_digest_stays_and_a_dataset_without_any_has_no_file(
    described: Path, tiny_data: Path
) -> None:
    bare, told = open_dataset(tiny_data / "tiny"), open_dataset(described)
    assert bare.manifest.digest == told.manifest.digest
    assert bare.descriptions == {} and bare.manifest.descriptions_sha256 is None
    assert not (tiny_data / "tiny" / FILE).exists()
    assert told.manifest.descriptions_sha256 is not None


def test_equal_descriptions_give_equal_files(described: Path, tmp_path: Path) -> None:
    backwards = dict(reversed(DESCRIPTIONS.items()))
    manifest = build_dataset(Told(backwards), tmp_path / "tiny")
    assert manifest == open_dataset(described).manifest
    assert (tmp_path / "tiny" / FILE).read_bytes() == (described / FILE).read_bytes()


def test_a_manifest_of_before_descriptions_is_read(copy: Path) -> None:
    raw = json.loads((copy / "manifest.json").read_text())
    del raw["descriptions_sha256"]
    (copy / "manifest.json").write_text(json.dumps(raw))
    assert open_dataset(copy).descriptions == {}


def test_a_rebuild_keeps_or_removes_the_file(copy: Path) -> None:
    build_dataset(DescribedRecipe(), copy)
    assert open_dataset(copy).descriptions == DESCRIPTIONS
    build_dataset(TinyRecipe(), copy)
    assert not (copy / FILE).exists() and check_dataset(copy) == []


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_file_is_noticed(copy: Path, damage: str) -> None:
    path = copy / FILE
    path.unlink() if damage == "gone" else path.write_text('{"cat": ["a"]}')
    assert check_dataset(copy) == [f"{path}: missing or different from the manifest"]
    with pytest.raises(DataError, match=r"different from the manifest; build the dataset again"):
        _ = open_dataset(copy).descriptions


@pytest.fixture
def shelf(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """`copy` behind HTTP."""
    pytest.importorskip("aiohttp", reason="HTTP needs promptgrid[remote]")
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy.parent / "cache"))
    with http_server(copy.parent) as server:
        yield server
    HTTPFileSystem.clear_instance_cache()


def test_a_remote_dataset_brings_them_along(shelf: Shelf) -> None:
    dataset = open_dataset(f"{shelf.url}/tiny")
    assert dataset.descriptions == DESCRIPTIONS
    assert (dataset.folder / FILE).is_file()
    assert check_dataset(f"{shelf.url}/tiny") == []


def test_another_file_behind_http_is_refused_and_not_kept(copy: Path, shelf: Shelf) -> None:
    (copy / FILE).write_text('{"red_square": ["a red square."]}')
    with pytest.raises(DataError) as caught:
        open_dataset(f"{shelf.url}/tiny")
    assert str(caught.value) == (
        f"{shelf.url}/tiny/{FILE}: missing or different from the manifest; copy the "
        "dataset there again"
    )
    assert not list((copy.parent / "cache").glob("**/manifest.json"))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"purple_square": ["a"]}, "'purple_square': neither a class nor an image has this name"),
        ({"red_square": []}, "'red_square': an empty list"),
        ({"red_square": "red"}, "'red_square': a text"),
    ],
)
def test_a_recipe_cannot_describe_strangers_or_say_nothing(
    tmp_path: Path, told: dict[str, Sequence[str]], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        build_dataset(Told(told), tmp_path / "tiny")
    assert "dataset 'tiny' was not built" in str(caught.value) and message in str(caught.value)
    assert not (tmp_path / "tiny").exists()
