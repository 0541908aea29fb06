"""Records as one tidy table: one row per record and metric."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from sys import intern
from typing import Any

import numpy as np
import pandas as pd

from results.store import RecordStore

TABLE = (
    "dataset",
    "task",
    "protocol",
    "backbone",
    "data_version",
    "backbone_version",
    "oracle",
)
"""Numbers are comparable only where all of these agree: one table, one figure for each."""

SERIES = (*TABLE, "method", "variant", "trained_on", "ablation_of", "trains")
"""One row of a table, one line of a plot."""

REPLICATE = ("draw", "seed")
"""What the runs of one row at one shot count differ in; draw is -1 where the seed draws too."""

COLUMNS = (
    *SERIES,
    "shots",
    "draw",
    "seed",
    "metric",
    "value",
    "headline",
    "n_queries",
    "tie_rate",
    "trainable_parameters",
    "last_loss_ratio",
    "train_seconds",
    "score_seconds",
    "world_size",
    "gpu",
    "peak_bytes",
    "notes",
    "study",
    "key",
)

_OF_A_RECORD = [name for name in COLUMNS if name not in ("metric", "value", "headline")]
_TYPES = {
    "trains": bool,
    "shots": int,
    "draw": int,
    "seed": int,
    "n_queries": int,
    "gpu": bool,
    "trainable_parameters": int,
}
"""Without rows pandas cannot know them."""
_ORDER = [name for name in SERIES if name != "trains"] + ["shots", *REPLICATE]
_OPTIONAL = ("variant", "trained_on", "data_version", "backbone_version", "ablation_of")
_CHANCE = re.compile(r"chance(?: level)?\s*[:=]\s*([0-9.]+(?:[eE]-?[0-9]+)?)")


def load(root: Path) -> pd.DataFrame:
    """All records below `root`; see `from_records`."""
    return from_records(RecordStore(root).records())


def from_records(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Tidy frame with `COLUMNS`, sorted, so that the order of the records does not matter.

    `value` is a fraction; `headline` marks the rows of each record's headline metric;
    `variant` and the like are "" where a cell has none (group keys must not be missing); `notes`
    are joined by newlines. `last_loss_ratio` says how far the loss has grown, `train_seconds` and
    `score_seconds` are wall time of `world_size` ranks on GPUs (`gpu`) or not, `peak_bytes` the
    peak memory of the device; NaN where a record does not say. Stages are left out (see
    `stages.stage_cells`).

    Records are taken one at a time and only what the columns need is kept.
    """
    facts: list[tuple[Any, ...]] = []
    names: list[str] = []
    values: list[float] = []
    headlines: list[bool] = []
    counts: list[int] = []
    for record in records:
        if is_stage(record) or not record["metrics"]:
            continue
        facts.append(_facts(record))
        for metric, value in sorted(record["metrics"].items()):
            names.append(intern(metric))
            values.append(float(value))
            headlines.append(metric == record["headline"])
        counts.append(len(record["metrics"]))
    frame = _joined(pd.DataFrame(facts, columns=_OF_A_RECORD).astype(_TYPES))
    order = frame.sort_values([*_ORDER, "key"], kind="stable").index.to_numpy()
    starts = np.cumsum([0, *counts])[:-1]
    sizes = np.array(counts, dtype=np.int64)[order]
    # Row by row of the sorted records: where its metrics lie in the lists.
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    lies = np.repeat(starts[order], sizes) + within
    rows = frame.take(np.repeat(order, sizes)).reset_index(drop=True)
    rows["metric"] = pd.Series(names, dtype="str").take(lies).to_numpy()
    rows["value"] = np.array(values, dtype=np.float64)[lies]
    rows["headline"] = np.array(headlines, dtype=bool)[lies]
    return rows[[*COLUMNS]]


