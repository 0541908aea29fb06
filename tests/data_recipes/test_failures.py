"""Images that cannot be read: each with its exact reason, all in one report and one list."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.failures import by_reason, describe
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from data_recipes.core.write import Failure
from tests.files import build_photos, make_files, photo

JPEG = photo(1, 200, "JPEG")
HTML = b"\n<!DOCTYPE HTML><html><body>404 Not Found</body></html>"


def pillows_word(data: bytes) -> str:
    """What Pillow itself says of `data`."""
    with pytest.raises(
        OSError, match=r"image file is truncated \(\d+ bytes not processed\)"
    ) as said:
        Image.open(io.BytesIO(data)).load()
    return str(said.value)


REASONS = {
    "p001": "No such file or directory",
    "p002": "empty file",
    "p003": "an HTML page (a failed download)",
    "p004": "an HTML page (a failed download)",
    "p005": pillows_word(JPEG[: len(JPEG) // 2]),
    "p006": "Is a directory",
    "p007": "Too many levels of symbolic links",
    "p008": "not an image of a format that Pillow reads",
}


def damage(images: Path) -> None:
    """One file of each kind."""
    for name in REASONS:
        (images / f"{name}.png").unlink()
    (images / "p002.png").touch()
    (images / "p003.png").write_bytes(HTML)
    (images / "p004.png").write_bytes(b"\xef\xbb\xbf<html>")
    (images / "p005.png").write_bytes(JPEG[: len(JPEG) // 2])
    (images / "p006.png").mkdir()
    (images / "p007.png").symlink_to("p007.png")
    (images / "p008.png").write_bytes(b"\0" * 500)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Thirty pictures in two shards, eight of them damaged."""
    made = make_files(tmp_path, 30)
    damage(tmp_path / "images")
    return made


def listed(path: Path) -> dict[str, tuple[str, str]]:
    with path.open(newline="") as stream:
        return {row["id"]: (row["path"], row["reason"]) for row in csv.DictReader(stream)}


def test_all_failures_are_in_one_report_and_one_list(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out" / "photos"
    with pytest.raises(DataError) as caught:
        build_photos(folders, out)
    message = str(caught.value)
    assert message.startswith("dataset 'photos' was not built: 8 of 30 images cannot be read:\n")
    table = out.with_name("photos.failures.csv")
    rows = listed(table)
    assert set(rows) == set(REASONS)
    for name, reason in REASONS.items():
        path = str(tmp_path / "images" / f"{name}.png")
        assert rows[name] == (path, reason)
        assert f"\n  {name}: {path}: {reason}\n" in message
    assert "by reason: 2 x an HTML page (a failed download), 1 x " in message
    assert f"all of them: {table}" in message
    assert "or add --allow-missing to build without them" in message.splitlines()[-1]
    assert not out.exists()


def test_allow_missing_builds_the_rest_and_lists_them(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    manifest = build_photos(folders, out, allow_missing=True)
    assert (manifest.images, len(manifest.missing)) == (22, 8)
    assert [m.id for m in manifest.missing] == sorted(REASONS)
    assert manifest.missing[1].model_dump() == {
        "id": "p002",
        "path": "p002.png",  # in the user's folder: equal on every machine
        "reason": "empty file",
    }
    assert check_dataset(out) == []
    dataset = open_dataset(out)
    assert dataset.missing == set(REASONS)
    assert len(dataset.task().evaluate[0].candidates) == 30
    assert set(listed(tmp_path / "photos.failures.csv")) == set(REASONS)


def test_missing_images_are_part_of_the_identity(folders: Folders, tmp_path: Path) -> None:
    first = build_photos(folders, tmp_path / "a", allow_missing=True)
    again = build_photos(folders, tmp_path / "b", workers=2, allow_missing=True)
    assert again == first
    (tmp_path / "images/p001.png").write_bytes(photo(1))
    assert build_photos(folders, tmp_path / "c", allow_missing=True).digest != first.digest


def test_after_mending_only_the_mended_shard_is_made_again(tmp_path: Path) -> None:
    folders, out = make_files(tmp_path, 60), tmp_path / "out"
    (tmp_path / "images/p025.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 60 images cannot be read"):
        build_photos(folders, out)
    made = tmp_path / ".out.building" / "dataset"
    before = {path.name: path.stat().st_ino for path in made.glob("*.tar")}
    (tmp_path / "images/p025.png").write_bytes(photo(25))
    build_photos(folders, out)
    after = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    assert [name for name in after if after[name] != before[name]] == ["images-000001.tar"]
    assert check_dataset(out) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "images", "out"]


@pytest.mark.parametrize("allow_missing", [False, True])
def test_no_image_at_all_asks_for_the_folder(tmp_path: Path, allow_missing: bool) -> None:
    folders = make_files(tmp_path, 25)
    wrong = Folders(folders.annotations, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        build_photos(wrong, tmp_path / "out", allow_missing=allow_missing)
    message = str(caught.value)
    assert message.startswith(
        f"dataset 'photos' was not built: none of its 25 images could be read; is "
        f"{tmp_path / 'elsewhere'} the right folder (--images)?"
    )
    assert "by reason: 25 x No such file or directory" in message
    assert "--allow-missing" not in message
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out.failures.csv"])


def test_a_long_report_is_cut_and_says_so() -> None:
    text = describe([Failure(str(n), None, "empty file") for n in range(24)])
    assert text.splitlines()[-2:] == ["  ... and 4 more", "by reason: 24 x empty file"]
    assert len(text.splitlines()) == 22
    assert text.startswith("  0: empty file\n")


def test_numbers_in_reasons_make_no_new_kind() -> None:
    reasons = ["cut (3 bytes)", "empty file", "cut (17 bytes)", "cut (3 bytes)"]
    failures = [Failure(str(n), None, reason) for n, reason in enumerate(reasons)]
    assert by_reason(failures) == "3 x cut (# bytes), 1 x empty file"
