"""What a gang loads before its first cell: the imports, and what all cells of the run share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cell_spec import Cell
from bench.learned import home_of
from bench.loaded import Inputs
from bench.train import Engine
from cluster.gang import RankContext


def to_warm_up(cells: Sequence[Cell]) -> dict[str, Any]:
    """The payload of `warm_up` for a run of these cells: one of them, and what they share.

    Which gang gets which dataset is not known before, so only what all have is loaded ahead.
    """
    shared = {
        "trains": any(cell.training is not None for cell in cells),
        "backbone": len({cell.backbone_digest for cell in cells}) == 1,
        "data": len({(cell.dataset_digest, cell.task, cell.trained_on) for cell in cells}) == 1,
    }
    return {"cell": cells[0].model_dump_json(), **shared}


def warm_up(payload: dict[str, Any], context: RankContext) -> None:
    """Import and load, on every rank of a gang. Raises what loading raises."""
    cell = Cell.model_validate_json(payload["cell"])
    if payload["trains"]:
        import deepspeed  # noqa: F401  (a second or two)
    if not payload["backbone"]:
        return
    engine = Engine(device=context.device, compile=cell.compile)
    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, engine)
    inputs.backbone().text_features(["a photo"])  # the tokenizer, and the first operators
    if payload["data"]:
        inputs.data(cell.dataset, cell.dataset_digest, cell.task)
        home_of(cell, inputs)
