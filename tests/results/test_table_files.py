"""All table files of a report, from records to text."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from results.answers import answers
from results.document import visible
from results.markdown import escape
from results.store import RecordStore
from results.table_files import plain_csv, table_files
from tests.results.boards import QUERIES, cell, some_cells
from tests.results.hostile import NAME
from tests.results.test_html import OURS, Page
from tests.results.test_latex import compiled, needs_latex
from tests.results.test_markdown import READER

Cells = list[tuple[dict[str, Any], pd.DataFrame]]
ENDINGS = ("md", "html", "tex")


def files(
    root: Path, cells: Cells, expected: Any = None, failures: Sequence[dict[str, Any]] = ()
) -> dict[str, str]:
    """The tables of a store that holds these records, written in this order."""
    store = RecordStore(root)
    for record, ranks in cells:
        store.write(record, ranks=ranks)
    for failed in failures:
        store.write_failure(failed["key"], {"reason": f"Error: {NAME}", "cell": failed["cell"]})
    return table_files(answers(store, expected))


def planned(record: dict[str, Any]) -> dict[str, Any]:
    return {"key": record["key"], **record["cell"]}


def hostile_cells() -> Cells:
    """Names with every format's special characters, in every place that has a name."""
    cells = []
    for number, (method, shots) in enumerate([("coop", 1), ("cocoop", 1), ("free", 0)]):
        for seed in (1, 2) if shots else (0,):
            record, ranks = cell(method, shots, seed, 20 + 5 * number + seed)
            names = {"method": f"{method} {NAME}", "dataset": NAME, "task": NAME}
            record["cell"] |= names | {"backbone": NAME, "protocol": f"`{NAME}`"}
            record["notes"] = [NAME, "chance: 0.1"]
            record["key"] = f"hostile-{record['key']}"
            cells.append((record, ranks))
    ablation, ranks = cell("coop", 1, 1, 30, variant=f"v {NAME}")
    ablation["cell"] = cells[0][0]["cell"] | {
        "variant": f"v {NAME}",
        "ablation_of": cells[0][0]["cell"]["method"],
        "varied": {"n_ctx": 4},
    }
    ablation["key"] = "hostile-ablation"
    return [*cells, (ablation, ranks)]


def test_hostile_names_in_every_file(tmp_path: Path) -> None:
    cells = hostile_cells()
    lost, _ = cell("lost", 1, 9)
    lost["cell"]["dataset"] = NAME
    expected = [planned(record) for record in [*(record for record, _ in cells), lost]]
    found = files(tmp_path, cells, expected, [lost])
    page = Page(found["leaderboard.html"])
    assert page.tags <= OURS
    assert "script" not in page.tags
    words = " ".join(page.texts)
    assert words.count(f"coop {visible(NAME)}") > 5
    read = Page(READER.render(found["leaderboard.md"]))
    assert read.tags <= OURS
    assert "script" not in read.tags
    assert f"coop {visible(NAME)}" in " ".join(read.texts)
    rows = list(csv.DictReader(io.StringIO(found["leaderboard.csv"])))
    assert {row["dataset"] for row in rows} == {NAME}
    assert Page(found["ablations.html"]).tags <= OURS
    assert escape(f"v {NAME}") in found["ablations.md"]


@needs_latex
def test_hostile_names_compile_in_every_file(tmp_path: Path) -> None:
    found = files(tmp_path / "store", hostile_cells())
    for name in ("leaderboard.tex", "ablations.tex", "published.tex"):
        folder = tmp_path / name
        folder.mkdir()
        compiled(found[name] + "Some text, so that there is a page.", folder)


