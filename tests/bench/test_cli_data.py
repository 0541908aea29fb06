"""`promptgrid data`: from the user's folders to a dataset, and what is said of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bench import cli
from data_recipes.core import registry
from data_recipes.core.images import ImageFile
from tests.files import Photos, make_files

Run = Callable[..., tuple[int, str, str]]
BUILD = "build photos --annotations annotations --images images"


class Interrupted(Photos):
    """Ctrl-C comes while images are read."""

    name = "interrupted"

    def images(self) -> list[ImageFile]:
        raise KeyboardInterrupt


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs `promptgrid data WORDS` beside 30 pictures; gives code, out, err."""
    make_files(tmp_path, 30)
    points = [
        EntryPoint("photos", "tests.files:Photos", registry.GROUP),
        EntryPoint("interrupted", f"{__name__}:Interrupted", registry.GROUP),
    ]
    kinds = {"photos": Photos, "interrupted": Interrupted}
    monkeypatch.setattr(EntryPoint, "load", lambda self: kinds[self.name])
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.recipes.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def command(words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptgrid", "data", *words.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, out, err

    yield command
    registry.recipes.cache_clear()


def manifest(folder: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(folder, "manifest.json").read_text())
    return found


def test_a_dataset_of_the_users_files_is_built_and_checked(run: Run) -> None:
    code, out, err = run(BUILD)
    assert (code, err) == (0, "")
    digest = str(manifest("shards/photos")["digest"])[:12]
    assert out == f"built shards/photos: 30 images, digest {digest}\n"
    assert run("check shards/photos")[1] == "shards/photos: sound\n"
    code, out, _ = run(BUILD)
    assert (code, out) == (
        0,
        "shards/photos: built already, 30 images (--force builds it again)\n",
    )


def test_flags_are_the_recipes_options(run: Run) -> None:
    code, _, err = run(
        f"{BUILD} --image-size 16 --pad square --split val --split test --set note=none "
        "--set share=1e-3 --out elsewhere"
    )
    assert (code, err) == (0, "")
    assert manifest("elsewhere/photos")["config"] == {
        "image_size": 16,
        "pad": "square",
        "splits": ["val", "test"],
        "note": "none",
        "share": 0.001,
    }


def test_two_variants_stand_side_by_side(run: Run) -> None:
    assert run(f"{BUILD} --set note=one")[0] == 0
    code, out, err = run(f"{BUILD} --set note=two")
    assert (code, out) == (2, "")
    assert "shards/photos: built already, but otherwise: note 'one', not 'two'; --force" in err
    assert run(f"{BUILD} --set note=two --name photos-two")[0] == 0
    two = manifest("shards/photos-two")
    assert (two["name"], two["recipe"]) == ("photos-two", "photos")
    rows = json.loads(run("list --json")[1])
    assert [row["dataset"] for row in rows] == ["photos", "photos-two"]
    assert rows[0]["digest"] != rows[1]["digest"]
    assert run(f"{BUILD} --set note=two --force")[0] == 0
    rows = json.loads(run("list --json")[1])
    assert rows[0]["digest"] == rows[1]["digest"], "an equal build under another name is equal"


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            "build photos --annotations gone --set colour=1 --set nota=x --set x --pad round",
            [
                "error: data build photos: 6 errors\n",
                "--set colour: photos has no option 'colour'. It has: image_size, note, pad",
                "--set nota: photos has no option 'nota'. Did you mean: note?",
                "--set x: write it as --set key=value",
                "--pad: input should be 'none', 'square' or 'target-1.25', got 'round'",
                "--annotations gone: no such folder",
                "--images: required, photos is made from files of yours",
            ],
        ),
        (f"{BUILD}/p000.png", ["--images images/p000.png: is a file, name its folder"]),
        (
            "build openmoji-roles --images images --image-size 9",
            [
                "--images: openmoji-roles reads no images of yours; leave it out",
                "--image-size: openmoji-roles has no option 'image_size'. It has: seed, size.",
            ],
        ),
        (
            f"{BUILD} --set note=no",
            ["--set note: input should be a valid string, got False; quote"],
        ),
        (f"{BUILD} --set share=x", ["--set share: input should be a valid number, got 'x'"]),
        (f"{BUILD} --set note=[a]", ["--set note=[a]: a single value is expected"]),
        (
            f"{BUILD} --image-size 20 --set image_size=20",
            ["--set image_size: 'image_size' is given twice, the first time by --image-size"],
        ),
        (f"{BUILD} --image-size 3", ["--image-size: input should be greater than or equal to 16"]),
        (f"{BUILD} --name a/b", ["--name a/b: use letters, digits"]),
        (f"{BUILD} --name openmoji-roles", ["is the name of another dataset"]),
        ("build photos openmoji-roles --name x", ["--name names one dataset"]),
        ("build photo openmoji-role", ["Did you mean: photos?", "Did you mean: openmoji-roles?"]),
        ("show photos", ["shards/photos/manifest.json: no manifest, so no built dataset"]),
    ],
)
def test_wrong_words_are_refused_before_anything_is_made(
    run: Run, tmp_path: Path, words: str, messages: list[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(words)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for message in messages:
        assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_images_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "images/p003.png").write_bytes(b"")
    (tmp_path / "images/p004.png").unlink()
    code, out, err = run(BUILD)
    assert (code, out) == (2, "")
    assert "error: dataset 'photos' was not built: 2 of 30 images cannot be read:\n" in err
    assert "all of them: shards/photos.failures.csv\n" in err
    assert not (tmp_path / "shards/photos").exists()
    code, out, err = run(f"{BUILD} --allow-missing")
    assert (code, err) == (0, "")
    assert out.startswith("built shards/photos: 28 images of 30; 2 missing, digest ")
    assert run("check shards/photos")[1] == "shards/photos: sound\n"
    (row,) = json.loads(run("list --json")[1])
    assert (row["images"], row["missing"], row["warnings"]) == (28, 2, [])
    shown = run("show photos")[1]
    assert "images: 28 images of 30; 2 missing, 1 shard(s)" in shown
    assert "missing: p003: p003.png: empty file" in shown
    assert "missing: p004: p004.png: No such file or directory" in shown
    assert "28 images of 30; 2 missing (--force builds it again)" in run(BUILD)[1]


def test_one_dataset_is_shown_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "annotations/list.json").write_text(json.dumps(["p001", "p002"]))
    assert "  warning: list.json: is short\n" in run(f"{BUILD} --name mine")[1]
    code, out, err = run("show mine")
    assert (code, err) == (0, "")
    for line in (
        "mine (recipe version 1, made by photos)",
        "images: 2 images, 1 shard(s)",
        "options: image_size=None, note=, pad=none, share=1.0, splits=None",
        "licence: CC0-1.0",
        "warning: list.json: is short",
    ):
        assert f"{line}\n" in out
    row = next(line for line in out.splitlines() if "composed/1" in line)
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells == ["composed", "composed/1", "val", "evaluate", "2", "2", "1"]
    assert json.loads(run("show mine --json")[1]) == manifest("shards/mine")
    assert json.loads(run("list --json")[1])[0]["warnings"] == ["list.json: is short"]
    assert run("list")[1].endswith("\nmine: warning: list.json: is short\n")


def test_an_interrupted_build_says_how_to_continue(run: Run) -> None:
    code, out, err = run("build interrupted --annotations annotations --images images")
    assert (code, err) == (130, "")
    assert out == (
        "interrupted; what is finished of shards/interrupted is kept, the same command continues\n"
    )
