"""Predictions that do not fit: one error with file, query and way out. And what never matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.evaluate import Evaluation, Files, evaluate
from data_recipes.core.model import DataError
from tests.pack import write

NAMES = ["r", "t", "a", "b", "c", "d", "e", "f"]
MEMBERS = NAMES[:6]


def cirr_record(pairid: int, reference: str, target: str) -> dict[str, Any]:
    return {
        "pairid": pairid,
        "reference": reference,
        "target_hard": target,
        "target_soft": {target: 1.0},
        "caption": "bluer",
        "img_set": {"members": MEMBERS},
    }


CAPTIONS = [cirr_record(7, "r", "t"), cirr_record(8, "a", "b")]
SPLIT = {name: f"./dev/{name}.png" for name in NAMES}
RECALL: dict[str, Any] = {
    "version": "rc2",
    "metric": "recall",
    "7": ["t", "e", "f"],
    "8": ["c", "b", "e"],
}
SUBSET: dict[str, Any] = {
    "version": "rc2",
    "metric": "recall_subset",
    "7": ["t", "a", "b"],
    "8": ["r", "t", "b"],
}


def cirr(tmp_path: Path, recall: Any, subset: Any = None, captions: Any = None) -> Evaluation:
    return evaluate(
        "cirr",
        [
            Files(
                write(tmp_path / "cap.json", captions or CAPTIONS),
                write(tmp_path / "recall.json", recall),
                write(tmp_path / "split.json", SPLIT),
                None if subset is None else write(tmp_path / "subset.json", subset),
            )
        ],
    )


def without(value: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k not in keys}


def test_sound_files_give_the_numbers_done_by_hand(tmp_path: Path) -> None:
    found = cirr(tmp_path, RECALL, SUBSET)
    assert found.metrics["Recall@1"] == 0.5
    assert found.metrics["Recall@5"] == 1.0
    assert [found.metrics[f"Recall_subset@{k}"] for k in (1, 2, 3)] == [0.5, 0.5, 1.0]
    assert found.metrics["Avg(R@5,Rs@1)"] == 0.75
    assert cirr(tmp_path, without(RECALL, "version", "metric"), SUBSET).metrics == found.metrics


@pytest.mark.parametrize(
    ("recall", "subset", "file", "message"),
    [
        (RECALL | {"version": "v0"}, None, "recall", "the key 'version' is 'v0', expected 'rc2'"),
        (without(RECALL, "metric"), None, "recall", "the key 'metric' is missing, expected 'rec"),
        (without(RECALL, "version"), None, "recall", "the key 'version' is missing"),
        (SUBSET, None, "recall", "'recall_subset', expected 'recall'; is this the file for --sub"),
        (RECALL, RECALL, "subset", "'recall', expected 'recall_subset'; is this the file for --p"),
        (RECALL | {"9": ["t"]}, None, "recall", "query '9' is not in the annotations; they have 2"),
        (RECALL | {"7": ["t", "z"]}, None, "recall", "query '7': 'z' is no candidate; ids are th"),
        (RECALL | {"7": ["t.png"]}, None, "recall", "query '7': 't.png' is no candidate"),
        (RECALL | {"7": ["t", "a", "t"]}, None, "recall", "query '7': 't' stands 2 times in the"),
        ({"9": ["t"], "10": ["t"]}, None, "recall", r"'9' is not in .*\(and 1 more like it\)"),
        (RECALL, SUBSET | {"7": ["t", "e"]}, "subset", "query '7': 'e' is not one of the 5 other"),
        (RECALL, SUBSET | {"7": ["r", "t"]}, "subset", "query '7': 'r' is not one of the 5 other"),
        (RECALL, SUBSET | {"7": ["t", "t"]}, "subset", "query '7': 't' stands 2 times"),
        (RECALL, without(SUBSET, "8"), "subset", "query '8' is not ranked here"),
        (without(RECALL, "8"), SUBSET, "subset", "query '8' is not ranked in --predictions"),
        ({"i2t": {"7": ["t"]}}, None, "recall", r"expected query id -> ranked ids \(cirr/1\), fou"),
    ],
)
def test_wrong_cirr_files(
    tmp_path: Path, recall: Any, subset: Any, file: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        cirr(tmp_path, recall, subset)
    assert str(error.value).startswith(f"{tmp_path / file}.json: ")


def test_no_prediction_at_all_is_an_error_and_not_a_mean_of_nothing(tmp_path: Path) -> None:
    records = [cirr_record(9, "r", "t")]
    with pytest.raises(DataError, match="query '7' is not in the annotations"):
        cirr(tmp_path, RECALL, captions=records)


def test_a_split_without_targets_has_no_metric(tmp_path: Path) -> None:
    records = [without(r, "target_hard", "target_soft") for r in CAPTIONS]
    with pytest.raises(DataError, match=r"cap.json: the targets .* withheld.*promptgrid submit"):
        cirr(tmp_path, RECALL, captions=records)


CIRCO = [
    {"id": i, "reference_img_id": 100 + i, "target_img_id": i + 1, "gt_img_ids": [i + 1, i + 50]}
    for i in range(3)
]


def circo(tmp_path: Path, predictions: Any, gallery: list[int] | None = None) -> Evaluation:
    return evaluate(
        "circo",
        [
            Files(
                write(tmp_path / "val.json", CIRCO),
                write(tmp_path / "pred.json", predictions),
                None if gallery is None else write(tmp_path / "gallery.json", gallery),
            )
        ],
    )


GOOD = {"0": [1, 50], "1": [2, 51], "2": [3, 9761]}


def test_circo_ids_as_text_and_padded_are_the_same_numbers(tmp_path: Path) -> None:
    text = {"0": ["000000000001", "50"], "1": ["2", "51"], "2": ["3", "09761"]}
    assert circo(tmp_path, text).metrics == circo(tmp_path, GOOD).metrics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1": [9761, "9761"]}, "ids are text in query '1' and numbers in query '0', so that one"),
        ({"1": [2, 2]}, "query '1': '2' stands 2 times in the list"),
        ({"3": [1]}, "query '3' is not in the annotations; they have 3 queries"),
        ({"01": [1]}, "query '01': stands twice, as 1 too"),
        ({"x": [1]}, "query 'x': 'x' is no COCO id"),
        ({"1": [-4]}, "query '1': '-4' is no COCO id; write the number alone"),
        ({"version": "rc2"}, "'version' is no list of ids"),
    ],
)
def test_wrong_circo_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        circo(tmp_path, GOOD | change)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"0": ["a.jpg"], "1": ["2"], "2": ["3"]}, "query '0': 'a.jpg' is no COCO id"),
        ({"0": ["9761", "09761"], "1": ["2"], "2": ["3"]}, "'9761' stands 2 times"),
        ({"0": [1], "1": [2]}, "1 of 3 queries have no prediction, the first is '2'; predict all"),
    ],
)
def test_wrong_circo_lists(tmp_path: Path, predictions: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        circo(tmp_path, predictions)


def test_circo_with_its_gallery_knows_every_id(tmp_path: Path) -> None:
    gallery = [1, 2, 3, 50, 51, 52, 100, 101, 102]
    with pytest.raises(DataError, match="query '2': '9761' is no candidate"):
        circo(tmp_path, GOOD, gallery)
    assert circo(tmp_path, GOOD, [*gallery, 9761]).metrics == circo(tmp_path, GOOD).metrics
    with pytest.raises(DataError, match="'52', which is not in the gallery"):
        circo(tmp_path, GOOD, [i for i in gallery if i != 52])


def fashioniq(tmp_path: Path, predictions: Any, protocol: str = "fashioniq-original") -> Evaluation:
    records = [
        {"candidate": NAMES[i], "target": NAMES[i + 1], "captions": ["x", "y"]} for i in range(4)
    ]
    path = tmp_path / "sims.npy"
    if isinstance(predictions, np.ndarray):
        np.save(path, predictions)
    else:
        path = write(tmp_path / "pred.json", predictions)
    captions = write(tmp_path / "cap.dress.val.json", records)
    return evaluate(protocol, [Files(captions, path, write(tmp_path / "split.json", NAMES))])


def test_the_fashioniq_form_must_keep_the_official_order(tmp_path: Path) -> None:
    records = [{"candidate": NAMES[i], "ranking": [NAMES[i + 1]]} for i in range(4)]
    assert fashioniq(tmp_path, records).metrics["R@1"] == 1.0
    with pytest.raises(DataError, match="record 0: the candidate is 'b', in the annotations 'r'"):
        fashioniq(tmp_path, records[::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    values = np.ones((4, 8))
    values[2, 3] = value
    with pytest.raises(DataError, match=r"sims.npy: query '2': a similarity is not finite"):
        fashioniq(tmp_path, values)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 7), "has 7 columns, the annotations have 8"),
        ((5, 8), "has 5 rows, the annotations have 4"),
        ((8, 4), "has 8 rows, the annotations have 4"),
    ],
)
def test_a_matrix_of_another_shape_is_refused(
    tmp_path: Path, shape: tuple[int, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fashioniq(tmp_path, np.ones(shape))


def test_ids_of_a_matrix_must_be_the_official_ones(tmp_path: Path) -> None:
    values = np.ones((4, 8))
    ids = tmp_path / "sims.ids.json"
    write(ids, {"column_ids": [*NAMES[:7], "z"]})
    with pytest.raises(DataError, match="column_ids names 'z', which the official files have not"):
        fashioniq(tmp_path, values)
    write(ids, {"row_ids": ["0", "1", "2", "9"]})
    with pytest.raises(DataError, match="row_ids names '9'"):
        fashioniq(tmp_path, values)
    write(ids, {"column_ids": NAMES[:7]})
    with pytest.raises(DataError, match=r"no column for 'f'.*would be another protocol"):
        fashioniq(tmp_path, values[:, :7])


def test_protocols_without_a_gallery_or_a_subset_say_so(tmp_path: Path) -> None:
    captions = write(tmp_path / "cap.json", CAPTIONS)
    recall = write(tmp_path / "recall.json", RECALL)
    for protocol, files, message in (
        ("fashioniq-original", Files(fashion := captions, recall), "'candidate' is missing"),
        ("karpathy-5k", Files(fashion, recall, captions), "has no gallery file"),
        ("circo", Files(fashion, recall, None, captions), "circo/1 has no subset file"),
        ("classification", Files(fashion, recall), "classification/1 has no official files"),
        ("circa", Files(fashion, recall), "Unknown protocol 'circa'. Did you mean"),
    ):
        with pytest.raises(DataError, match=message):
            evaluate(protocol, [files])
    records = [{"candidate": "r", "target": "t", "captions": ["x", "y"]}]
    with pytest.raises(DataError, match=r"--gallery split\.dress\.val\.json"):
        evaluate(
            "fashioniq-original", [Files(write(tmp_path / "cap.dress.val.json", records), recall)]
        )


FDRD = {
    f"k_{i}": {"positive": f"p {i // 2}", "negative": [f"n {i}", f"p {i // 2}"]} for i in range(6)
}


def fdrd(tmp_path: Path, protocol: str, values: np.ndarray) -> Evaluation:
    np.save(tmp_path / "sims.npy", values)
    return evaluate(protocol, [Files(write(tmp_path / "x_test.json", FDRD), tmp_path / "sims.npy")])


def test_identical_captions_tie_in_the_plain_protocol_and_are_credited_in_its_own(
    tmp_path: Path,
) -> None:
    """A perfect scorer that knows the text only: pairs of records share their caption."""
    values = np.kron(np.eye(3), np.ones((2, 2)))
    plain = fdrd(tmp_path, "fdrd", values)
    assert (plain.metrics["i2t_R@1"], plain.metrics["t2i_R@1"]) == (0.0, 0.0)
    assert plain.tie_rate == 1.0
    credited = fdrd(tmp_path, "fdrd-credit-identical", values)
    assert (credited.metrics["i2t_R@1"], credited.metrics["t2i_R@1"]) == (1.0, 1.0)


def test_the_hard_gallery_adds_own_negatives_only(tmp_path: Path) -> None:
    values = np.concatenate([np.eye(6), np.full((6, 6), 0.5)], axis=1)
    values[0, 6], values[1, 6] = 2.0, 3.0  # the negative of record 0; record 1 does not rank it
    found = fdrd(tmp_path, "fdrd-hard", values)
    assert found.metrics["i2t_R@1"] == pytest.approx(5 / 6)
    assert found.metrics["t2i_R@1"] == 1.0


def test_both_directions_as_ranked_ids(tmp_path: Path) -> None:
    annotations = write(tmp_path / "ids.json", {"a": [0, 1], "b": [2, 3]})
    lists = {
        "i2t": {"a": [2, 1], "b": [3, 0]},
        "t2i": {"0": ["a"], "1": ["b", "a"], "2": ["b"], "3": ["b"]},
    }
    found = evaluate("karpathy-5k", [Files(annotations, write(tmp_path / "p.json", lists))])
    assert (found.metrics["text_R@1"], found.metrics["image_R@1"]) == (0.5, 0.75)
    with pytest.raises(DataError, match=r"expected one object each for \['i2t', 't2i'\].*no parts"):
        evaluate("karpathy-5k", [Files(annotations, write(tmp_path / "p.json", lists["t2i"]))])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 64), st.booleans())
def test_row_order_and_block_size_never_change_a_metric(
    tmp_path: Path, seed: int, block_values: int, two: bool
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 4, size=(4, 8)).astype(np.float32)
    rows, columns = generator.permutation(4), generator.permutation(8)
    if two:
        protocol, gallery = "karpathy-5k", None
        annotations = write(tmp_path / "ids.json", {f"i{n}": [2 * n, 2 * n + 1] for n in range(4)})
        row_names, column_names = [f"i{n}" for n in range(4)], [str(c) for c in range(8)]
    else:
        protocol, gallery = "fashioniq-original", write(tmp_path / "split.json", NAMES)
        records = [
            {"candidate": NAMES[i], "target": NAMES[i + 1], "captions": ["x", "y"]}
            for i in range(4)
        ]
        annotations = write(tmp_path / "cap.dress.val.json", records)
        row_names, column_names = [str(n) for n in range(4)], NAMES
    plain = {"rows": values.tolist(), "row_ids": row_names, "column_ids": column_names}
    mixed = {
        "rows": values[rows][:, columns].tolist(),
        "row_ids": [row_names[i] for i in rows],
        "column_ids": [column_names[i] for i in columns],
    }
    found = [
        evaluate(
            protocol,
            [Files(annotations, write(tmp_path / "sims.json", sims), gallery)],
            block_values=size,
        )
        for sims, size in ((plain, 10**6), (mixed, block_values))
    ]
    assert found[0].metrics == found[1].metrics
    assert found[0].tie_rate == found[1].tie_rate


@pytest.mark.parametrize("protocol", ["fashioniq-original", "fashioniq-val"])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_a_constant_never_scores_above_its_chance(
    tmp_path: Path, protocol: str, value: float
) -> None:
    shape = (4, 8) if protocol == "fashioniq-original" else (8, 5)
    found = fashioniq(tmp_path, np.full(shape, value), protocol)
    for name, metric in found.metrics.items():
        k = int(name.split("@")[1])
        assert metric is not None
        assert metric <= k / (shape[1] - (protocol == "fashioniq-val")) or k >= shape[1] - 1
    assert found.tie_rate == 1.0


def test_the_result_as_json_is_flat_and_finite(tmp_path: Path) -> None:
    found = json.loads(json.dumps(cirr(tmp_path, RECALL, SUBSET).as_json(), allow_nan=False))
    assert found["protocol"] == "cirr/1"
    assert (found["Recall@1"], found["n"], found["missing"]) == (0.5, 2, 0)
