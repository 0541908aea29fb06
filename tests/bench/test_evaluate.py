"""Scores equal to the official ones: the sample predictions, the toy edge cases, ties, folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.evaluate import Evaluation, Files, evaluate
from data_recipes.core.model import DataError
from tests.pack import DATA, EXPECTED, expected, needs_pack, write

CIRR = DATA / "cirr"
CIRR_FILES = (CIRR / "captions/cap.rc2.val.json", CIRR / "image_splits/split.rc2.val.json")
CIRCO = DATA / "circo"
FASHIONIQ = DATA / "fashioniq"


def agree(found: Evaluation, wanted: dict[str, float | None]) -> None:
    """Every expected number to 6 decimals; `n` and `missing` too where they are expected."""
    values = found.metrics | {"n": found.n, "missing": found.missing}
    for name, value in wanted.items():
        assert values[name] == (None if value is None else pytest.approx(value, abs=5.1e-7)), name


def cirr(protocol: str, predictions: str, subset: bool = True, **more: Any) -> Evaluation:
    captions, split = CIRR_FILES
    file = EXPECTED / "cirr_val_pred_recall_subset.json" if subset else None
    return evaluate(protocol, [Files(captions, EXPECTED / predictions, split, file)], **more)


@needs_pack
def test_cirr_equals_the_official_scores() -> None:
    wanted = expected("cirr")
    found = cirr("cirr", "cirr_val_pred_recall.json")
    agree(found, wanted["hard_target"])
    agree(found, wanted["from_submission_files"])
    assert found.metrics["Recall@1"] == pytest.approx(0.215)
    assert any("3981 of 4181 queries have no prediction" in note for note in found.notes)
    agree(cirr("cirr-server", "cirr_val_pred_recall.json"), wanted["server_denominator"])
    soft = dict(wanted["soft_target"])
    assert soft.pop("Recall@100") == 0.775  # the file has 50 names a query: not to be had from it
    found = cirr("cirr-soft", "cirr_val_pred_recall.json")
    agree(found, soft)
    assert found.metrics["Recall@1"] == pytest.approx(0.210)
    assert any("shortest list has 50 ids" in note for note in found.notes)


@needs_pack
def test_cirr_removes_a_reference_that_was_left_in_the_ranking() -> None:
    wanted = expected("cirr")["reference_left_in_ranking"]
    found = cirr("cirr", "cirr_val_rank_with_reference.json", subset=False)
    agree(found, wanted["correct_reference_removed"])
    assert any("lists name their reference image" in note for note in found.notes)
    kept = cirr("cirr", "cirr_val_rank_with_reference.json", subset=False, reference="keep")
    agree(kept, wanted["wrong_reference_kept"])
    assert kept.metrics["Recall@1"] == pytest.approx(0.19)
    assert kept.protocol == "cirr/1, references kept" and any(
        "not official" in n for n in kept.notes
    )


@needs_pack
def test_removed_references_make_fashioniq_easier() -> None:
    """R@50 would need 51 names of each list; the files have 50."""
    wanted = expected("fashioniq")["categories"]
    for category in ("dress", "shirt", "toptee"):
        found = evaluate(
            "fashioniq-original",
            [
                Files(
                    FASHIONIQ / f"captions/cap.{category}.val.json",
                    EXPECTED / f"fashioniq_{category}_val_pred.json",
                    FASHIONIQ / f"image_splits/split.{category}.val.json",
                )
            ],
            reference="remove",
        )
        for name in ("R@1", "R@5", "R@10"):
            value = wanted[category]["first_200_reference_removed"][name]
            assert found.metrics[name] == pytest.approx(value, abs=5e-7)


@needs_pack
def test_cirr_queries_without_a_prediction_are_refused_or_misses_on_demand() -> None:
    with pytest.raises(DataError, match="3981 of 4181 queries have no prediction, the first is"):
        cirr("cirr", "cirr_val_pred_recall.json", missing="refuse")
    found = cirr("cirr", "cirr_val_pred_recall.json", missing="miss")
    assert (found.n, found.missing) == (200, 3981)
    assert found.metrics["Recall@1"] == pytest.approx(43 / 4181)


@needs_pack
def test_circo_equals_the_official_scores(tmp_path: Path) -> None:
    wanted = expected("circo")
    annotations = CIRCO / "annotations/val.json"
    mine = EXPECTED / "circo_val_pred.json"
    example = CIRCO / "submission_examples/submission_val.json"
    agree(evaluate("circo", [Files(annotations, mine)]), wanted["metrics_220"])
    found = evaluate("circo", [Files(annotations, example)])
    agree(found, wanted["official_submission_val"])
    assert found.digests == {"val.json": wanted["annotation"]["annotations/val.json"]}
    assert not any("official file" in note for note in found.notes)
    maps = [round(found.metrics[f"mAP@{k}"] or 0, 6) for k in (5, 10, 25, 50)]
    assert maps == [0.004861, 0.005178, 0.0054, 0.00602]
    lists = json.loads(mine.read_text())
    first = write(tmp_path / "p.json", {str(i): lists[str(i)] for i in range(200)})
    with pytest.raises(DataError, match="20 of 220 queries have no prediction, the first is '200'"):
        evaluate("circo", [Files(annotations, first)])
    found = evaluate("circo", [Files(annotations, first)], missing="leave-out")
    agree(found, wanted["metrics_first_200"])
    assert (found.n, found.missing) == (200, 20)


def fashioniq(category: str) -> Files:
    folder = DATA / "fashioniq"
    return Files(
        folder / f"captions/cap.{category}.val.json",
        EXPECTED / f"fashioniq_{category}_val_pred.json",
        folder / f"image_splits/split.{category}.val.json",
    )


@needs_pack
def test_fashioniq_equals_the_official_scores(tmp_path: Path) -> None:
    wanted = expected("fashioniq")
    for category, of in wanted["categories"].items():
        files = fashioniq(category)
        records = json.loads(files.annotations.read_text())[:200]
        cut = write(tmp_path / f"cap.{category}.val.json", records)
        agree(
            cut_found := evaluate(
                "fashioniq-original", [Files(cut, files.predictions, files.gallery)]
            ),
            of["first_200"],
        )
        assert any("is not the official file" in note for note in cut_found.notes)
        found = evaluate("fashioniq-original", [files])
        agree(found, {k: v for k, v in of["first_200"].items() if k != "missing"})
        assert found.missing == of["records"] - 200
    found = evaluate("fashioniq-original", [fashioniq(c) for c in wanted["categories"]])
    agree(found, wanted["mean_first_200"])


@needs_pack
@pytest.mark.parametrize("task", expected("genecis")["tasks"] if EXPECTED.is_dir() else [])
def test_genecis_equals_the_official_scores(task: str) -> None:
    """One of the 200 rows ties; the official code gives it to the target."""
    (annotations,) = (DATA / "genecis").glob(f"{task}*.json")
    files = [Files(annotations, EXPECTED / f"genecis_{task}_sims.json")]
    found = evaluate("genecis", files)
    agree(found, expected("genecis")["tasks"][task]["first_200"])
    assert found.tie_rate == 1 / 200
    assert found.pessimistic is not None
    assert found.metrics["R@1"] == pytest.approx((found.pessimistic["R@1"] or 0) + 0.005)
    assert evaluate(f"genecis-{task}", files).metrics == found.metrics
    other = "focus_object" if task != "focus_object" else "change_object"
    with pytest.raises(DataError, match=f"is the task {task}, not {other}"):
        evaluate(f"genecis-{other}", files)


def toy_circo(tmp_path: Path, case: dict[str, Any], **more: Any) -> Evaluation:
    annotations = write(tmp_path / "val.json", expected("toy_edge_cases")["circo"]["annotations"])
    predictions = write(tmp_path / "pred.json", case["pred"])
    metrics = [f"{name}@{k}" for name in ("mAP", "Recall") for k in (1, 2, 3, 10)]
    return evaluate("circo", [Files(annotations, predictions)], metrics=metrics, **more)


@needs_pack
def test_circo_edge_cases(tmp_path: Path) -> None:
    for case in expected("toy_edge_cases")["circo"]["cases"]:
        lenient: dict[str, Any] = {} if case.get("mode") == "strict" else {"missing": "leave-out"}
        if isinstance(case["expect"], str):
            with pytest.raises(DataError):
                toy_circo(tmp_path, case, **lenient)
        else:
            agree(toy_circo(tmp_path, case, **lenient), case["expect"])


@needs_pack
def test_cirr_edge_cases(tmp_path: Path) -> None:
    toy = expected("toy_edge_cases")["cirr"]
    captions = write(tmp_path / "cap.json", toy["captions"])
    for case in toy["cases"]:
        files = [Files(captions, write(tmp_path / "pred.json", case["ranks"]))]
        agree(evaluate("cirr", files), case["hard"])
        agree(evaluate("cirr-soft", files), case["soft"])
        found = evaluate("cirr", files, missing="miss")
        agree(found, case["hard_missing_counts_as_miss"])


def genecis_file(tmp_path: Path, templates: int, width: int) -> Path:
    records = [
        {
            "condition": "x",
            "reference": {"val_image_id": 0},
            "target": {"val_image_id": 1},
            "gallery": [{"val_image_id": 2 + i} for i in range(width - 1)],
        }
        for _ in range(templates)
    ]
    return write(tmp_path / "focus_object.json", records)


@needs_pack
def test_genecis_edge_cases(tmp_path: Path) -> None:
    toy = expected("toy_edge_cases")["genecis"]
    rows = write(tmp_path / "rows.json", {"rows": toy["rows"]})
    found = evaluate("genecis", [Files(genecis_file(tmp_path, 3, 3), rows)])
    agree(found, toy["pessimistic"])
    assert found.tie_rate == pytest.approx(1 / 3)
    constant = write(tmp_path / "rows.json", {"rows": [[0.5] * 15] * 4})
    found = evaluate("genecis", [Files(genecis_file(tmp_path, 4, 15), constant)])
    agree(found, toy["constant"]["pessimistic"])
    assert found.tie_rate == 1.0


@needs_pack
def test_a_tie_edge_case(tmp_path: Path) -> None:
    toy = expected("toy_edge_cases")["ties"]
    names = [f"B{i}" for i in range(4)]
    records = [{"candidate": "B2", "target": names[toy["target_index"]], "captions": ["x", "y"]}]
    captions = write(tmp_path / "cap.dress.val.json", records)
    rows = write(tmp_path / "rows.json", {"rows": [toy["row"]]})
    gallery = write(tmp_path / "split.json", names)
    metrics = [f"R@{k}" for k in (1, 2, 3, 4, 10)]
    found = evaluate("fashioniq-original", [Files(captions, rows, gallery)], metrics=metrics)
    rank = toy["ranks"]["pessimistic"] + 1
    assert found.metrics == {m: float(int(m[2:]) >= rank) for m in metrics}
    assert found.tie_rate == 1.0
    assert [n for n in found.notes if "R@10: K is above the gallery of 4" in n]


@needs_pack
def test_image_text_edge_cases(tmp_path: Path) -> None:
    toy = expected("toy_edge_cases")["itr"]
    owners: dict[str, list[int]] = {}
    for caption, owner in enumerate(toy["owner"]):
        owners.setdefault(str(owner), []).append(caption)
    annotations = write(tmp_path / "ids.json", owners)
    rows = write(tmp_path / "rows.json", {"rows": toy["sim_image_by_text"]})
    metrics = ["R@1", "R@2", "R@5", "R@10"]
    for protocol in ("karpathy-5k", "karpathy-1k"):
        agree(evaluate(protocol, [Files(annotations, rows)], metrics=metrics), toy["expect"])


def karpathy(tmp_path: Path, values: np.ndarray, captions: int = 2) -> Files:
    images = len(values)
    owners = {f"i{n}": [captions * n + c for c in range(captions)] for n in range(images)}
    np.save(tmp_path / "sims.npy", values)
    return Files(write(tmp_path / "ids.json", owners), tmp_path / "sims.npy")


def test_the_1k_protocol_is_the_mean_of_consecutive_folds(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2000, 4000)).astype(np.float32)
    values[np.arange(4000) // 2, np.arange(4000)] += 2
    whole = evaluate("karpathy-1k", [karpathy(tmp_path, values)])
    halves = [
        evaluate("karpathy-5k", [karpathy(tmp_path, values[s : s + 1000, 2 * s : 2 * s + 2000])])
        for s in (0, 1000)
    ]
    for name, value in whole.metrics.items():
        assert value == pytest.approx(np.mean([half.metrics[name] for half in halves])), name


def test_columns_by_id_and_precision_beyond_float32(tmp_path: Path) -> None:
    """2**30 levels are exact in float64, and many ties in float32."""
    names = [f"B{i}" for i in range(6)]
    records = [{"candidate": "B5", "target": t, "captions": ["x", "y"]} for t in names[:5]]
    captions = write(tmp_path / "cap.dress.val.json", records)
    gallery = write(tmp_path / "split.json", names)
    values = 2**30 - np.arange(30).reshape(5, 6)
    order = np.random.default_rng(1).permutation(6)
    np.save(tmp_path / "plain.npy", values)
    np.save(tmp_path / "mixed.npy", values[:, order].astype(np.float64))
    write(tmp_path / "mixed.ids.json", {"column_ids": [names[i] for i in order]})
    found = [
        evaluate("fashioniq-original", [Files(captions, tmp_path / f"{name}.npy", gallery)])
        for name in ("plain", "mixed")
    ]
    assert found[0].metrics == found[1].metrics
    assert (found[0].metrics["R@1"], found[0].metrics["R@5"]) == (0.2, 1.0)
    assert found[0].tie_rate == 0.0


@needs_pack
def test_a_full_ranking_and_its_similarities_agree_on_cirr_val(tmp_path: Path) -> None:
    """Hard and soft, reference removed, subset inside: lists and matrix take different code."""
    captions, split = CIRR_FILES
    names = list(json.loads(split.read_text()))
    records = json.loads(captions.read_text())[:300]
    cut = write(tmp_path / "cap.json", records)
    values = np.random.default_rng(2).permuted(np.tile(np.arange(2297.0), (300, 1)), axis=1)
    for row, record in enumerate(records):
        values[row, names.index(record["target_hard"])] += 2100.5
    np.save(tmp_path / "sims.npy", values)
    order = np.argsort(-values, axis=1)
    lists = {
        str(record["pairid"]): [names[i] for i in order[row]] for row, record in enumerate(records)
    }
    ranked = write(tmp_path / "lists.json", lists)
    for protocol in ("cirr", "cirr-soft"):
        by_matrix = evaluate(protocol, [Files(cut, tmp_path / "sims.npy", split)])
        by_lists = evaluate(protocol, [Files(cut, ranked, split)])
        assert by_matrix.metrics == by_lists.metrics
        assert by_matrix.tie_rate == 0.0
        assert 0.1 < (by_matrix.metrics["Recall@50"] or 0) < 1.0


@needs_pack
@pytest.mark.parametrize("category", ["dress", "shirt", "toptee"])
def test_fashioniq_val_at_full_count_differs_from_original(category: str, tmp_path: Path) -> None:
    """Two queries a record over refs and targets; the removed reference may have any similarity."""
    files = fashioniq(category)
    of = expected("fashioniq")["categories"][category]
    shape = (of["queries_val"], of["gallery_val"])
    values = np.random.default_rng(3).random(shape, dtype=np.float32)
    np.save(tmp_path / "sims.npy", values)
    found = evaluate("fashioniq-val", [Files(files.annotations, tmp_path / "sims.npy")])
    assert (found.n, found.missing) == (of["queries_val"], 0)
    assert found.metrics["R@50"] == pytest.approx(50 / (shape[1] - 1), abs=0.01)
    with pytest.raises(DataError, match=f"has {shape[0]} rows, the annotations have|columns"):
        evaluate(
            "fashioniq-original", [Files(files.annotations, tmp_path / "sims.npy", files.gallery)]
        )


@needs_pack
def test_captions_all_and_five_differ(tmp_path: Path) -> None:
    """The first 1000 images of COCO's test split have 5001 captions."""
    annotations = DATA / "karpathy/maccap_mscoco_test.first1000.json"
    values = np.random.default_rng(4).random((1000, 5001), dtype=np.float32)
    np.save(tmp_path / "sims.npy", values)
    found = evaluate("karpathy-5k", [Files(annotations, tmp_path / "sims.npy")])
    assert found.n == 6001
    with pytest.raises(DataError, match="has 5001 columns, the annotations have 5000"):
        evaluate("karpathy-5k-first5", [Files(annotations, tmp_path / "sims.npy")])
