"""Writing a shard: equal bytes for equal input, every id survives, work is used again."""

from __future__ import annotations

import hashlib
import io
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_recipes.core import strict_json
from data_recipes.core.images import ImageFile, RawImage
from data_recipes.core.model import DataError
from data_recipes.core.write import (
    Unit,
    Written,
    cut,
    decode_key,
    encode_key,
    make_shard,
    write_whole,
)
from tests.files import photo
from tests.shard_files import job, make_all, raw_images


def nothing(images: int) -> None:
    """No progress."""


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first = make_all(raw_images(5), tmp_path / "a")
    second = make_all(raw_images(5), tmp_path / "b")
    assert first == second
    assert [len(shard.rows) for shard in first] == [2, 2, 1]
    for shard in first:
        assert (tmp_path / "a" / shard.name).read_bytes() == (
            tmp_path / "b" / shard.name
        ).read_bytes()


def test_a_shard_has_the_bytes_of_webdatasets_own_writer(tmp_path: Path) -> None:
    """Short and long names, both orders of the endings, a file that fills its blocks."""
    images = [*raw_images(3), RawImage("x" * 300, photo(1), "png"), RawImage("j", photo(2), "jpg")]
    images.append(RawImage("full", photo(3) + b"\0" * (1024 - len(photo(3))), "png"))
    (made,) = make_all(images, tmp_path, per_shard=10)
    theirs = tmp_path / "theirs.tar"
    with wds.TarWriter(str(theirs), encoder=False, mtime=0) as writer:
        for image in images:
            meta = strict_json.canonical({"id": image.id, **image.meta}).encode()
            writer.write(
                {"__key__": encode_key(image.id), image.extension: image.data, "json": meta}
            )
    data = (tmp_path / made.name).read_bytes()
    assert data == theirs.read_bytes()
    assert (made.bytes, made.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for row, image in zip(made.rows, images, strict=True):
        assert data[row["offset"] : row["offset"] + row["size"]] == image.data
        assert row["sha256"] == hashlib.sha256(image.data).hexdigest()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_keys_are_plain_and_invertible(image_id: str) -> None:
    key = encode_key(image_id)
    assert decode_key(key) == image_id
    assert key.isascii()
    assert not set("./ ") & set(key)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([("x", "png"), ("x", "png")], "'x' occurs twice"),
        ([("x", "png"), ("y", "png"), ("z", "png"), ("x", "png")], "'x' occurs twice"),
        ([("", "png")], "an image has an empty id"),
        ([("\udc80", "png")], "is not valid Unicode"),
        ([("x", "json")], "'x': the extension 'json'"),
        ([("x", ".png")], "'x': the extension '.png'"),
        ([("x", "")], "'x': the extension ''"),
    ],
)
def test_images_that_a_shard_cannot_hold_are_refused(
    tmp_path: Path, images: list[tuple[str, str]], reason: str
) -> None:
    """Twice in one shard, and in two; nothing half is left of the shard."""
    with pytest.raises(DataError) as caught:
        make_all([RawImage(name, photo(1), ending) for name, ending in images], tmp_path)
    assert reason in str(caught.value)
    assert not list(tmp_path.glob(".tmp*"))


@dataclass(frozen=True)
class Halves:
    """One file, the two images of its halves."""

    path: Path
    given: tuple[str, ...] = ("left", "right")

    @property
    def ids(self) -> tuple[str, ...]:
        return (f"{self.path.stem}-left", f"{self.path.stem}-right")

    def fingerprint(self) -> str:
        return ImageFile("", self.path).fingerprint()

    def load(self, size: int | None) -> list[RawImage]:
        data = self.path.read_bytes()
        return [RawImage(f"{self.path.stem}-{side}", data, "png") for side in self.given]


def test_a_source_with_several_images_is_never_cut(tmp_path: Path) -> None:
    sources = []
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(photo(number))
        sources.append(Halves(tmp_path / f"{number}.png"))
    assert [[len(s.ids) for s in unit.sources] for unit in cut(sources, 5)] == [[2, 2]] * 2 + [[2]]
    assert [unit.images for unit in cut(sources, 1)] == [2] * 5
    (tmp_path / "1.png").unlink()
    made = make_all(sources, tmp_path / "out", per_shard=5)
    assert [row["id"] for row in made[0].rows] == ["0-left", "0-right"]
    reason = "No such file or directory"
    assert [(f.id, f.path, f.reason) for f in made[0].failures] == [
        (f"1-{side}", str(tmp_path / "1.png"), reason) for side in ("left", "right")
    ]


@dataclass(frozen=True)
class Several:
    """A source of some images."""

    ids: tuple[str, ...]
    path: None = None

    def fingerprint(self) -> str:
        return ""

    def load(self, size: int | None) -> list[RawImage]:
        raise AssertionError("cutting loads nothing")


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(1, 7))
def test_units_are_full_and_in_order(sizes: list[int], per_shard: int) -> None:
    sources = [Several(tuple(f"{n}/{i}" for i in range(size))) for n, size in enumerate(sizes)]
    units = list(cut(sources, per_shard))
    assert [source for unit in units for source in unit.sources] == sources
    assert [unit.name for unit in units] == [f"images-{n:06d}.tar" for n in range(len(units))]
    for unit, following in pairwise(units):
        assert unit.images <= per_shard or len(unit.sources) == 1
        assert unit.images + len(following.sources[0].ids) > per_shard


