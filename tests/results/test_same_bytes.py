"""Equal records give equal bytes: in other processes, with other settings, in another order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from results.store import RecordStore
from tests.results.conftest import synthetic_record
from tests.results.test_notebook import write

ROOT = Path(__file__).resolve().parents[2]
REPORT = """
import sys
from pathlib import Path
from results.report import write_report
if __name__ == "__main__":
    write_report(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def records() -> list[dict[str, Any]]:
    """Methods with seeds, crossed draws, an ablation, a stage, hostile names."""
    draw = random.Random(5)
    found = []
    for dataset in ("roles", "gest\u00fcres"):
        found.append(synthetic_record("zero-shot", 0, 0, 0.2, dataset))
        for method in ("coop", "\u00dcber_100%"):
            for shots in (1, 4):
                for seed in (1, 2, 3):
                    score = 0.3 + draw.random() / 9
                    found.append(synthetic_record(method, shots, seed, score, dataset))
    for seed in (1, 2, 3):
        varied = synthetic_record("coop", 4, seed, 0.3 + draw.random() / 9, variant="ctx4")
        varied["cell"] |= {"ablation_of": "coop", "varied": {"n_ctx": 4}}
        found.append(varied)
        for other in (1, 2):
            crossed = synthetic_record("crossed", 4, seed, 0.3 + draw.random() / 9)
            crossed["cell"]["draw"] = other
            found.append(crossed)
    named = [sha256(f"{record['key']}{record['cell']}".encode()).hexdigest() for record in found]
    return [record | {"key": key} for record, key in zip(found, named, strict=True)]


@pytest.mark.slow
def test_other_processes_orders_and_settings(tmp_path: Path) -> None:
    every = records()
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 30\nsvg.fonttype: none\nlines.linewidth: 7\nbackend: svg\n")
    ways = {
        "one": {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        "two": {
            "PYTHONHASHSEED": "99",
            "TZ": "Pacific/Auckland",
            "LC_ALL": "C",
            "OMP_NUM_THREADS": "3",
            "MPLBACKEND": "pdf",
            "MATPLOTLIBRC": str(settings),
        },
    }
    running = []
    for number, (name, env) in enumerate(ways.items()):
        store = write(tmp_path / name / "store", every)
        store.write_failure("lost", {"reason": f"OSError: /tmp/{name}/x is full"})
        words = [sys.executable, "-c", REPORT, str(store.root), str(tmp_path / name / "out")]
        folder = tmp_path if number else ROOT
        known = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        running.append(subprocess.Popen(words, env=known, cwd=folder))
        every = every[::-1]
    assert [process.wait() for process in running] == [0, 0]
    first, second = (contents(tmp_path / name / "out") for name in ways)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    kinds = {Path(name).name.split("-")[0].split(".")[0] for name in first}
    assert kinds >= {"leaderboard", "comparisons", "ablations", "shots", "ranks", "losses", "costs"}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_outcomes_of_queries_in_another_order(tmp_path: Path) -> None:
    from results.answers import answers

    plain = write(tmp_path / "a", records())
    mixed = RecordStore(tmp_path / "b")
    for record in records()[::-1]:
        ranks = plain.read_ranks(record["key"])
        assert ranks is not None
        mixed.write(plain.read(record["key"]), ranks.sample(frac=1, random_state=3))
    first, second = (answers(store) for store in (plain, mixed))
    assert first.comparisons.equals(second.comparisons)
    assert first.ablations.equals(second.ablations)


@pytest.mark.slow
def test_processes_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from results import plots
    from results.answers import answers

    monkeypatch.setattr(plots, "MANY", 2)
    found = answers(write(tmp_path / "store", records()[:9]))
    for processes in (1, 2):
        plots.write_plots(found, tmp_path / str(processes), processes)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
