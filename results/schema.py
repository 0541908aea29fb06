"""What `record.json` must hold, and the checks a record passes before it is stored or read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SCHEMA_VERSION = 1

# Metrics are sums of fractions: the last bit may fall above 1.
Fraction = Annotated[float, Field(ge=0.0, le=1.0 + 1e-9)]
Name = Annotated[str, Field(min_length=1)]


class RecordError(ValueError):
    """A record that may not be stored, or a stored one that cannot be read."""


class Cell(BaseModel):
    """The coordinates of a cell, as tables and plots group by them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    study: Name
    method: Name
    dataset: Name
    task: Name
    shots: int = Field(ge=0)
    seed: int = Field(ge=0)
    backbone: Name
    protocol: Name
    variant: str | None
    trained_on: str | None = None
    """`dataset/task` that the method learned on, where it is not the one it is scored on."""
    trains: bool
    """False: a training-free method, whose one cell at shots 0, seed 0 stands for all shots."""
    stage: bool = False
    """True: a method's stage, a training on all of a source before its own; in no leaderboard."""
    data_version: str = ""
    """The first twelve digits of the dataset's digest."""
    backbone_version: str = ""
    """The first twelve digits of the backbone's digest."""
    selection: Literal["fixed", "validation", "oracle"] = "fixed"
    """How the options were chosen: beforehand, on a validation split, or on what is scored."""
    selection_split: str | None = None
    """The split that the options were chosen on; None where they were fixed beforehand."""
    ablation_of: str | None = None
    """Label of the method that an ablation varies; such a record is in no leaderboard."""
    varied: dict[str, Any] = {}
    """Option -> value of an ablation, where it differs from its base."""
    draw: int | None = Field(default=None, ge=0)
    """Seed of the few-shot draw, where the study crosses it with the training seed."""

    @model_validator(mode="after")
    def _training_free_is_one_cell(self) -> Cell:
        if not self.trains and (self.shots, self.seed) != (0, 0):
            raise ValueError("a cell with trains = false has shots 0 and seed 0")
        if self.trains and self.shots == 0 and self.trained_on is None:
            raise ValueError(
                "shots 0 is the column of methods that do not train (trains = false), or that "
                "learned on another dataset (trained_on)"
            )
        if self.stage and not (self.trains and (self.shots, self.seed) == (0, 0)):
            raise ValueError("a stage trains on all of its source: trains = true, shots 0, seed 0")
        return self


class Record(BaseModel):
    """Schema 1 of `record.json`. Metrics are fractions in [0, 1], never percent."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    schema_version: Literal[1] = Field(alias="schema")
    key: Name
    identity: dict[str, Any]
    cell: Cell
    metrics: dict[str, Fraction]
    statistics: dict[str, float] = {}
    """What is no fraction: rsum (a sum of percentages), medr and meanr (ranks)."""
    withheld: bool = False
    """True: the targets are not public, so that there is no metric; `promptgrid submit`."""
    headline: Name
    n_queries: int = Field(ge=1)
    n_used: int | None = Field(default=None, ge=1)
    """Queries that could be asked; the others lack an image and count as misses."""
    tie_rate: Fraction
    loss_curve: list[tuple[int, float]]
    trainable_parameters: int = Field(ge=0)
    timings: dict[str, Annotated[float, Field(ge=0.0)]]
    memory: dict[str, Any]
    engine: dict[str, Any]
    provenance: dict[str, Any]
    notes: list[str]
    """Printed below the leaderboard, word for word: keep times, paths and host names out.

    `chance: 0.0056` states the headline metric's chance level; tables and plots draw it.
    """

    @model_validator(mode="after")
    def _headline_is_measured(self) -> Record:
        if self.withheld:
            if self.metrics:
                raise ValueError("metrics of withheld targets cannot be; withheld or measured")
            return self
        if not self.metrics:
            raise ValueError("metrics are empty; a record without targets says withheld = true")
        if self.headline not in self.metrics:
            raise ValueError(f"headline {self.headline!r} is not among the metrics")
        return self


def to_json(record: Mapping[str, Any]) -> str:
    """Canonical text of a checked record: sorted keys, no NaN, one trailing newline."""
    check_json_values(record)
    text = json.dumps(record, sort_keys=True, allow_nan=False, ensure_ascii=False, indent=1) + "\n"
    from_json(text)
    return text


def from_json(text: str | bytes) -> dict[str, Any]:
    """Parse and check the text of one `record.json`.

    Raises `RecordError` that names every wrong field.
    """
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise RecordError("not a JSON object")
    if raw.get("schema") != SCHEMA_VERSION:
        raise RecordError(
            f"schema is {raw.get('schema')!r}, this version of promptgrid reads {SCHEMA_VERSION}"
        )
    try:
        Record.model_validate_json(text)
    except ValidationError as error:
        # pydantic counts a tuple's length in the path as well; join all parts as one dotted path.
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'record'}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise RecordError("; ".join(problems)) from error
    return raw


def check_json_values(value: object, path: str = "") -> None:
    """Raise `RecordError` naming the path of the first value that JSON cannot hold exactly.

    JSON has no NaN and no numpy scalars; a silent conversion would hide where they came from.
    """
    where = path or "record"
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecordError(
                f"{where} is {value}: JSON has no such number. Leave the value out and store the "
                "reason in `notes`, or record the cell as failed"
            )
        return
    if isinstance(value, Mapping):
        for name, entry in value.items():
            if not isinstance(name, str):
                raise RecordError(f"{where} has the key {name!r}, which is not a string")
            check_json_values(entry, f"{path}.{name}" if path else name)
        return
    if isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            check_json_values(entry, f"{where}[{index}]")
        return
    raise RecordError(f"{where} is a {type(value).__name__}; convert it to a plain JSON value")


def _refuse_constant(text: str) -> float:
    raise RecordError(f"holds {text}, which is not JSON")