def test_value_interval_n_ties_and_ranks(tmp_path: Path) -> None:
    cells = [
        cell(method, 1, seed, right)
        for method, right in (("a", 36), ("b", 36), ("c", 4))
        for seed in (1, 2, 3)
    ]
    found = files(tmp_path, cells)
    assert "| a | **90.0 ± 0.0 (3)** · 1-2 |" in found["leaderboard.md"]
    assert "| c | 10.0 ± 0.0 (3) · 3 |" in found["leaderboard.md"]
    assert "<strong>90.0 ± 0.0 (3)</strong><small>1-2</small>" in found["leaderboard.html"]
    assert (
        "\\textbf{90.0 \\ensuremath{\\pm} 0.0 (3)} {\\scriptsize 1--2}" in found["leaderboard.tex"]
    )
    assert "Bold: statistically tied with the best of the column" in found["leaderboard.md"]
    pairs = list(csv.DictReader(io.StringIO(found["comparisons.csv"])))
    assert [(row["first"], row["second"]) for row in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert "Comparisons at 1 shot: 3 pairs, 2 significantly different" in found["leaderboard.md"]
    stands = list(csv.DictReader(io.StringIO(found["standings.csv"])))
    assert [row["tied"] for row in stands] == ["True", "True", "False"]


def test_all_tied_are_all_bold(tmp_path: Path) -> None:
    cells = [cell(method, 1, seed, 20) for method in ("a", "b", "c") for seed in (1, 2)]
    text = files(tmp_path, cells)["leaderboard.md"]
    assert [line for line in text.splitlines() if "· 1-3 |" in line and "**" in line] == [
        f"| {method} | **50.0 ± 0.0 (2)** · 1-3 |" for method in ("a", "b", "c")
    ]


def test_untrained_methods_stand_in_every_column(tmp_path: Path) -> None:
    text = files(tmp_path, some_cells())["leaderboard.md"]
    header, _, first = text.split("\n\n")[3].splitlines()[:3]
    assert header == "| method | 1 shot | 2 shots |"
    free = [entry.strip(" *").split(" (")[0] for entry in first.split("|")[2:-1]]
    assert len(set(free)) == 1
    assert "stand in every column" in text


def test_missing_and_failed_cells_are_named(tmp_path: Path) -> None:
    there, ranks = cell(seed=1)
    missing, failed = cell(seed=2)[0], cell("lost", seed=1)[0]
    store = RecordStore(tmp_path)
    store.write(there, ranks=ranks)
    reason = "RuntimeError: a | b"
    store.write_failure(failed["key"], {"reason": reason, "cell": failed["cell"]})
    found = table_files(answers(store, [planned(r) for r in (there, missing, failed)]))
    assert "1 missing, 1 failed." in found["leaderboard.md"]
    assert "failed: RuntimeError: a \\| b" in found["leaderboard.md"]
    for ending in ENDINGS:
        assert "50.0 (1 of 2)" in found[f"leaderboard.{ending}"]
    for key in (missing["key"], failed["key"]):
        assert all(key in found[f"leaderboard.{ending}"] for ending in ENDINGS)
    rows = list(csv.DictReader(io.StringIO(found["leaderboard.csv"])))
    assert {row["absent"] for row in rows if row["headline"] == "True"} == {
        "seed 2 missing",
        "seed 1 failed: RuntimeError: a | b",
    }


def test_a_failure_with_unknown_coordinates_is_listed(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    record, ranks = cell()
    store.write(record, ranks=ranks)
    store.write_failure("lost", {"reason": "gone"})
    text = table_files(answers(store))["leaderboard.md"]
    assert "| ?/? | ? | ? | ? | ? | ? | failed: gone | lost |" in text
    assert "## ?" not in text


def test_nothing_and_one_method(tmp_path: Path) -> None:
    empty = files(tmp_path / "empty", [])
    for ending in ENDINGS:
        assert "No records yet." in empty[f"leaderboard.{ending}"]
        assert "No ablations among these records." in empty[f"ablations.{ending}"]
        assert "No published numbers" in empty[f"published.{ending}"]
    assert empty["comparisons.csv"].startswith("dataset,task,protocol")
    record, ranks = cell()
    one = files(tmp_path / "one", [(record, ranks)])["leaderboard.md"]
    assert "| coop | 50.0 (1) |" in one
    assert "Comparisons at" not in one
    planned_only = table_files(answers(RecordStore(tmp_path / "none"), [planned(record)]))
    assert "not measured yet in %" in planned_only["leaderboard.md"]
    assert "| coop | missing |" in planned_only["leaderboard.md"]


def test_what_could_not_be_compared_is_said(tmp_path: Path) -> None:
    records = [cell(method, 1, 1, right)[0] for method, right in (("a", 30), ("b", 10))]
    store = RecordStore(tmp_path)
    for record in records:
        store.write(record)
    text = table_files(answers(store))["leaderboard.md"]
    assert "1 pair, 0 significantly different, 1 that could not be compared" in text
    assert "what could not be compared counts as tied" in text


def test_ablations_stand_apart(tmp_path: Path) -> None:
    cells = [cell(seed=seed, right=20) for seed in (1, 2, 3)]
    for seed in (1, 2, 3):
        record, ranks = cell(seed=seed, right=34, variant="four")
        record["cell"] |= {
            "variant": "coop[n_ctx=4]",
            "ablation_of": "coop",
            "varied": {"n_ctx": 4},
        }
        cells.append((record, ranks))
    found = files(tmp_path, cells)
    for name, text in found.items():
        if not name.startswith("ablations"):
            assert "n_ctx" not in text, name
    line = next(row for row in found["ablations.md"].splitlines() if row.startswith("| n_ctx=4"))
    assert line.startswith("| n_ctx=4 | 1 | 50.0 | 85.0 | **+35.0** | +")
    assert "ablations of coop" in found["ablations.md"]
    assert "\\textbf{+35.0}" in found["ablations.tex"]


def test_the_same_records_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    cells = [*some_cells(), *hostile_cells()]
    first = files(tmp_path / "a", cells)
    random.Random(3).shuffle(cells)
    assert files(tmp_path / "b", cells) == first


def test_many_methods_print_the_pairs_with_the_best(tmp_path: Path) -> None:
    cells = [cell(f"m{n:02}", 1, seed, 5 + n) for n in range(12) for seed in (1, 2)]
    found = files(tmp_path, cells)
    assert len(found["comparisons.csv"].splitlines()) == 66 + 1
    folded = found["leaderboard.md"].split("<details>")[1]
    assert "Of 66 pairs those with the best method; comparisons.csv has all." in folded
    assert len(re.findall(r"^\| m\d\d ", folded, re.MULTILINE)) == 11


def test_crossed_draws_are_named(tmp_path: Path) -> None:
    cells = []
    for draw in (1, 2):
        for seed in (1, 2):
            record, ranks = cell(seed=seed, right=20 + draw)
            record["cell"]["draw"] = draw
            record["key"] += f"-draw{draw}"
            cells.append((record, ranks))
    found = files(tmp_path, cells)
    assert "draw/seed: value" in found["leaderboard.md"]
    assert "1/1: 52.50, 1/2: 52.50, 2/1: 55.00, 2/2: 55.00" in found["leaderboard.md"]
    assert "## Where the spread comes from" in found["leaderboard.md"]
    assert QUERIES == 40


def test_csv_has_six_decimals_and_no_negative_zero() -> None:
    frame = pd.DataFrame({"n": [1, 2, 3], "x": [1 / 3, -1e-12, float("nan")]})
    assert plain_csv(frame) == "n,x\n1,0.333333\n2,0.000000\n3,\n"