def test_a_source_that_breaks_its_promise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(photo(0))
    with pytest.raises(DataError, match=r"0\.png: the source gives the images .*mend the recipe"):
        make_all([Halves(tmp_path / "0.png", ("left",))], tmp_path / "out")


def photos(folder: Path, count: int) -> list[ImageFile]:
    """Files in `folder`."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(photo(number))
    return [ImageFile(str(number), folder / f"{number}.png") for number in range(count)]


def states(folder: Path) -> list[tuple[int, int]]:
    """Of each shard: inode and time of change, which a new file does not share."""
    stats = [path.stat() for path in sorted(folder.glob("*.tar"))]
    return [(stat.st_ino, stat.st_mtime_ns) for stat in stats]


def changed(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> list[int]:
    """Numbers of the shards that were made again."""
    return [n for n, (one, two) in enumerate(zip(before, after, strict=True)) if one != two]


def test_a_finished_shard_is_used_again(tmp_path: Path) -> None:
    sources, out = photos(tmp_path / "images", 6), tmp_path / "out"
    made, before = make_all(sources, out), states(out)
    assert make_all(sources, out) == made
    assert changed(before, states(out)) == []


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda folder: touch(folder / "images/3.png"), [1]),
        (lambda folder: (folder / "images/5.png").write_bytes(photo(77, 16)), [2]),
        (lambda folder: (folder / "out/images-000000.tar").write_bytes(b"cut"), [0]),
        (lambda folder: (folder / "out/records/images-000001.tar.json").write_text("{"), [1]),
        (lambda folder: (folder / "out/records/images-000001.tar.json").unlink(), [1]),
    ],
)
def test_only_shards_whose_input_or_output_changed_are_made_again(
    tmp_path: Path, change: Callable[[Path], object], again: list[int]
) -> None:
    sources, out = photos(tmp_path / "images", 6), tmp_path / "out"
    make_all(sources, out)
    change(tmp_path)
    before = states(out)
    made = make_all(sources, out)
    assert changed(before, states(out)) == again
    assert made == make_all(sources, tmp_path / "fresh")


@pytest.mark.parametrize("what", ["settings", "meta", "id", "extension"])
def test_other_settings_or_sources_are_other_input(tmp_path: Path, what: str) -> None:
    sources, out = raw_images(4), tmp_path / "out"
    make_all(sources, out)
    before = states(out)
    settings = "other" if what == "settings" else ""
    if what == "meta":
        sources[0] = replace(sources[0], meta={"n": 1})
    elif what == "id":
        sources[0] = replace(sources[0], id="other")
    elif what == "extension":
        sources[0] = replace(sources[0], extension="webp")
    assert make_all(sources, out, settings=settings) == make_all(sources, tmp_path / "fresh")
    assert changed(before, states(out)) == ([0, 1] if what == "settings" else [0])


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    """Even where size and time of the file are what they were: a disk may have been away."""
    sources, out = photos(tmp_path / "images", 4), tmp_path / "out"
    whole = photo(2)
    broken = tmp_path / "images/2.png"
    broken.write_bytes(whole[:-20] + b"\0" * 20)
    touch(broken)
    first, before = make_all(sources, out), states(out)
    assert [f.id for shard in first for f in shard.failures] == ["2"]
    assert make_all(sources, out) == first
    assert changed(before, states(out)) == []
    broken.write_bytes(whole)
    touch(broken)
    mended = make_all(sources, out)
    assert changed(before, states(out)) == [1]
    assert [shard.failures for shard in mended] == [[], []]
    assert [shard.rows for shard in mended] == [
        shard.rows for shard in make_all(sources, tmp_path / "fresh")
    ]


def test_a_shard_without_any_image_has_no_file(tmp_path: Path) -> None:
    sources, out = photos(tmp_path / "images", 4), tmp_path / "out"
    make_all(sources, out)
    for number in (2, 3):
        (tmp_path / f"images/{number}.png").unlink()
    _, empty = make_all(sources, out)
    assert (empty.rows, empty.bytes, len(empty.failures)) == ([], 0, 2)
    assert [path.name for path in out.glob("*.tar")] == ["images-000000.tar"]


def test_images_are_made_smaller_as_asked(tmp_path: Path) -> None:
    sources = [RawImage("big", photo(1, 64), "png"), RawImage("small", photo(2), "png")]
    common = job(tmp_path, image_size=16)
    made: Written = make_shard(Unit("images-000000.tar", tuple(sources)), common, nothing)
    data = (tmp_path / made.name).read_bytes()
    sizes = [
        Image.open(io.BytesIO(data[row["offset"] : row["offset"] + row["size"]])).size
        for row in made.rows
    ]
    assert sizes == [(16, 16), (8, 8)]


def test_every_image_is_counted(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    ticks: list[int] = []
    unit = Unit("images-000000.tar", tuple(raw_images(3)))
    for _ in range(2):
        make_shard(unit, job(tmp_path), ticks.append)
    assert ticks == [1, 1, 1, 3]


def test_a_full_disk_is_named_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A limit on the size of files does what a full disk does: write() fails without a name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    images = [RawImage("x", photo(1, 128) + b"\0" * 50_000, "png")]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            make_all(images, tmp_path)
        with pytest.raises(OSError, match="File too large") as again:
            write_whole(tmp_path / "text", b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "images-000000.tar")
    assert again.value.filename == str(tmp_path / "text")
    assert [path.name for path in tmp_path.iterdir()] == ["records"]
