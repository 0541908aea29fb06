"""Options from texts: what YAML reads, with numbers as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data_options import BuildFlags, configured
from data_recipes.core import recipe as recipes
from data_recipes.core.model import DataError
from tests.files import Photos


@pytest.fixture(autouse=True)
def _photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.data_options.recipe", lambda name: Photos)


def config(tmp_path: Path, *settings: str) -> dict[str, object]:
    flags = BuildFlags(tmp_path, tmp_path, settings=settings)
    return configured("photos", flags).config.model_dump()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("share=1", 1.0),
        ("share=1e-3", 0.001),
        ("share=.5", 0.5),
        ("note=", None),
        ("note=a=b", "a=b"),
        ("note= and ", "and"),
        ('note=" and "', " and "),
        ("note='1'", "1"),
        ('note="no"', "no"),
        ("note=2020-01-01", "2020-01-01"),
        ("note=a: b: c", "a: b: c"),
        ("image_size=null", None),
        ("image_size=224", 224),
        ("pad=none", "none"),
    ],
)
def test_values_are_yaml_scalars(tmp_path: Path, setting: str, value: object) -> None:
    key = setting.partition("=")[0]
    if value is None and key == "note":
        with pytest.raises(DataError, match="--set note: input should be a valid string, got None"):
            config(tmp_path, setting)
    else:
        assert config(tmp_path, setting)[key] == value


@pytest.mark.parametrize("setting", ["share=NaN", "share=.inf", "share=true", "image_size=224.5"])
def test_values_of_another_kind_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(DataError, match="data build photos: 1 error\n"):
        config(tmp_path, setting)


def test_without_flags_the_recipe_has_its_defaults(tmp_path: Path) -> None:
    made = configured("photos", BuildFlags(tmp_path, tmp_path))
    assert made.config == Photos.Config()
    assert made.folders == recipes.Folders(tmp_path, tmp_path)