def _facts(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a record says beside its metrics, in the order of `COLUMNS`."""
    at, timings, engine = place(record["cell"]), record["timings"], record["engine"]
    memory = record["memory"]
    gpu = engine.get("device") == "cuda"
    told = {
        **at,
        "n_queries": record["n_queries"],
        "tie_rate": float(record["tie_rate"]),
        "trainable_parameters": record["trainable_parameters"],
        "last_loss_ratio": last_loss_ratio(record["loss_curve"]),
        "train_seconds": float(timings.get("train", math.nan)),
        "score_seconds": float(timings.get("score", math.nan)),
        "world_size": int(engine.get("world_size", 1)),
        "gpu": gpu,
        "peak_bytes": float(
            memory.get("gpu_peak_bytes" if gpu else "process_peak_bytes", math.nan)
        ),
        "notes": "\n".join(record["notes"]),
        "study": record["cell"]["study"],
        "key": record["key"],
    }
    # Equal names of many records are one object.
    return tuple(
        intern(entry) if type(entry) is str else entry
        for entry in map(told.__getitem__, _OF_A_RECORD)
    )


def last_loss_ratio(curve: Sequence[Sequence[float]]) -> float:
    """The median loss of the last fifth over the highest of the first half.

    Single batches differ: the last loss over the first says little. NaN under two steps, or where
    the first half is not above 0.
    """
    losses = [float(loss) for _, loss in curve]
    first, last = losses[: len(losses) // 2], losses[-max(1, len(losses) // 5) :]
    return median(last) / max(first) if first and max(first) > 0 else math.nan


def _joined(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that state no versions (somebody else's predictions) join the one table they fit.

    Where there are several versions of a dataset or backbone they stay apart.
    """
    tables = frame[[*TABLE]].drop_duplicates()
    known = tables[tables["data_version"] != ""]
    named, rest = list(TABLE[:4]), list(TABLE[4:])
    only = known[~known.duplicated(named, keep=False)].set_index(named)[rest]
    lost = frame["data_version"] == ""
    if only.empty or not lost.any():
        return frame
    found = frame.loc[lost, named].join(only, on=named).dropna()
    frame.loc[found.index, rest] = found[rest]
    return frame


def place(cell: Mapping[str, Any], unknown: str = "?") -> dict[str, Any]:
    """Where a record's or failure's `cell` stands: `SERIES`, shots and `REPLICATE`.

    `oracle` is "oracle" where options were chosen on the scored split, else "". What a failure
    does not state is `unknown`, -1 for shots and seed.
    """
    named = {
        name: str(cell.get(name) or ("" if name in _OPTIONAL else unknown))
        for name in SERIES
        if name not in ("oracle", "trains")
    }
    shots, seed, draw = (cell.get(name) for name in ("shots", "seed", "draw"))
    return {
        **named,
        "oracle": "oracle" if cell.get("selection") == "oracle" else "",
        "trains": bool(cell.get("trains", shots != 0)),
        # -1 keeps the columns integers and sorts unknown cells first.
        "shots": -1 if shots is None else int(shots),
        "draw": -1 if draw is None else int(draw),
        "seed": -1 if seed is None else int(seed),
    }


def is_stage(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a stage; older records do not say, and are not."""
    return bool(record["cell"].get("stage"))


def series_label(method: str, variant: str, trained_on: str = "") -> str:
    """What tables and plots call a row: its variant's label, and where it learned elsewhere."""
    return (variant or method) + (f" (from {trained_on})" if trained_on else "")


def label_of(row: Mapping[Any, Any]) -> str:
    """`series_label` of a frame's or board's row."""
    return series_label(row["method"], row["variant"], row["trained_on"])


def chance_level(notes: Iterable[str]) -> float | None:
    """The chance level that any of these notes states, as a fraction."""
    for note in notes:
        for line in note.splitlines():
            if match := _CHANCE.fullmatch(line.strip()):
                return float(match.group(1))
    return None


def remarks(notes: Iterable[str]) -> list[str]:
    """All distinct note lines, sorted, without the chance level."""
    lines = {line.strip() for note in notes for line in note.splitlines()}
    return sorted(line for line in lines if line and not _CHANCE.fullmatch(line))
