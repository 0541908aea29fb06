"""Prediction files: every form is read, every wrong form is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.predictions import Lists, Matrix, read_predictions
from data_recipes.core.model import DataError
from tests.pack import write

VALUES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
IDS = {"row_ids": ["q0", "q1"], "column_ids": ["a", "b", 7]}


def matrix(path: Path) -> Matrix:
    found = read_predictions(path)
    assert isinstance(found, Matrix)
    return found


def test_lists_with_and_without_a_header(tmp_path: Path) -> None:
    plain = read_predictions(write(tmp_path / "p.json", {"0": [5, 3], "1": [2]}))
    assert isinstance(plain, Lists)
    assert (plain.parts, plain.header) == ({"": {"0": ["5", "3"], "1": ["2"]}}, {})
    server = {"version": "rc2", "metric": "recall", "12": ["a"]}
    found = read_predictions(write(tmp_path / "s.json", server))
    assert isinstance(found, Lists)
    assert found.header == {"version": "rc2", "metric": "recall"}
    assert found.parts == {"": {"12": ["a"]}}


def test_the_fashioniq_form_and_the_two_directions(tmp_path: Path) -> None:
    records = [{"candidate": "r", "captions": [], "ranking": ["a", "b"]}]
    found = read_predictions(write(tmp_path / "f.json", records))
    assert isinstance(found, Lists)
    assert found.parts == {"": {"0": ["a", "b"]}}
    assert found.header == {"references": ["r"]}
    two = read_predictions(write(tmp_path / "t.json", {"i2t": {"a": [1]}, "t2i": {"1": ["a"]}}))
    assert isinstance(two, Lists)
    assert two.parts == {"i2t": {"a": ["1"]}, "t2i": {"1": ["a"]}}


def test_a_matrix_in_every_form(tmp_path: Path) -> None:
    array = np.array(VALUES, dtype=np.float32)
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array)
    write(tmp_path / "b.ids.json", IDS)
    metadata = {key: json.dumps(ids) for key, ids in IDS.items()}
    save_file({"anything": torch.tensor(VALUES)}, tmp_path / "c.safetensors", metadata)
    write(tmp_path / "d.json", {"scale": 2, "rows": (array * 2).astype(int).tolist(), **IDS})
    write(tmp_path / "e.json", VALUES)
    for name in ("a.npy", "b.npy", "c.safetensors", "d.json", "e.json"):
        found = matrix(tmp_path / name)
        assert found.values.tolist() == VALUES
        with_ids = name[0] in "bcd"
        assert found.row_ids == (["q0", "q1"] if with_ids else None)
        assert found.column_ids == (["a", "b", "7"] if with_ids else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("{}", "holds no query"),
        ("3", "holds a whole number, expected an object query id"),
        ('{"0": "a"}', "query '0': is text, expected a list of candidate ids"),
        ('{"0": []}', "query '0': the list is empty"),
        ('{"0": [1.0]}', "query '0': names 1.0, which is a number; a candidate id is text or a"),
        ('{"0": [true]}', "query '0': names True, which is true or false"),
        ('{"0": [9761, "9761"]}', "ids are text in query '0' and numbers in query '0'"),
        ('{"0": [1], "1": ["2"]}', "text in query '1' and numbers in query '0', so that one image"),
        ('{"0": [1], "0": [2]}', "the key '0' occurs twice"),
        ('[{"candidate": "a"}]', "record 0: has no list 'ranking'"),
        ('{"i2t": [1]}', "'i2t' is a list, expected an object"),
        ('{"rows": [[1, 2], [3]]}', "row 1 has 1 similarities, row 0 has 2"),
        ('{"rows": [[1, null]]}', "row 0 holds None, which is null; expected finite numbers"),
        ('{"rows": [[1, NaN]]}', "NaN is not JSON"),
        ('{"rows": [[1, 1e999]]}', "1e999 is too large a number"),
        ('{"rows": []}', "'rows' is no list of rows"),
        ('{"rows": [[1]], "scale": 0}', "'scale' is 0, expected a number above 0"),
        ('{"rows": [[1]], "ids": []}', "unknown key 'ids' beside 'rows'"),
        ('{"rows": [[1]], "row_ids": ["a", "b"]}', "2 row_ids for 1 rows"),
        ('{"rows": [[1], [2]], "row_ids": ["a", "a"]}', "row_ids has 'a' twice"),
    ],
)
def test_wrong_json_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}: ")


def test_wrong_binary_files(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(3))
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    save_file({"a": torch.ones(1, 1), "b": torch.ones(1, 1)}, tmp_path / "two.safetensors")
    for name, message in (
        ("one.npy", r"has the shape \(3,\), expected rows x columns"),
        ("text.npy", "holds <U1, expected real numbers"),
        ("cut.npy", "no readable .npy file"),
        ("two.safetensors", r"has the tensors \['a', 'b'\]; call the matrix 'similarity'"),
        ("gone.npy", "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            read_predictions(tmp_path / name)
