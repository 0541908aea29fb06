"""Official files are known by their content, others are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_recipes.core import digests
from data_recipes.core.digests import OFFICIAL, OfficialFile, git_blob, sha256, stranger
from tests.pack import DATA, needs_pack, write


@needs_pack
@pytest.mark.parametrize("file", OFFICIAL, ids=lambda file: f"{file.family}/{file.name}")
def test_the_files_of_the_pack_are_known(file: OfficialFile) -> None:
    found = [path for path in DATA.rglob(Path(file.name).name) if file.family in path.parts]
    for path in found:
        assert sha256(path) == file.sha256
        assert stranger(path, file.family) is None


def test_another_content_is_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "val.json", [])
    assert stranger(path, "circo") == (
        "val.json is not the official file (its digest is none of the circo files known)"
    )
    assert stranger(path, "karpathy") is None


def test_a_file_known_by_gits_own_id_is_official(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cap.rc2.train.json"
    path.write_bytes(b"hello\n")
    assert git_blob(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert stranger(path, "cirr") is not None
    monkeypatch.setitem(digests.GIT_BLOBS, git_blob(path), ("cirr", path.name))
    assert stranger(path, "cirr") is None
    assert stranger(path, "fdrd") is not None
