"""`promptgrid cache`: what is stored is shown truly, and only what was named is removed."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import cli
from bench.cache_entries import entries
from bench.feature_lock import Turn
from bench.feature_store import Identity, Stored
from data_recipes.core.remote import mirrors

Run = Callable[..., tuple[int, str, str]]
DAY = 24 * 3600


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of two datasets, two lists of texts, and a file of somebody else's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "features"
    monkeypatch.setenv("PROMPTGRID_CACHE", str(folder))
    for kind, dataset, backbone, rows in (
        ("images", "birds", "ViT-B", 30),
        ("images", "cars", "ViT-L", 50),
        ("texts", None, "ViT-B", 70),
        ("texts", None, "ViT-B", 80),
    ):
        place(folder, kind, dataset, backbone, rows).write(np.ones((rows, 4), np.float32))
    (folder / "notes.json").write_text("mine")
    (folder / "mine.npy").write_text("mine")
    return folder


def place(folder: Path, kind: str, dataset: str | None, backbone: str, rows: int) -> Stored:
    identity = Identity(kind, backbone, dataset, "none", "fp32", str(rows))  # type: ignore[arg-type]
    return Stored(folder, identity, (rows, 4), backbone, dataset)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `promptgrid cache WORDS`: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptgrid", "cache", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, out, err

    return command


@pytest.fixture
def mirror(cache: Path, tiny_data: Path) -> Path:
    """A mirror of the tiny dataset, as a remote study leaves it."""
    return Path(shutil.copytree(tiny_data / "tiny", mirrors() / ("ab" * 16)))


def stored(cache: Path) -> list[tuple[str, str | None, str | None, int | None]]:
    return sorted(
        ((e.kind, e.dataset, e.backbone, e.rows) for e in entries(cache)), key=lambda e: str(e)
    )


def test_the_list_shows_what_is_stored(cache: Path, mirror: Path, run: Run) -> None:
    code, out, _ = run("list")
    lines = [[cell.strip() for cell in line.split("│")[2:7]] for line in out.splitlines()]
    assert code == 0 and str(cache) in out and str(mirror.parent) in out
    assert ["images", "birds", "ViT-B", "30", "0.0"] in lines
    assert ["texts", "", "ViT-B", "150", "0.0"] in lines and "2 lists" in out
    assert "mine" not in out
    size = sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file())
    assert ["remote dataset", "tiny", "", "24", f"{size / 1e6:.1f}"] in lines

    _, out, _ = run("list", "--json")
    rows = json.loads(out)
    assert [row["what"] for row in rows].count("texts") == 2 and len(rows) == 5
    (birds,) = [row for row in rows if row["dataset"] == "birds"]
    location = Path(birds["location"])
    assert location == cache / f"{birds['key']}.json" and location.is_file()
    array = json.loads(location.read_text())["file"]
    on_disk = location.stat().st_size + (cache / array).stat().st_size
    assert birds["bytes"] == on_disk and birds["backbone"] == "ViT-B" and birds["rows"] == 30


def test_an_empty_cache_is_said(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, out, _ = run("list", "--cache", str(tmp_path / "none"))
    assert code == 0 and "nothing is cached" in out
    assert json.loads(run("list", "--json", "--cache", str(tmp_path / "none"))[1]) == []
    assert not (tmp_path / "none").exists()


CHOICES: dict[str, tuple[list[str], set[str]]] = {
    "a dataset": (["--dataset", "birds"], {"images of birds by ViT-B (30 rows"}),
    "a backbone": (["--backbone", "ViT-L"], {"images of cars by ViT-L (50 rows"}),
    "both": (["--dataset", "cars", "--backbone", "ViT-L"], {"images of cars"}),
    "both, which no entry is": (["--dataset", "birds", "--backbone", "ViT-L"], set()),
    "texts too": (["--backbone", "ViT-B"], {"birds", "(70 rows", "(80 rows"}),
    "all": (["--all"], {"birds", "cars", "(70 rows", "(80 rows", "remote dataset of tiny"}),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_named_is_removed_and_nothing_else(
    cache: Path, mirror: Path, run: Run, choice: str
) -> None:
    words, gone = CHOICES[choice]
    before = {path: path.read_bytes() for path in cache.iterdir() if path.is_file()}
    dry = run("evict", *words, "--dry-run")
    assert {path: path.read_bytes() for path in before} == before and mirror.exists()
    code, out, _ = run("evict", *words)
    lines = [line for line in out.splitlines() if line.startswith("removed ")]
    assert code == dry[0] == 0 and len(lines) == len(gone)
    assert all(any(what in line for line in lines) for what in gone)
    assert dry[1] == out.replace(" removed, ", " would be removed, ").replace(
        "removed images", "would remove images"
    ).replace("removed texts", "would remove texts").replace(
        "removed remote", "would remove remote"
    )
    assert f"{len(gone)} of 5 removed, " in out
    assert len(entries(cache)) == 5 - len(gone) and mirror.exists() == (choice != "all")
    assert {"notes.json", "mine.npy"} <= {path.name for path in cache.iterdir()}
    arrays = [path for path in cache.glob("*.npy") if path.name != "mine.npy"]
    assert len(arrays) == len([e for e in entries(cache) if e.kind != "remote dataset"])


def test_keys_and_their_beginnings(cache: Path, run: Run) -> None:
    keys = [entry.key for entry in entries(cache)]
    assert run("evict", keys[0][:10], keys[1])[0] == 0
    assert [entry.key for entry in entries(cache)] == keys[2:]
    code, _, err = run("evict", keys[2], "0123456789")
    assert code == 2 and "nothing cached has the key '0123456789'" in err
    assert len(entries(cache)) == 2  # nothing was removed before the error
    code, _, err = run("evict", "")
    assert code == 2 and "is the beginning of several" in err


def test_what_was_used_stays_when_the_old_goes(cache: Path, run: Run) -> None:
    old, used = place(cache, "images", "birds", "ViT-B", 30), entries(cache)
    for entry in used:
        os.utime(entry.paths[0], (0, time.time() - 40 * DAY))
    assert old.open() is not None
    code, out, _ = run("evict", "--older-than", "30")
    assert code == 0 and "3 of 4 removed" in out
    assert stored(cache) == [("images", "birds", "ViT-B", 30)]
    assert "0 of 1 removed" in run("evict", "--older-than", "30")[1]


def test_a_mapped_array_lives_on(cache: Path, run: Run) -> None:
    mapped = place(cache, "images", "birds", "ViT-B", 30).open()
    run("evict", "--all")
    assert mapped is not None and float(mapped.sum()) == 120.0
    assert place(cache, "images", "birds", "ViT-B", 30).open() is None


@pytest.mark.parametrize("words", [[], ["--all", "--dataset", "birds"], ["ab", "--all"]])
def test_one_way_of_naming_is_asked_for(cache: Path, run: Run, words: list[str]) -> None:
    code, _, err = run("evict", *words)
    assert code == 2 and "say what to evict: KEY..., --all, or any of" in err
    assert len(entries(cache)) == 4


def test_an_unknown_name_is_refused_with_the_known(cache: Path, run: Run) -> None:
    code, _, err = run("evict", "--dataset", "bird")
    assert code == 2 and "nothing cached is of dataset 'bird'; there is: birds, cars" in err


def test_what_a_living_process_computes_is_kept(cache: Path, run: Run) -> None:
    new = place(cache, "images", "dogs", "ViT-B", 9)
    part = cache / f".tmp-{new.identity.key}-{'0' * 64}.npy-1-{'0' * 16}"
    part.write_bytes(bytes(2_000_000))
    os.utime(part, (0, 0))
    turn = new.turn()
    assert turn.take()
    try:
        assert "computing" in run("list")[1]
        code, out, _ = run("evict", "--all")
    finally:
        turn.give()
    assert code == 1 and part.exists() and "4 of 5 removed, " in out
    said = f"kept computing (2.0 MB, key {new.identity.key[:12]}): process {os.getpid()} on "
    assert said in out and "computes it now" in out
    code, out, _ = run("evict", "--all")  # its process has ended
    assert code == 0 and "removed unfinished (2.0 MB" in out and not part.exists()


def test_what_may_be_in_the_making_is_kept(cache: Path, mirror: Path, run: Run) -> None:
    """Parts of writes by another machine's ranks, which hold no lock here, and of a mirror."""
    part = cache / f".tmp-{'c' * 32}-{'0' * 64}.npy-1-{'0' * 16}"
    part.write_bytes(b"x")
    fetched = mirror.rename(mirror.with_name(f".{'d' * 32}-01234567"))
    code, out, _ = run("evict", "--all")
    assert code == 1 and part.exists() and fetched.exists()
    assert out.count("less than an hour ago") == 2
    for path in (part, fetched):
        os.utime(path, (0, time.time() - 2 * 3600))
    assert run("evict", "--all")[0] == 0 and not part.exists() and not fetched.exists()


