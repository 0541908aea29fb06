"""Shards: equal bytes for equal input, every id survives, every damage is noticed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import webdataset as wds
from PIL import Image

from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError
from data_recipes.core.shards import (
    ShardReader,
    decode,
    verify_shards,
)
from data_recipes.core.write import decode_key
from tests.shard_files import raw_images, write_images
from tests.tiny import png


def jpeg(data: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((256, 256)).save(stream, "JPEG")
    return stream.getvalue()


STRANGE_IDS = (
    "a.b.c",
    "with blank",
    "folder/sub/file.v2",
    "ÄÖ-日本-🎨",
    "50%25",
    "__meta__",
    "-dash",
    "~tilde",
    "../up",
    "C:\\x",
    "a+b&c=d?#",
    "UPPER",
    "upper",
    "long" * 60,
)


@pytest.mark.parametrize("per_shard", [1, 3, 100])
def test_images_are_read_back_by_id_and_in_order(tmp_path: Path, per_shard: int) -> None:
    images = raw_images(7)
    write_images(tmp_path, images, per_shard)
    reader = ShardReader.open(tmp_path)
    assert list(reader.stream()) == [(image.id, image.data) for image in images]
    for image in reversed(images):
        assert reader.read(image.id) == image.data
    pixels = [picture.getpixel((2, 6)) for picture in reader.images(["i6", "i1"])]
    assert pixels == [decode(images[6].data, "").getpixel((2, 6)), (255, 255, 255)]


def test_some_images_are_streamed_in_shard_order(tmp_path: Path) -> None:
    images = raw_images(9)
    write_images(tmp_path, images, per_shard=4)
    reader = ShardReader.open(tmp_path)
    assert list(reader.stream(["i8", "i2", "i5", "i0"])) == [
        (images[n].id, images[n].data) for n in (0, 2, 5, 8)
    ]
    assert list(reader.stream([])) == []
    with pytest.raises(DataError, match="image 'nobody' is not in the shards"):
        list(reader.stream(["i1", "nobody"]))


def test_shards_are_plain_webdataset(tmp_path: Path) -> None:
    images = raw_images(5)
    shards, _ = write_images(tmp_path, images)
    urls = [str(tmp_path / shard.name) for shard in shards]
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    assert [(decode_key(s["__key__"]), s["png"]) for s in samples] == [
        (image.id, image.data) for image in images
    ]


def test_strange_ids_survive(tmp_path: Path) -> None:
    images = [RawImage(name, png((n, 0, 0), n), "png") for n, name in enumerate(STRANGE_IDS)]
    write_images(tmp_path, images, per_shard=4)
    reader = ShardReader.open(tmp_path)
    assert list(reader.index) == list(STRANGE_IDS)
    assert dict(reader.stream()) == {image.id: image.data for image in images}
    assert all(reader.read(image.id) == image.data for image in images)


def test_an_unknown_id_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, raw_images(2))
    with pytest.raises(DataError, match="image 'nobody' is not in the shards"):
        ShardReader.open(tmp_path).read("nobody")


def test_a_missing_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"index\.parquet: no index; build the dataset again"):
        ShardReader.open(tmp_path)


def test_a_missing_shard_is_noticed_on_opening(tmp_path: Path) -> None:
    shards, _ = write_images(tmp_path, raw_images(5))
    (tmp_path / shards[1].name).unlink()
    with pytest.raises(DataError, match=r"images-000001\.tar: missing shard; build"):
        ShardReader.open(tmp_path)
    assert verify_shards(tmp_path, shards) == [f"{tmp_path / shards[1].name}: missing"]


def test_a_truncated_shard_is_noticed_on_opening(tmp_path: Path) -> None:
    shards, index = write_images(tmp_path, raw_images(4))
    path = tmp_path / shards[1].name
    last = index.iloc[3]
    path.write_bytes(path.read_bytes()[: last["offset"] + last["size"] - 1])
    with pytest.raises(DataError, match=r"images-000001\.tar: the shard is cut off"):
        ShardReader.open(tmp_path)
    (line,) = verify_shards(tmp_path, shards)
    assert "bytes, the manifest says" in line


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    shards, index = write_images(tmp_path, raw_images(4))
    path = tmp_path / shards[0].name
    data = bytearray(path.read_bytes())
    data[index.iloc[0]["offset"] + 40] ^= 1
    path.write_bytes(data)
    assert verify_shards(tmp_path, shards) == [
        f"{path}: content differs from the manifest (sha256)"
    ]


def test_intact_shards_verify(tmp_path: Path) -> None:
    shards, _ = write_images(tmp_path, raw_images(4))
    assert verify_shards(tmp_path, shards) == []


WHOLE = png((200, 0, 0), 1, 32)
WHOLE_JPEG = jpeg(WHOLE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><body>404 Not Found</body></html>",
        WHOLE[:20],
        WHOLE[: len(WHOLE) // 2],
        WHOLE_JPEG[: len(WHOLE_JPEG) // 2],
        b"\0" * 500,
    ],
    ids=["empty", "html", "header only", "half", "half a jpeg", "zeros"],
)
def test_unreadable_images_are_refused_with_source_and_size(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        decode(data, "image 'x'")
    assert str(caught.value).startswith(f"image 'x': not a readable image ({len(data)} bytes): ")
    assert len(str(caught.value)) < 200


def test_decoding_gives_rgb() -> None:
    image = decode(WHOLE, "x")
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert image.getpixel((10, 20)) == (200, 0, 0)
