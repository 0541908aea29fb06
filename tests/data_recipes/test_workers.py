"""Worker processes: equal files whatever their number, and no end of theirs costs finished work.

A named pipe in the place of an image stands for a read that hangs: whoever opens it waits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from data_recipes.core.dataset import check_dataset
from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from data_recipes.core.workers import POOL_FROM, make_shards
from data_recipes.core.write import cut
from tests.files import Deadly, build_photos, make_files, photo
from tests.shard_files import job

COUNT = 260  # in 13 shards
HANGING = 130  # an image of the seventh


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come soon."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_any_number_of_workers_gives_equal_files(tmp_path: Path) -> None:
    folders = make_files(tmp_path, COUNT)
    (tmp_path / "images/p033.png").unlink()
    assert COUNT > POOL_FROM
    for workers in (1, 2, 3):
        build_photos(folders, tmp_path / f"w{workers}", workers, allow_missing=True)
    one = content(tmp_path / "w1")
    assert len(one) == 13 + 4
    assert content(tmp_path / "w2") == one
    assert content(tmp_path / "w3") == one


def test_relative_paths_hold_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, COUNT)
    monkeypatch.chdir(tmp_path)
    build_photos(Folders(Path("annotations"), Path("images")), Path("out"), workers=2)
    assert check_dataset(tmp_path / "out") == []


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A build with two workers in a process group of its own; all but one shard are done."""
    make_files(tmp_path, COUNT)
    (tmp_path / f"images/p{HANGING}.png").unlink()
    os.mkfifo(tmp_path / f"images/p{HANGING}.png")
    places = [str(tmp_path / name) for name in ("annotations", "images", "out")]
    build = subprocess.Popen(
        [sys.executable, "-m", "tests.files", *places],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    until(lambda: len(list(tmp_path.glob(".out.building/records/*.json"))) == 12)
    yield build
    if build.poll() is None:
        os.killpg(build.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C"])
def test_a_stopped_build_continues(
    hanging: subprocess.Popen[str], tmp_path: Path, how: str
) -> None:
    family = psutil.Process(hanging.pid).children(recursive=True)
    if how == "kill -9":
        hanging.kill()  # its children are not told
    else:
        os.killpg(hanging.pid, signal.SIGINT)
    _, said = hanging.communicate(timeout=60)
    assert hanging.returncode == (-9 if how == "kill -9" else -2)
    assert how == "kill -9" or said.count("Traceback") == 1, "workers have nothing to say"
    until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family))
    made = tmp_path / ".out.building" / "dataset"
    before = {path.name: path.stat().st_ino for path in made.glob("images-*.tar")}
    assert len(before) == 12
    assert not (tmp_path / "out").exists()

    image = tmp_path / f"images/p{HANGING}.png"
    image.unlink()
    image.write_bytes(photo(HANGING))
    folders = Folders(tmp_path / "annotations", tmp_path / "images")
    build_photos(folders, tmp_path / "out", workers=2)
    after = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert len(after) == 13
    assert before.items() <= after.items()
    build_photos(folders, tmp_path / "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")
    assert not (tmp_path / ".out.building").exists()


def test_the_death_of_a_worker_is_one_error(tmp_path: Path) -> None:
    sources = [RawImage(f"i{n}", photo(n), "png") for n in range(POOL_FROM)]
    units = cut([*sources, Deadly(0)], 20)
    with pytest.raises(DataError, match=r"a worker process died .* the same command continues"):
        make_shards(units, job(tmp_path), 2, lambda tried: None)
    assert len(list(tmp_path.glob("records/*.json"))) >= 8  # of ten; three at a time


def test_few_units_are_held_at_a_time(tmp_path: Path) -> None:
    """Pictures that a recipe draws are drawn as they are needed, not all before the first shard."""
    ahead: list[int] = []

    def drawn() -> Iterator[RawImage]:
        for number in range(600):
            if number % 20 == 0:
                done = len(list((tmp_path / "records").glob("*.json")))
                ahead.append(number // 20 - done)
            yield RawImage(f"i{number}", photo(number), "png")

    common = job(tmp_path)
    made = make_shards(cut(drawn(), 20), common, 2, lambda tried: None)
    assert [shard.name for shard in made] == [f"images-{n:06d}.tar" for n in range(30)]
    assert max(ahead) <= POOL_FROM // 20 + 2


def test_progress_reaches_the_number_of_images(tmp_path: Path) -> None:
    for workers in (1, 2):
        seen: list[int] = []
        folder = tmp_path / str(workers)
        sources = [RawImage(f"i{n}", photo(n), "png") for n in range(COUNT)]
        make_shards(cut(sources, 20), job(folder), workers, seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == COUNT
