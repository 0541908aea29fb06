"""All plots of a report: which there are, and the same bytes whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib

from results.plots import KINDS, write_plots
from results.report import write_report
from results.store import RecordStore


def test_every_kind_is_drawn(tmp_path: Path, study: list[dict[str, Any]], make_record: Any) -> None:
    for shots in (1, 4):
        varied = make_record("coop", shots=shots, variant="m-1", accuracy=0.1)
        varied["cell"] |= {"ablation_of": "coop", "varied": {"m": 1}}
        study.append(varied)
    folders = []
    for name in ("a", "b"):
        store = RecordStore(tmp_path / name)
        for record in study:
            store.write(record)
        with matplotlib.rc_context({"font.size": 20.0 if name == "b" else 10.0}):
            paths = write_report(store, tmp_path / name)
        folders.append({p.name: p.read_bytes() for p in paths if p.parent.name == "plots"})
        random.Random(1).shuffle(study)
    assert folders[0] == folders[1]
    kinds = Counter(next(k for k in KINDS if name.startswith(f"{k}-")) for name in folders[0])
    assert kinds == {
        "shots": 4,
        "ranks": 4,
        "losses": 4,
        "costs": 4,
        "scores": 2,
        "average-ranks": 10,
        "ablation": 2,
    }


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert write_plots(_answers(tmp_path), tmp_path / "plots") == []


def test_plots_of_sets_that_are_gone_are_deleted(tmp_path: Path, make_record: Any) -> None:
    old = tmp_path / "out" / "plots" / "ranks-gone-123456.svg"
    other = old.with_name("mine.svg")
    old.parent.mkdir(parents=True)
    for path in (old, other):
        path.write_text("<svg/>")
    RecordStore(tmp_path).write(make_record())
    write_report(tmp_path, tmp_path / "out")
    assert other.is_file()
    assert not old.is_file()


def _answers(root: Path) -> Any:
    from results.answers import answers

    return answers(RecordStore(root))
