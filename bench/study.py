"""The study file: YAML, validated strictly, every error in one list before anything starts.

name: my-study
backbone: openmoji-vit                # or {model: ViT-B-16-quickgelu, pretrained: openai}
datasets: [openmoji-roles, openmoji-roles/image-text, openmoji-composed]
methods:
  - zero-shot
  - {name: coop, vary: {each: {n_ctx: [4, 8]}}}  # ablations: `bench.vary`
  - {name: coop, label: coop-csc, config: {class_specific: true}}
shots: [1, 2, 4, 8]                   # 0: no training on the dataset; learns on `source` instead
seeds: [1, 2, 3]
draws: [1, 2]                         # of the shots, crossed with the seeds; else the seed draws
few_shot: nested                      # or coop: the shots that CoOp's own code draws
evaluate_on: [openmoji-roles-grey]    # what was learned on each dataset is scored there too
source: openmoji-source               # what is learned at shots 0, and in a method's stage
descriptions: {openmoji-roles: d.json}  # for methods that learn from descriptions
training: {epochs: 20}                # over every method's own recipe
selection: {rule: validation, split: val}  # how options were chosen: fixed, validation or oracle
reproduces: [CF]                      # published numbers beside ours: results/published/sources.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bench import fields
from bench.method_entry import MethodEntry, Selection, Strict, plain_name
from bench.study_checks import (
    dataset_errors,
    described_file,
    description_errors,
    entries,
    option_errors,
)
from bench.study_file import StudyError, line, read_yaml, suggest
from bench.vary import Vary
from data_recipes.core.remote import Place
from data_recipes.core.sampler import Draw
from methods.core.backbone import DEFAULT, BackboneSpec
from methods.core.registry import method as registered_method
from results.published import sources


class RunOptions(Strict):
    """How cells are spread over the machine; nothing here changes a number beyond rounding.

    gangs: groups of ranks that work side by side; None: as many as the machine has room for.
    ranks_per_cell: DeepSpeed ranks that share one cell. threads_per_rank: CPU threads of each.
    gpu: None takes GPUs where there are any. zero_stage: DeepSpeed ZeRO stage.
    seeds_together: up to so many cells (None: all) that differ in the seed train in one pass, where
        the method can and a cell has one rank: bit-close to separate runs, not bit-equal.
    compile: encode images through torch.compile where a GPU does it; CPUs run as without.
    """

    gangs: int | None = fields.runtime(default=None, gt=0)
    ranks_per_cell: int = fields.runtime(default=1, gt=0)
    threads_per_rank: int = fields.runtime(default=1, gt=0)
    gpu: bool | None = fields.runtime(default=None)
    zero_stage: int = fields.runtime(default=0, ge=0, le=3)
    seeds_together: int | None = fields.runtime(default=1, gt=0)
    compile: bool = fields.runtime(default=False)


def _backbone_from_text(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class Study(Strict):
    """A grid of cells: methods x datasets x shots x seeds over one frozen backbone.

    draws: seeds of the few-shot draw, crossed with `seeds`, which then train; None: the seed draws.
    evaluate_on: datasets that every trained method is scored on too (transfer).
    source: the dataset that methods learn on, all of it, at shots 0 or in a stage before.
    descriptions: dataset -> file of descriptions that methods may learn from, for its own.
    few_shot: the sampler: nested in the shots, or CoOp's own draw (`data_recipes.core.sampler`).
    selection: how the options of all methods were chosen, where an entry does not say otherwise.
    reproduces: codes of published sources (`results/published/sources.csv`) whose numbers stand
        beside this study's, also where the backbone or the split is another, which is then said.
    """

    name: str = fields.runtime()
    backbone: Annotated[BackboneSpec, BeforeValidator(_backbone_from_text)] = fields.identity(
        default=BackboneSpec(model=DEFAULT)
    )
    datasets: list[str] = fields.identity(min_length=1)
    methods: Annotated[list[MethodEntry], BeforeValidator(entries)] = fields.identity(min_length=1)
    evaluate_on: list[str] = fields.identity(default_factory=list)
    source: str | None = fields.identity(default=None)
    descriptions: dict[str, str] = fields.identity(default_factory=dict)
    shots: list[int] = fields.identity(min_length=1)
    seeds: list[int] = fields.identity(min_length=1)
    draws: list[int] | None = fields.identity(default=None, min_length=1)
    few_shot: Draw = fields.identity(default="nested")
    training: dict[str, Any] = fields.identity(default_factory=dict)
    selection: Selection = fields.runtime(default=Selection())
    reproduces: list[str] = fields.runtime(default_factory=list)
    run: RunOptions = fields.runtime(default=RunOptions())

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name, " (it names a folder)")

    @field_validator("reproduces")
    @classmethod
    def _published(cls, codes: list[str]) -> list[str]:
        known = list(sources().index)
        for code in codes:
            if code not in known:
                raise ValueError(f"no published source {code!r}; known: {', '.join(known)}")
        return codes

    @field_validator("datasets", "evaluate_on", "shots", "seeds", "draws")
    @classmethod
    def _once(cls, values: list[Any] | None) -> list[Any] | None:
        repeated = sorted({v for v in values or () if (values or []).count(v) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is listed more than once")
        return values

    @field_validator("shots")
    @classmethod
    def _learned_somewhere(cls, shots: list[int], info: ValidationInfo) -> list[int]:
        if min(shots) < 0:
            raise ValueError("shots must not be negative")
        if 0 in shots and info.data.get("source") is None:
            raise ValueError(
                "0 means no training on the dataset, so that a method that trains needs another "
                "one to learn on: name it with `source:`, or remove 0 (training-free methods run "
                "once in any case)"
            )
        listed: list[MethodEntry] | None = info.data.get("methods")
        staged = listed is None or any(registered_method(entry.name).stage for entry in listed)
        if 0 not in shots and info.data.get("source") is not None and not staged:
            raise ValueError(
                "`source:` is learned on at shots 0, or in the stage of a method that has one; "
                "add 0, or remove the source"
            )
        return shots

    @field_validator("seeds", "draws")
    @classmethod
    def _seedable(cls, seeds: list[int] | None) -> list[int] | None:
        if seeds is not None and min(seeds) < 0:
            raise ValueError("seeds must not be negative")
        return seeds

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Study:
        if self.draws is not None and max(self.shots) == 0:
            raise ValueError("draws: shots 0 draws nothing; remove draws, or add shots")
        return self

    @model_validator(mode="after")
    def _stages_have_a_source(self) -> Study:
        staged = [e.label or e.name for e in self.methods if registered_method(e.name).stage]
        if staged and self.source is None:
            raise ValueError(
                f"{', '.join(staged)}: trains a stage on another dataset first; name it with "
                "`source:`, for example `source: openmoji-source/captions`"
            )
        return self

    @model_validator(mode="after")
    def _own_datasets_and_shots_are_listed(self) -> Study:
        for number, entry in enumerate(self.methods):
            where = f"methods.{number} ({entry.name})"
            _listed(entry, where, "the study's", self.datasets, self.shots)
            if entry.vary is not None:
                own = entry.datasets or self.datasets, entry.shots or self.shots
                _listed(entry.vary, f"{where}.vary", "its method's", *own)
        return self

    @model_validator(mode="after")
    def _labels_differ(self) -> Study:
        labels = [entry.label or entry.name for entry in self.methods]
        repeated = sorted({v for v in labels if labels.count(v) > 1})
        if repeated:
            raise ValueError(f"two methods are called {repeated[0]!r}; give one of them a label")
        return self


def _listed(
    part: MethodEntry | Vary, where: str, whose: str, datasets: list[str], shots: list[int]
) -> None:
    """Raise ValueError where `part` names a dataset or shots that are not among these."""
    for count in part.shots or ():
        if count not in shots:
            raise ValueError(f"{where}.shots: {count} is not one of {whose} `shots` {shots}")
    for name in part.datasets or ():
        if name not in datasets:
            raise ValueError(
                f"{where}.datasets: {name!r} is not one of {whose} `datasets`"
                f"{suggest(name, datasets)}"
            )


NESTED: dict[str, type[BaseModel]] = {
    "methods": MethodEntry,
    "run": RunOptions,
    "backbone": BackboneSpec,
    "selection": Selection,
    "vary": Vary,
}


def load_study(path: Path, data_root: Place, built: bool = True) -> Study:
    """Read and check a study file, its methods' options, recipes and datasets.

    built: False where datasets need not be built yet (see `bench.outline`).

    Raises:
        StudyError: with every error found, each with the way out.
    """
    raw = read_yaml(path)
    errors: list[str] = []
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        errors += [line(detail, Study, nested=NESTED) for detail in error.errors()]
    folder = path.resolve().parent
    errors += option_errors(raw) + dataset_errors(raw, data_root, built)
    errors += description_errors(raw, folder)
    if errors:
        raise StudyError(path, errors)
    files = {name: str(described_file(text, folder)) for name, text in study.descriptions.items()}
    return study.model_copy(update={"descriptions": files})


def backbone_of(text: str) -> BackboneSpec:
    """`openmoji-vit` or `MODEL/TAG`, as the command line names a backbone. Raises StudyError."""
    model, _, tag = text.partition("/")
    try:
        return BackboneSpec(model=model, pretrained=tag or None)
    except ValidationError as error:
        errors = [line(detail, BackboneSpec) for detail in error.errors()]
        raise StudyError(f"--backbone {text}", errors) from None