def test_leftovers_and_damage_can_be_evicted(cache: Path, mirror: Path, run: Run) -> None:
    first, second, *_ = entries(cache)
    first.paths[0].write_text("{")  # a damaged sidecar
    second.paths[0].unlink()  # an array that nothing names
    (cache / f"{'e' * 32}.npy").write_bytes(b"x")  # of a version without sidecars
    (mirror / "manifest.json").write_text("{")
    for path in cache.glob("*.npy"):
        os.utime(path, (0, 0))
    assert [kind for kind, *_ in stored(cache)].count("damaged") == 2
    assert [kind for kind, *_ in stored(cache)].count("unfinished") == 2
    assert run("evict", first.key)[0] == 0
    assert not first.paths[0].exists() and not first.paths[1].exists()
    assert run("evict", "--all")[0] == 0 and entries(cache) == []


def test_a_lock_alone_is_no_entry(cache: Path) -> None:
    turn = Turn(cache, "f" * 32, "x")
    assert turn.take()
    (cache / ".locks" / f"{'f' * 32}.who").read_text()
    assert [e.kind for e in entries(cache)].count("computing") == 1
    turn.give()
    assert len(entries(cache)) == 4


def test_a_damaged_file_stops_a_study_before_it_starts(
    tiny_data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.features import image_features
    from data_recipes.core.dataset import open_dataset
    from methods.core.backbone import load_backbone
    from tests.tiny import TINY_SPEC

    cache, study = tmp_path / "features", tmp_path / "study.yaml"
    image_features(open_dataset(tiny_data / "tiny"), load_backbone(TINY_SPEC), cache)
    study.write_text(
        f"name: x\nbackbone: {{model: {TINY_SPEC.model}, random_seed: {TINY_SPEC.random_seed}}}\n"
        "datasets: [tiny]\nmethods: [zero-shot]\nshots: [1]\nseeds: [1]\n"
    )
    words = ["promptgrid", "run", str(study), "--data", str(tiny_data), "--cache", str(cache)]

    def code() -> object:
        monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "out"), "--dry-run"])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code

    assert code() in (0, None)
    (path,) = cache.glob("*.npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert code() == 2
    assert run("evict", path.name[:32], "--cache", str(cache))[0] == 0
    assert code() in (0, None)
