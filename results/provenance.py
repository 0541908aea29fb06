"""Where shipped records come from: complete or refused; and the leaderboard's front page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any

from matplotlib import ft2font
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from results.history import coordinates, title
from results.shipped import compact

DRAWING = ("matplotlib", "numpy")
"""Packages whose version may change a plot's bytes; FreeType comes inside of matplotlib."""

_Text = Annotated[str, Field(min_length=1)]


class _Git(BaseModel):
    revision: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    changed: bool


class _Hardware(BaseModel):
    processor: _Text
    cores: Annotated[int, Field(ge=1)]
    memory_bytes: Annotated[int, Field(ge=1)]
    gpus: list[str]
    system: _Text


class Provenance(BaseModel):
    """What a record must say before it may stand in a leaderboard."""

    model_config = ConfigDict(strict=True)

    git: _Git
    packages: Annotated[dict[str, _Text], Field(min_length=1)]
    python: _Text
    hardware: _Hardware


def incomplete(provenance: Mapping[str, Any]) -> str:
    """What a record's provenance lacks, in one line; empty if nothing."""
    try:
        Provenance.model_validate(provenance)
    except ValidationError as error:
        lacks = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return f"provenance is incomplete ({'; '.join(lacks)}); run from a git checkout"
    return ""


def drawn_with() -> dict[str, str]:
    """Versions of what draws plots; where they are equal, equal records give equal plots."""
    installed = {name: version(name) for name in DRAWING}
    return {**installed, "freetype": str(ft2font.__freetype_version__)}


def readme(records: Sequence[Mapping[str, Any]]) -> str:
    """The leaderboard's front page: what made its records. Markdown, the same for any order."""
    said = [record["provenance"] for record in records]
    changed = sorted(
        f"- {_escaped(title(coordinates(record['cell'])))} (key `{record['key'][:12]}`)"
        for record in records
        if (record["provenance"].get("git") or {}).get("changed")
    )
    parts = [
        "# Leaderboard under version control",
        f"[Tables](tables/leaderboard.md) and plots of {len(records)} records. All files here are "
        "made by `promptgrid leaderboard` and checked by `promptgrid leaderboard --check`; "
        "every change of a score stands in [history.jsonl](history.jsonl).",
        _counted("revision", (_revision(one.get("git") or {}) for one in said)),
        _counted("hardware", (_machine(one.get("hardware") or {}) for one in said)),
        _counted("packages", (_packages(one) for one in said)),
    ]
    if changed:
        parts += ["Made from a changed tree, whose changes no revision holds:", "\n".join(changed)]
    return "\n\n".join(parts) + "\n"


def _counted(heading: str, said: Iterable[str]) -> str:
    rows = [f"| {_escaped(text)} | {count} |" for text, count in sorted(Counter(said).items())]
    return "\n".join([f"| {heading} | records |", "| :-- | --: |", *rows])


def _revision(git: Mapping[str, Any]) -> str:
    return str(git.get("revision")) + (" (changed tree)" if git.get("changed") else "")


def _machine(hardware: Mapping[str, Any]) -> str:
    gpus = [f"{n} x {name}" for name, n in sorted(Counter(hardware.get("gpus") or ()).items())]
    cores = f"{hardware.get('cores')} cores"
    return ", ".join([str(hardware.get("processor")), cores, *gpus, str(hardware.get("system"))])


def _packages(provenance: Mapping[str, Any]) -> str:
    packages = {"python": provenance.get("python"), **(provenance.get("packages") or {})}
    return ", ".join(f"{name} {packages[name]}" for name in sorted(packages))


def _escaped(text: str) -> str:
    """Text that cannot leave its table cell or become HTML."""
    plain = compact(text)[1:-1].replace('\\"', '"').replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("|", "\\|").replace("`", "'")
