"""Frozen features: right rows, computed once whoever comes, on any number of ranks."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import feature_store, features
from bench.feature_lock import Turn
from bench.features import image_features, view_features
from bench.train import Engine
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone, load_backbone
from tests.ranks import on_ranks
from tests.tiny import TINY_SPEC, TinyConfig, TinyRecipe


class Backwards(TinyRecipe):
    """The tiny recipe with its pictures in reverse order; its digest is the same."""

    def images(self) -> Iterator[RawImage]:
        yield from reversed(list(super().images()))


def arrays(cache: Path) -> list[Path]:
    """The arrays of a cache; each has its sidecar, and nothing else lies there but the locks."""
    found = sorted(cache.glob("*.npy"))
    names = {path.name for path in found} | {f"{path.name[:32]}.json" for path in found}
    assert {path.name for path in cache.iterdir()} - {".locks"} == names
    return found


def expected(dataset: Dataset, backbone: Backbone, image_id: str) -> torch.Tensor:
    (image,) = dataset.reader.images([image_id])
    assert isinstance(image, Image.Image)
    return backbone.encode_pixels(backbone.transform(image)[None])[0]


def test_every_row_is_its_images_feature(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    found = image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert found.features.dtype == torch.float32
    assert found.features.norm(dim=1).tolist() == pytest.approx([1.0] * 24)
    ids = list(tiny_dataset.reader.index)
    for image_id in reversed(ids):
        torch.testing.assert_close(
            found.at([image_id])[0], expected(tiny_dataset, tiny_backbone, image_id)
        )
    torch.testing.assert_close(found.at(ids[:3])[2], found.at([ids[2]])[0])


def test_batches_do_not_change_features(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = image_features(tiny_dataset, tiny_backbone, tmp_path / "a")
    monkeypatch.setattr(features, "BATCH", 5)
    cut = image_features(tiny_dataset, tiny_backbone, tmp_path / "b")
    assert whole.row == cut.row
    torch.testing.assert_close(whole.features, cut.features)


def test_the_second_call_reads_the_file(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = image_features(tiny_dataset, tiny_backbone, tmp_path)
    monkeypatch.delattr(features, "_compute")
    again = image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert torch.equal(first.features, again.features)
    assert len(arrays(tmp_path)) == 1


def test_each_dataset_has_its_own_file(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    build_dataset(TinyRecipe(TinyConfig(size=20)), tmp_path / "tiny")
    image_features(tiny_dataset, tiny_backbone, tmp_path / "cache")
    image_features(open_dataset(tmp_path / "tiny"), tiny_backbone, tmp_path / "cache")
    assert len(arrays(tmp_path / "cache")) == 2


def test_a_dataset_built_in_another_order_shares_the_file_rightly(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    build_dataset(Backwards(), tmp_path / "tiny")
    backwards = open_dataset(tmp_path / "tiny")
    assert backwards.manifest.digest == tiny_dataset.manifest.digest
    image_features(tiny_dataset, tiny_backbone, tmp_path / "cache")
    found = image_features(backwards, tiny_backbone, tmp_path / "cache")
    assert len(arrays(tmp_path / "cache")) == 1
    for image_id in ("train/red.0", "test/grey.1"):
        torch.testing.assert_close(
            found.at([image_id])[0], expected(tiny_dataset, tiny_backbone, image_id)
        )


def test_the_cut_into_shards_changes_no_bit(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "BATCH", 7)  # no multiple of either number of images a shard
    build_dataset(TinyRecipe(), tmp_path / "tiny", per_shard=11)
    other = open_dataset(tmp_path / "tiny")
    assert len(other.manifest.shards) == 3 and len(tiny_dataset.manifest.shards) == 5
    found = [
        image_features(dataset, tiny_backbone, tmp_path / str(number))
        for number, dataset in enumerate((tiny_dataset, other))
    ]
    assert torch.equal(found[0].features, found[1].features)


def test_an_unreadable_image_is_named(
    tiny_data: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_data / "tiny", tmp_path / "tiny"))
    dataset = open_dataset(folder)
    shard, offset, size = dataset.reader.index["train/blue.1"]
    data = bytearray((folder / shard).read_bytes())
    data[offset : offset + size] = bytes(size)
    (folder / shard).write_bytes(data)
    with pytest.raises(DataError, match=r"tiny: image 'train/blue\.1': not a readable image"):
        image_features(dataset, tiny_backbone, tmp_path / "cache")


def test_what_decides_the_values_has_its_own_file(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    """All images, some of them, views by seed and number, and another precision."""

    class Half(Backbone):
        precision = "bf16"

    half = Half.__new__(Half)
    half.__dict__.update(tiny_backbone.__dict__)
    ids = sorted(tiny_dataset.reader.index)[:3]
    for _ in range(2):
        image_features(tiny_dataset, tiny_backbone, tmp_path)
        image_features(tiny_dataset, half, tmp_path)
        image_features(tiny_dataset, tiny_backbone, tmp_path, only=ids)
        image_features(tiny_dataset, tiny_backbone, tmp_path, only=ids[:2])
        for seed, views in ((1, 2), (2, 2), (1, 3)):
            view_features(tiny_dataset, tiny_backbone, tmp_path, ids, seed, views)
    assert len(arrays(tmp_path)) == 7


@pytest.mark.parametrize("damage", ["shape", "cut", "empty", "one bit", "sidecar", "other sidecar"])
def test_a_damaged_file_is_refused_with_the_way_out(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path, damage: str
) -> None:
    image_features(tiny_dataset, tiny_backbone, tmp_path)
    (path,) = arrays(tmp_path)
    (sidecar,) = tmp_path.glob("*.json")
    if damage == "shape":
        np.save(path, np.zeros((23, 16), np.float32))
    elif damage == "one bit":
        data = bytearray(path.read_bytes())
        data[-7] ^= 1
        path.write_bytes(data)
    elif damage == "sidecar":
        os.truncate(sidecar, 100)
    elif damage == "other sidecar":
        sidecar.write_text('{"schema": 1, "shape": [24, 16]}')
    else:
        os.truncate(path, 200 if damage == "cut" else 0)
    with pytest.raises(DataError) as caught:
        image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert str(caught.value).startswith(str(sidecar if "sidecar" in damage else path))
    assert f"promptgrid cache evict {sidecar.stem} --cache {tmp_path}" in str(caught.value)


def test_an_array_without_a_sidecar_is_not_there(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    """A process that ended between the two files leaves nothing that is believed."""
    first = image_features(tiny_dataset, tiny_backbone, tmp_path).features.clone()
    (path,) = arrays(tmp_path)
    (sidecar,) = tmp_path.glob("*.json")
    sidecar.unlink()
    path.write_bytes(b"half")
    again = image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert torch.equal(first, again.features) and len(arrays(tmp_path)) == 1


def test_nothing_is_left_behind_when_writing_fails(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(feature_store.np, "save", full)
        with pytest.raises(OSError, match="No space left") as caught:
            image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert str(tmp_path) in str(caught.value.filename) and arrays(tmp_path) == []
    image_features(tiny_dataset, tiny_backbone, tmp_path)  # nobody holds the lock
    assert len(arrays(tmp_path)) == 1


@dataclass
class Noted:
    """The tiny backbone, which writes a line for each batch that it encodes; and may never end."""

    backbone: Backbone
    log: Path
    endless: bool = False

    def __post_init__(self) -> None:
        for name in ("digest", "label", "dim", "device", "transform"):
            setattr(self, name, getattr(self.backbone, name))

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        with self.log.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(600 if self.endless else 0.1)
        return self.backbone.encode_pixels(pixels)


def come(data: str, folder: str, name: str, endless: bool, gate: Barrier | None) -> None:
    """A process that wants the features, and writes those it got."""
    torch.set_num_threads(1)
    where = Path(folder)
    backbone = Noted(load_backbone(TINY_SPEC), where / "log", endless)
    features.BATCH = 7
    dataset = open_dataset(data)
    if gate is not None:
        gate.wait()
    found = image_features(dataset, backbone, where / "cache")  # type: ignore[arg-type]
    np.save(where / f"{name}.npy", found.features.numpy())


def eventually(what: Path) -> None:
    until = time.monotonic() + 120
    while not what.exists():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.05)


@pytest.mark.slow
def test_of_processes_that_come_at_the_same_moment_one_computes(
    tiny_data: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(3)
    names = ["a", "b", "c"]
    started = [
        context.Process(
            target=come, args=(str(tiny_data / "tiny"), str(tmp_path), name, False, gate)
        )
        for name in names
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0]
    log = (tmp_path / "log").read_text().split()
    assert len(log) == 4 and len(set(log)) == 1  # 24 images by 7, all by one process
    assert len({(tmp_path / f"{name}.npy").read_bytes() for name in names}) == 1
    assert len(arrays(tmp_path / "cache")) == 1


@pytest.mark.slow
def test_who_waits_for_a_process_that_is_killed_takes_over(tiny_data: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    data = str(tiny_data / "tiny")
    first = context.Process(target=come, args=(data, str(tmp_path), "first", True, None))
    first.start()
    eventually(tmp_path / "log")
    second = context.Process(target=come, args=(data, str(tmp_path), "second", False, None))
    second.start()
    second.join(15)
    assert second.is_alive() and not (tmp_path / "second.npy").exists()  # it waits
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.join(60)
    assert second.exitcode == 0 and (tmp_path / "second.npy").exists()
    log = (tmp_path / "log").read_text().split()
    assert log == [str(first.pid)] + [str(second.pid)] * 4


def on_rank(engine: Engine, data: str, folder: str) -> list[object]:
    """Wait for the test, which holds the lock; then meet a damaged file."""
    features.ROUND_S = 0.3
    dataset, backbone, cache = open_dataset(data), load_backbone(TINY_SPEC), Path(folder) / "cache"
    Path(folder, f"here-{engine.rank}").touch()
    found = image_features(dataset, backbone, cache, engine).features.clone()
    after = Path(folder, "given").exists()
    torch.distributed.barrier()
    if engine.rank == 0:
        (path,) = arrays(cache)
        np.save(path, np.zeros((24, 16), np.float32))
    torch.distributed.barrier()
    with pytest.raises(DataError) as caught:
        image_features(dataset, backbone, cache, engine)
    return [found, after, str(caught.value)]


@pytest.mark.slow
def test_ranks_wait_for_another_process_and_fail_together(
    tiny_data: Path, tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    alone = image_features(tiny_dataset, tiny_backbone, tmp_path / "alone")
    (sidecar,) = (tmp_path / "alone").glob("*.json")
    turn = Turn(tmp_path / "cache", sidecar.stem, "a test")
    assert turn.take()

    def give() -> None:
        for rank in (0, 1):
            eventually(tmp_path / f"here-{rank}")
        time.sleep(2)  # several rounds
        assert arrays(tmp_path / "cache") == []
        (tmp_path / "given").touch()
        turn.give()

    with ThreadPoolExecutor(1) as pool:
        given = pool.submit(give)
        both = on_ranks(on_rank, 2, tmp_path, str(tiny_data / "tiny"), str(tmp_path))
        given.result()
    for found, after, said in both:
        torch.testing.assert_close(found, alone.features)
        assert after and "damaged frozen features" in said and "promptgrid cache evict" in said
