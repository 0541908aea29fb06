"""Opening and checking: what was built is read back, every damage is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_recipes.core.dataset import Dataset, check_dataset, open_dataset
from data_recipes.core.model import DataError
from tests.files import build_photos, make_files
from tests.tiny import TinyRecipe, classification, composed, image_text


@pytest.fixture
def copy(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the built dataset that a test may damage."""
    return Path(shutil.copytree(tiny_data / "tiny", tmp_path / "tiny"))


def test_tasks_and_images_are_read_back_as_they_were_built(tiny_dataset: Dataset) -> None:
    assert tiny_dataset.task() == classification()
    assert tiny_dataset.task("image-text") == image_text()
    assert tiny_dataset.task("composed") == composed()
    expected = [(image.id, image.data) for image in TinyRecipe().images()]
    assert list(tiny_dataset.reader.stream()) == expected


def test_a_sound_dataset_has_no_problem(tiny_dataset: Dataset) -> None:
    assert check_dataset(tiny_dataset.folder) == []


def test_missing_images_are_tolerated_exactly(tmp_path: Path) -> None:
    folders = make_files(tmp_path, 30)
    assert folders.images is not None
    (folders.images / "p007.png").unlink()
    folder = tmp_path / "out"
    build_photos(folders, folder, allow_missing=True)
    assert check_dataset(folder) == []
    assert open_dataset(folder).missing == {"p007"}
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"id": "p007"', '"id": "p008"'))
    found = check_dataset(folder)
    assert f"{manifest}: image 'p008' is called missing, but is there" in found
    assert "composed/val: image 'p007' is not in the shards" in found


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def drop_a_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("images-000002.tar", flip_a_byte, "content differs from the manifest (sha256)"),
        ("images-000002.tar", Path.unlink, "images-000002.tar: missing"),
        ("images-000004.tar", drop_a_line, None),
        ("index.parquet", flip_a_byte, "index.parquet: missing or different from the manifest"),
        ("index.parquet", Path.unlink, "index.parquet: missing or different from the manifest"),
        ("tasks/composed/test.queries.jsonl", drop_a_line, "23 queries and 8 candidates on disk"),
        ("tasks/composed/test.candidates.jsonl", Path.unlink, "no such file"),
    ],
)
def test_check_finds_damage(
    copy: Path, file: str, damage: Callable[[Path], None], reason: str | None
) -> None:
    if reason is None:  # cut a shard in its middle, as a full disk does
        (copy / file).write_bytes((copy / file).read_bytes()[:3000])
        reason = "3000 bytes, the manifest says"
    else:
        damage(copy / file)
    found = "\n".join(check_dataset(copy))
    assert reason in found
    assert file.rpartition("/")[2].removesuffix(".queries.jsonl") in found


def test_check_finds_a_changed_label(copy: Path) -> None:
    """Equal counts, all names known: only the digest can tell."""
    path = copy / "tasks/classification/test.queries.jsonl"
    text = path.read_text()
    changed = text.replace('"relevant":["red"]', '"relevant":["grey"]', 1)
    assert changed != text
    path.write_text(changed)
    assert check_dataset(copy) == [f"{copy / 'tasks'}: content differs from the manifest (digest)"]


def test_a_task_with_missing_rows_cannot_be_opened(copy: Path) -> None:
    drop_a_line(copy / "tasks/composed/test.queries.jsonl")
    with pytest.raises(DataError, match="23 queries and 8 candidates on disk"):
        open_dataset(copy).task("composed")
    assert open_dataset(copy).task("image-text") == image_text()
