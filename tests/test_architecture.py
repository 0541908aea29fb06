"""Four wings and a roof: who may import whom, and what lies at the top level."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "data_recipes": {"data_recipes"},
    "results": {"results"},
    "cluster": {"cluster"},
    "methods": {"methods", "data_recipes.core"},
    "bench": {"bench", "methods", "data_recipes", "results", "cluster"},
}
LONGEST = 350


def modules() -> list[Path]:
    return sorted(path for wing in MAY_IMPORT for path in (ROOT / wing).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_wing_imports_only_what_it_may(path: Path) -> None:
    wing = path.relative_to(ROOT).parts[0]
    ours = {name for name in imported(path) if name.split(".")[0] in (*MAY_IMPORT, "tests")}
    for name in ours:
        allowed = any(name == a or name.startswith(f"{a}.") for a in MAY_IMPORT[wing])
        assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_one_subject(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("from bench.cell import Cell\nimport results.store\n")
    assert imported(tmp_path / "x.py") == {"bench.cell", "results.store"}


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        listed["package-dir"].get(name, name.replace(".", "/")) for name in listed["packages"]
    }
    assert folders >= {str(path.parent.relative_to(ROOT)) for path in modules()}
    assert all((ROOT / folder).is_dir() for folder in folders)
