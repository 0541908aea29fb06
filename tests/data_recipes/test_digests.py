"""Official files are known by their content, others are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_recipes.core.digests import OFFICIAL, OfficialFile, sha256, stranger
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
