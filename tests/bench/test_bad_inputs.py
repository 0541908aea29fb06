"""Every kind of bad input, as a user meets it: one clear error with the way out, exit code 2."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.cell import run_cell
from bench.plan import plan
from bench.study import Study
from data_recipes.core.shards import ShardReader
from tests import worlds_composed
from tests.raw import write
from tests.tiny import TINY_SPEC

Run = Callable[[str], tuple[int, str, str]]
BUILD = "data build cirr --annotations annotations --images images --out shards"
FASHION = "data build fashioniq --annotations annotations --images images --out shards"
CAPTIONS = "annotations/captions/cap.rc2.val.json"
SPLIT = "annotations/image_splits/split.rc2.val.json"
IMAGE = "images/dev/dev-1-0-img1.png"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `promptgrid WORDS` in `tmp_path`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def command(words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptgrid", *words.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, out, err

    return command


@pytest.fixture
def cirr(tmp_path: Path) -> Path:
    """Annotations and images of a tiny CIRR, sound so far."""
    worlds_composed.cirr(tmp_path)
    return tmp_path


def edit(path: Path, change: Callable[[object], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    """A picture that is large enough to be cut behind its header."""
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


IMAGES = {
    "missing": (lambda p: p.unlink(), "No such file or directory"),
    "empty": (lambda p: p.write_bytes(b""), "empty file"),
    "a web page": (
        lambda p: p.write_text("<!DOCTYPE html><html>404</html>"),
        "an HTML page (a failed download)",
    ),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "Is a directory"),
    "truncated": (lambda p: (noise(p), cut(p)), "truncated"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_cannot_be_read_is_refused_or_a_miss(cirr: Path, run: Run, kind: str) -> None:
    spoil, reason = IMAGES[kind]
    spoil(cirr / IMAGE)
    code, _, err = run(BUILD)
    assert code == 2 and not (cirr / "shards/cirr").exists()
    assert "dataset 'cirr' was not built: 1 of 18 images cannot be read:" in err
    (line,) = [line for line in err.splitlines() if "dev-1-0-img1" in line]
    assert line.startswith(f"  dev-1-0-img1: {IMAGE}: ") and reason in line
    assert "or add --allow-missing to build without them; --split NAME builds one split" in err
    assert "dev-1-0-img1" in (cirr / "shards/cirr.failures.csv").read_text()

    code, out, _ = run(f"{BUILD} --allow-missing")
    assert code == 0 and "1 missing" in out
    study = {
        "name": "bad",
        "backbone": TINY_SPEC.model_dump(),
        "datasets": ["cirr"],
        "methods": ["image-only"],
        "shots": [1],
        "seeds": [1],
    }
    (cell,) = plan(Study.model_validate(study), cirr / "shards", cirr / "cache").cells
    result = run_cell(cell)
    assert result is not None  # the one query's target is the missing image
    assert result.record["metrics"]["Recall@50"] == 0.0
    assert (result.record["n_queries"], result.record["n_used"]) == (1, 1)
    assert "1 of 6 images are missing from the shards" in result.record["notes"]


WRONG_FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": (CAPTIONS, lambda p: p.write_text("\n\n"), "the file is empty; fetch or build it"),
    "not JSON": (
        CAPTIONS,
        lambda p: p.write_text('[{"pairid": 1,}]'),
        "not JSON at line 1, column 15: ",
    ),
    "NaN": (CAPTIONS, lambda p: p.write_text('[{"pairid": NaN}]'), "NaN is not JSON; fetch"),
    "a key twice": (
        SPLIT,
        lambda p: p.write_text('{"a": "./a.png", "a": "./b.png"}'),
        "the key 'a' occurs twice in one object; fetch or build the file again",
    ),
    "a list for an object": (
        SPLIT,
        lambda p: p.write_text('["a"]'),
        "holds a list, expected an object: image name -> path; is it another file?",
    ),
    "an object for a list": (
        CAPTIONS,
        lambda p: p.write_text('{"a": 1}'),
        "holds an object, expected a list: CIRR captions; is it another file?",
    ),
    "an unknown image": (
        CAPTIONS,
        lambda p: edit(p, lambda c: c[0].update(target_hard="dev-9-9-img9")),  # type: ignore[index]
        "record 0 (id 11): 'target_hard' names 'dev-9-9-img9', which is not in the split file",
    ),
    "a missing field": (
        CAPTIONS,
        lambda p: edit(p, lambda c: c[0].pop("reference")),  # type: ignore[index]
        "record 0 (id 11): the field 'reference' is missing",
    ),
    "a wrong type": (
        CAPTIONS,
        lambda p: edit(p, lambda c: c[0].update(caption=3)),  # type: ignore[index]
        "record 0 (id 11): the field 'caption' is a whole number, expected text",
    ),
    "a query twice": (
        CAPTIONS,
        lambda p: edit(p, lambda c: c.append(c[0])),  # type: ignore[attr-defined,index]
        "record 0: the pairid 11 occurs 2 times",
    ),
    "no targets": (
        CAPTIONS,
        lambda p: edit(p, lambda c: [c[0].pop(f) for f in ("target_hard", "target_soft")]),  # type: ignore[func-returns-value,index,misc]
        "no record has a 'target_hard', which only test1 may lack; fetch the file again",
    ),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_annotation_file_is_named_with_the_record(cirr: Path, run: Run, kind: str) -> None:
    name, spoil, message = WRONG_FILES[kind]
    spoil(cirr / name)
    code, out, err = run(BUILD)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {name}: {message}"), err
    assert not (cirr / "shards").exists()


def test_an_image_twice_in_a_gallery_is_refused(tmp_path: Path, run: Run) -> None:
    worlds_composed.fashioniq(tmp_path)
    path = "annotations/image_splits/split.dress.val.json"
    edit(tmp_path / path, lambda ids: ids.append("B000000DV0"))  # type: ignore[attr-defined]
    code, _, err = run(FASHION)
    assert code == 2
    assert err == f"error: {path}: record 0: the image 'B000000DV0' occurs 2 times\n"


def test_another_release_is_a_warning_kept_beside_results(cirr: Path, run: Run) -> None:
    code, out, _ = run(BUILD)
    warning = "cap.rc2.val.json is not the official file"
    assert code == 0 and f"warning: {warning}" in out
    manifest = json.loads((cirr / "shards/cirr/manifest.json").read_text())
    assert any(line.startswith(warning) for line in manifest["warnings"])


def test_a_blank_caption_is_kept_and_counted(cirr: Path, run: Run) -> None:
    edit(cirr / CAPTIONS, lambda c: c[0].update(caption=" "))  # type: ignore[index]
    code, out, _ = run(BUILD)
    assert code == 0 and "warning: 1 blank caption(s) in val: the query is kept" in out


def spoiled_tar(path: Path, change: Callable[[list[tuple[str, bytes]]], None]) -> None:
    """Write the members of a shard again after `change`."""
    with tarfile.open(path) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


SHARDS: dict[str, Callable[[Path], object]] = {
    "a key twice": lambda p: spoiled_tar(p, lambda m: m.extend(m[:2])),
    "a sample without image": lambda p: spoiled_tar(p, lambda m: m.pop(0)),
    "a sample without text": lambda p: spoiled_tar(p, lambda m: m.pop(1)),
    "a truncated tar": cut,
    "no tar": lambda p: p.unlink(),
}


@pytest.mark.parametrize("kind", SHARDS)
def test_a_damaged_shard_is_found_by_the_check(cirr: Path, run: Run, kind: str) -> None:
    assert run(BUILD)[0] == 0 and run("data check shards/cirr")[0] == 0
    shard = cirr / "shards/cirr/images-000000.tar"
    SHARDS[kind](shard)
    code, _, err = run("data check shards/cirr")
    assert code == 2 and "shards/cirr/images-000000.tar: " in err


def test_a_cut_shard_stops_a_study_before_anything_starts(cirr: Path, run: Run) -> None:
    assert run(BUILD)[0] == 0
    cut(cirr / "shards/cirr/images-000000.tar")
    (cirr / "s.yaml").write_text(
        "{name: s, datasets: [cirr], methods: [image-only], shots: [1], seeds: [1]}"
    )
    code, _, err = run("run s.yaml --data shards --dry-run")
    assert code == 2 and "the shard is cut off" in err and "build the dataset again" in err
    assert not (cirr / "runs").exists()


def test_ids_with_dots_blanks_and_apostrophes_are_stored_as_they_are(
    tmp_path: Path, run: Run
) -> None:
    ids = ["BAE 146-200_0934710", "lady's.slipper_1.jpg", "a/b"]
    rows = [{"query": i, "image": f"{n}.png", "relevant": [f"c{n}"]} for n, i in enumerate(ids)]
    rows += [{"candidate": f"c{n}", "text": f"caption {n}"} for n in range(3)]
    for number in range(3):
        worlds_composed.pictures(tmp_path / "images", [f"{number}.png"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, _, err = run(
        "data build jsonl --annotations annotations --images images --out shards --name mine"
    )
    assert code == 0, err
    assert run("data check shards/mine")[0] == 0
    assert len(ShardReader.open(tmp_path / "shards/mine").index) == 3


def test_withheld_targets_have_no_metric(cirr: Path, run: Run) -> None:
    lists = {"version": "rc2", "metric": "recall", "12": ["test1-1-0-img1"]}
    write(cirr / "lists.json", lists)
    annotations = CAPTIONS.replace(".val.", ".test1.")
    code, _, err = run(
        f"evaluate --protocol cirr --annotations {annotations} --predictions lists.json"
    )
    assert code == 2 and "the targets of this split are withheld" in err and "submit" in err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_similarities_that_are_not_finite_are_refused(cirr: Path, run: Run, value: float) -> None:
    np.save(cirr / "sims.npy", np.full((1, 6), value, dtype=np.float32))
    words = f"evaluate --protocol cirr --annotations {CAPTIONS} --gallery {SPLIT}"
    code, _, err = run(f"{words} --predictions sims.npy")
    assert code == 2 and "query '11': a similarity is not finite" in err and "sims.npy" in err


def test_a_constant_scorer_is_last(cirr: Path, run: Run) -> None:
    np.save(cirr / "sims.npy", np.zeros((1, 6), dtype=np.float32))
    words = f"evaluate --protocol cirr --annotations {CAPTIONS} --gallery {SPLIT} --json"
    code, out, _ = run(f"{words} --predictions sims.npy")
    found = json.loads(out)
    assert code == 0 and found["Recall@1"] == 0.0 and found["tie_rate"] == 1.0
