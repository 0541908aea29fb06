"""One method of a study with its options, and the ablations that its `vary:` makes of it."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from bench import fields
from bench.vary import RECIPE, Vary, combinations, differing, label
from methods.core.config import MethodConfig, Training
from methods.core.registry import UnknownMethodError
from methods.core.registry import method as registered_method

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Strict(BaseModel):
    """A part of a study: no unknown keys, no loose types, never changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Selection(Strict):
    """How the options were chosen; no table holds "oracle" beside the others.

    rule: fixed beforehand, chosen on a validation split, or on what is scored (oracle). split:
    what they were chosen on.
    """

    rule: Literal["fixed", "validation", "oracle"] = fields.runtime(default="fixed")
    split: str | None = fields.runtime(default=None, min_length=1)

    @model_validator(mode="after")
    def _says_where(self) -> Selection:
        if self.rule == "fixed" and self.split is not None:
            raise ValueError(
                f"rule fixed chooses on no split; remove split {self.split!r}, or say validation "
                "or oracle"
            )
        if self.rule != "fixed" and self.split is None:
            raise ValueError(
                f"rule {self.rule} needs the split that the options were chosen on, for example "
                f"`split: {'val' if self.rule == 'validation' else 'test'}`"
            )
        return self


def plain_name(name: str, used_as: str = "") -> str:
    """`name`, which stands in names of files. Raises ValueError on other characters."""
    if not _NAME.fullmatch(name):
        raise ValueError("use letters, digits, '.', '_' and '-'" + used_as)
    return name


class MethodEntry(Strict):
    """One method of a study, perhaps with options.

    label: its name in tables (default: name). training: over the method's recipe and the study's
    changes to it. stage_training: over the recipe of its stage. datasets, shots: those of the
    study's `datasets` that it learns on, and of its `shots`; None: all of them. selection: how its
    options were chosen; None: as the study says. vary: its ablations, in a table of their own.
    """

    name: str = fields.identity()
    label: str | None = fields.runtime(default=None)
    config: dict[str, Any] = fields.identity(default_factory=dict)
    training: dict[str, Any] = fields.identity(default_factory=dict)
    stage_training: dict[str, Any] = fields.identity(default_factory=dict)
    datasets: list[str] | None = fields.identity(default=None, min_length=1)
    shots: list[int] | None = fields.identity(default=None, min_length=1)
    selection: Selection | None = fields.runtime(default=None)
    vary: Vary | None = fields.identity(default=None)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            registered_method(name)
        except UnknownMethodError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("label")
    @classmethod
    def _plain(cls, label: str | None) -> str | None:
        return None if label is None else plain_name(label)

    @property
    def called(self) -> str:
        """Its name in tables."""
        return self.label or self.name

    def checked(self) -> MethodConfig:
        """The validated options with all defaults. Raises pydantic's ValidationError."""
        return registered_method(self.name).Config.model_validate(self.config)

    def options(self) -> dict[str, Any]:
        """`checked` as a mapping."""
        return self.checked().model_dump()

    def recipe(self, overrides: dict[str, Any]) -> Training | None:
        """The method's recipe with the study's and this entry's changes; None: trains nothing."""
        kind = registered_method(self.name)
        if not kind.learns(self.checked()):
            return None
        own = kind.recipe.model_dump()
        return Training.model_validate({**own, **overrides, **self.training})

    def stage_recipe(self) -> Training | None:
        """The recipe of the method's stage with this entry's changes; None: it has no stage."""
        stage = registered_method(self.name).stage
        if stage is None:
            return None
        return Training.model_validate({**stage.model_dump(), **self.stage_training})


class Ablation(MethodEntry):
    """An entry with some of its options changed. ablation_of: the entry's name in tables."""

    ablation_of: str = fields.runtime()
    varied: dict[str, Any] = fields.runtime()


def changed(entry: MethodEntry, options: dict[str, Any]) -> MethodEntry:
    """The entry with these of `vary`'s options; nothing is checked."""
    recipe = {k.removeprefix(RECIPE): v for k, v in options.items() if k.startswith(RECIPE)}
    own = {k: v for k, v in options.items() if not k.startswith(RECIPE)}
    update = {"config": {**entry.config, **own}, "training": {**entry.training, **recipe}}
    return entry.model_copy(update=update)


def ablations(entry: MethodEntry, overrides: dict[str, Any]) -> list[Ablation]:
    """What `vary` makes of a checked entry: each combination once, none that is the entry itself.

    overrides: the study's changes to all recipes.
    """
    vary = entry.vary
    if vary is None:
        return []
    recipe = [name for name in vary.options if name.startswith(RECIPE)]

    def settings(one: MethodEntry) -> dict[str, Any]:
        training = one.recipe(overrides)
        known = {} if training is None else training.model_dump(mode="json")
        return {
            **one.checked().model_dump(mode="json"),
            **{name: known[name.removeprefix(RECIPE)] for name in recipe if known},
        }

    made = [changed(entry, options) for options in combinations(vary)]
    differences = differing(settings(entry), map(settings, made))
    return [
        Ablation.model_construct(
            **{name: getattr(one, name) for name in MethodEntry.model_fields}
            | {
                "label": label(entry.called, varied),
                "datasets": vary.datasets or entry.datasets,
                "shots": vary.shots or entry.shots,
                "vary": None,
                "ablation_of": entry.called,
                "varied": varied,
            }
        )
        for one, varied in zip(made, differences, strict=True)
        if varied is not None
    ]
