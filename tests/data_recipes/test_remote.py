"""Remote datasets over real HTTP and S3 on this machine: equal to local ones, honest in failure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec.implementations.http import HTTPFileSystem

from data_recipes.core import remote
from data_recipes.core.dataset import Dataset, check_dataset, open_dataset
from data_recipes.core.manifest import INDEX, MANIFEST
from data_recipes.core.model import DataError
from data_recipes.core.remote import Remote, place
from tests.shelves import BUCKET, Shelf, http_server, s3_server

TAR = "images-000001.tar"


@pytest.fixture(autouse=True)
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mirrors are kept; retries do not wait."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0))
    return tmp_path / "cache" / "promptgrid" / "remote"


@pytest.fixture
def copy(tiny_data: Path, tmp_path: Path) -> Path:
    """A data root of one's own."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture
def shelf(copy: Path) -> Iterator[Shelf]:
    """`copy` behind HTTP with ranges."""
    pytest.importorskip("aiohttp", reason="HTTP needs promptgrid[remote]")
    with http_server(copy) as server:
        yield server
    HTTPFileSystem.clear_instance_cache()


def same(there: Dataset, here: Dataset) -> None:
    assert there.manifest == here.manifest
    for entry in here.manifest.tasks:
        assert there.task(entry.name) == here.task(entry.name)
    assert dict(there.reader.stream()) == dict(here.reader.stream())
    ids = list(here.reader.index)[::-2]
    assert [there.reader.read(i) for i in ids] == [here.reader.read(i) for i in ids]
    assert list(there.reader.stream(ids)) == list(here.reader.stream(ids))
    pairs = zip(there.images(ids), here.images(ids), strict=True)
    assert all(one.tobytes() == other.tobytes() for one, other in pairs)


def test_a_dataset_behind_http_equals_the_local_one(
    shelf: Shelf, tiny_dataset: Dataset, mirrors: Path
) -> None:
    same(open_dataset(f"{shelf.url}/tiny"), tiny_dataset)
    assert check_dataset(f"{shelf.url}/tiny") == []
    assert not list(mirrors.glob("*/*.tar"))


def test_a_server_without_ranges_hands_out_each_shard_once(
    shelf: Shelf, tiny_dataset: Dataset, mirrors: Path
) -> None:
    shelf.ranges = False
    same(open_dataset(f"{shelf.url}/tiny"), tiny_dataset)
    shards = [shard.name for shard in tiny_dataset.manifest.shards]
    assert sorted(path.name for path in mirrors.glob("*/*.tar")) == shards
    assert [shelf.asked[name] for name in shards[1:]] == [1] * (len(shards) - 1)


def test_a_dataset_in_s3_equals_the_local_one(
    tiny_data: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, mirrors: Path
) -> None:
    with s3_server(monkeypatch) as files:
        files.put(str(tiny_data / "tiny"), f"{BUCKET}/deep/tiny", recursive=True)
        same(open_dataset(f"s3://{BUCKET}/deep/tiny"), tiny_dataset)
        assert not list(mirrors.glob("*/*.tar"))
        # A command line's Path has eaten a slash of the address.
        assert open_dataset(Path(f"s3://{BUCKET}/deep") / "tiny").manifest == tiny_dataset.manifest
        with pytest.raises(DataError, match=rf"s3://{BUCKET}/nobody/manifest\.json: nothing there"):
            open_dataset(f"s3://{BUCKET}/nobody")
        with pytest.raises(DataError, match=r"no-such-bucket/tiny/manifest\.json: nothing there"):
            open_dataset("s3://no-such-bucket/tiny")
        files.rm(f"{BUCKET}/deep/tiny/{TAR}")
        with pytest.raises(DataError, match=f"{TAR}: nothing there"):
            open_dataset(f"s3://{BUCKET}/deep/tiny").reader  # noqa: B018


def test_s3_without_credentials_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch) as files:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        type(files).clear_instance_cache()
        with pytest.raises(DataError, match="AWS_ACCESS_KEY_ID"):
            open_dataset(f"s3://{BUCKET}/tiny")


def test_small_files_are_fetched_once_for_a_content(shelf: Shelf, mirrors: Path) -> None:
    for _ in range(2):
        open_dataset(f"{shelf.url}/tiny")
    assert shelf.asked[INDEX] == 1 and shelf.asked[MANIFEST] == 2
    assert len(list(mirrors.iterdir())) == 1  # and nothing half made


