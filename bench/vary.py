"""Ablations: the combinations of options that `vary:` names, each once and never the base itself.

methods:
  - name: coop
    config: {n_ctx: 4}                  # the base
    vary:
      grid: {n_ctx: [4, 16], class_token_position: [front, middle, end]}   # the full grid
      each: {ctx_init: [a photo of a], training.lr: [0.01]}                # one at a time
      cases: [{n_ctx: 8, class_specific: true}]                            # named combinations
      shots: [4]                        # of the entry's shots; also `datasets:`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bench import fields

RECIPE = "training."
"""What the name of an option of the training recipe begins with."""

Values = Annotated[list[Any], Field(min_length=1)]


class Vary(BaseModel):
    """What an ablation changes: options of the method, or of its recipe (`training.lr`).

    grid: option -> values, all combinations. each: option -> values, one option at a time. cases:
    combinations as they are. datasets, shots: those of the entry that the ablation runs on; None:
    all of them.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    grid: dict[str, Values] = fields.identity(default_factory=dict)
    each: dict[str, Values] = fields.identity(default_factory=dict)
    cases: list[dict[str, Any]] = fields.identity(default_factory=list)
    datasets: list[str] | None = fields.identity(default=None, min_length=1)
    shots: list[int] | None = fields.identity(default=None, min_length=1)

    @property
    def options(self) -> dict[str, str]:
        """Option -> the first place below `vary` that names it."""
        named = {name: f"grid.{name}" for name in self.grid}
        named = {**{name: f"each.{name}" for name in self.each}, **named}
        for number, case in enumerate(self.cases):
            for name in case:
                named.setdefault(name, f"cases.{number}.{name}")
        return named


def combinations(vary: Vary) -> list[dict[str, Any]]:
    """Every combination as it is written, in the order grid, each, cases; some may be equal."""
    grid = [dict(zip(vary.grid, values, strict=True)) for values in product(*vary.grid.values())]
    each = [{name: value} for name, values in vary.each.items() for value in values]
    return [one for one in (*grid, *each, *vary.cases) if one]


def differing(
    base: Mapping[str, Any], settings: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any] | None]:
    """What each setting changes of `base`; None: nothing, or what one before it changes.

    settings: all options of each, checked and with defaults, as `base` has them (JSON values).
    """
    seen = {_text({})}
    found: list[dict[str, Any] | None] = []
    for setting in settings:
        changed = {
            name: value for name, value in setting.items() if _text(value) != _text(base.get(name))
        }
        found.append(None if _text(changed) in seen else changed)
        seen.add(_text(changed))
    return found


def label(base: str, varied: Mapping[str, Any]) -> str:
    """What tables call an ablation: `coop[n_ctx=16, class_token_position=front]`."""
    return f"{base}[{words(varied)}]"


def words(varied: Mapping[str, Any]) -> str:
    """`n_ctx=16, class_token_position=front`; true, false and null as YAML has them."""
    return ", ".join(f"{name}={_shown(value)}" for name, value in varied.items())


def _shown(value: Any) -> str:
    plain = isinstance(value, str) and value.isprintable()
    return value if plain else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    """1, 1.0 and true are three values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