def test_only_the_bytes_that_are_wanted_travel(shelf: Shelf, tiny_dataset: Dataset) -> None:
    reader = open_dataset(f"{shelf.url}/tiny").reader
    shelf.asked.clear()
    last = list(tiny_dataset.reader.index)[-1]
    reader.read(last)
    assert shelf.asked == {tiny_dataset.reader.index[last][0]: 1}


def test_errors_of_the_moment_are_waited_out(shelf: Shelf, tiny_dataset: Dataset) -> None:
    shelf.fail = {MANIFEST: [503, 500], TAR: [429]}
    same(open_dataset(f"{shelf.url}/tiny"), tiny_dataset)
    assert shelf.fail == {MANIFEST: [], TAR: []}


@pytest.mark.parametrize(
    ("status", "tries", "reason"),
    [(403, 1, "access denied"), (500, 4, "cannot be read: ClientResponseError: 500")],
)
def test_an_error_that_stays_is_told_with_its_address(
    shelf: Shelf, status: int, tries: int, reason: str
) -> None:
    shelf.fail = {MANIFEST: [status] * 9}
    with pytest.raises(DataError) as caught:
        open_dataset(f"{shelf.url}/tiny")
    assert str(caught.value).startswith(f"{shelf.url}/tiny/{MANIFEST}: {reason}")
    assert shelf.asked[MANIFEST] == tries


def test_no_server_and_no_dataset_are_told_apart(shelf: Shelf) -> None:
    with pytest.raises(DataError, match=r"nothing there.*a built dataset has a manifest"):
        open_dataset(f"{shelf.url}/nobody")
    with http_server(Path()) as gone:
        address = gone.url
    with pytest.raises(DataError, match="cannot be read: ClientConnectorError"):
        open_dataset(f"{address}/tiny")
    with pytest.raises(DataError, match="cannot be read: ClientConnectorError"):
        Remote(f"{address}/x").size()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "whole"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, f"{TAR}: nothing there"),
        (cut, f"{TAR}: .* bytes there, the manifest says"),
        (flip, r"sha256\); copy"),
    ],
    ids=["missing", "cut", "changed"],
)
def test_a_damaged_shard_is_noticed(
    copy: Path, shelf: Shelf, damage: Callable[[Path], None], reason: str, ranges: bool
) -> None:
    shelf.ranges = ranges
    damage(copy / "tiny" / TAR)
    with pytest.raises(DataError, match=reason) as caught:
        list(open_dataset(f"{shelf.url}/tiny").reader.stream())
    assert str(caught.value).startswith(f"{shelf.url}/tiny")


def test_a_shard_cut_while_it_is_used_is_noticed(copy: Path, shelf: Shelf) -> None:
    reader = open_dataset(f"{shelf.url}/tiny").reader
    path = copy / "tiny" / TAR
    last = [i for i, (shard, _, _) in reader.index.items() if shard == TAR][-1]
    _, offset, size = reader.index[last]
    path.write_bytes(path.read_bytes()[: offset + size - 1])
    with pytest.raises(DataError, match="bytes there, the manifest says"):
        reader.read(last)


@pytest.mark.parametrize("name", [INDEX, "tasks/composed/test.queries.jsonl"])
def test_small_files_of_another_build_are_refused_and_not_kept(
    copy: Path, shelf: Shelf, mirrors: Path, name: str
) -> None:
    path = copy / "tiny" / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match="differs from the manifest; copy the dataset") as caught:
        open_dataset(f"{shelf.url}/tiny")
    assert str(caught.value).startswith(f"{shelf.url}/tiny/")
    assert list(mirrors.iterdir()) == []


WITHOUT_EXTRA = """
import sys
sys.modules |= {"s3fs": None, "aiohttp": None}  # as if they were not installed
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import DataError
for url in ("s3://b/x", "https://h/x"):
    try:
        open_dataset(url)
    except DataError as error:
        print(error)
"""


def test_a_missing_extra_is_one_clear_error() -> None:
    run = [sys.executable, "-c", WITHOUT_EXTRA]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"s3://b/x/{MANIFEST}",
        f"https://h/x/{MANIFEST}",
    ]
    assert all(line.endswith("`pip install 'promptgrid[remote]'`") for line in lines)


def test_places() -> None:
    for text in ("s3://b/x/", "s3://b/x", Path("s3://b/x"), Remote("s3://b/x")):
        assert place(text) == Remote("s3://b/x")
    assert str(place(Path("https://h:1/a")) / "b") == "https://h:1/a/b"
    assert place("shards/s3:") == Path("shards/s3:")
    assert place("/s3:/b") == Path("/s3:/b")
