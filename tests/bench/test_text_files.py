"""Text features in files: equal bits in every process, whichever encodes first."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from bench import text_files
from bench.cell import run_cell
from bench.features import image_features
from bench.loaded import _backbone
from bench.text_files import FEWEST, TextFiles
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone
from methods.core.frozen_texts import FrozenTexts
from methods.core.text_tower import TextTower
from tests.cells import tiny_cells

TEXTS = [f"{n} squares" for n in range(FEWEST)]


def stored(backbone: Backbone, cache: Path) -> FrozenTexts:
    """As in a new process: nothing in memory."""
    texts = FrozenTexts(backbone)
    texts.store = TextFiles(cache, backbone)
    return texts


def test_another_process_reads_what_one_encoded(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored(tiny_backbone, tmp_path)(TEXTS)
    assert torch.equal(first, tiny_backbone.text.encode_texts(TEXTS))
    with monkeypatch.context() as patched:
        patched.delattr(TextTower, "encode_texts")
        again = stored(tiny_backbone, tmp_path)(TEXTS)
    assert torch.equal(first, again) and again.dtype == torch.float32
    other = stored(tiny_backbone, tmp_path)(TEXTS[::-1])
    assert torch.equal(other, tiny_backbone.text.encode_texts(TEXTS[::-1]))
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_short_list_has_no_file(tiny_backbone: Backbone, tmp_path: Path) -> None:
    found = stored(tiny_backbone, tmp_path)(TEXTS[1:])
    assert torch.equal(found, tiny_backbone.text.encode_texts(TEXTS[1:]))
    assert list(tmp_path.iterdir()) == []


def test_damage_is_refused_with_the_way_out(tiny_backbone: Backbone, tmp_path: Path) -> None:
    stored(tiny_backbone, tmp_path)(TEXTS)
    (path,) = tmp_path.glob("*.npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"promptgrid cache evict [0-9a-f]{32} --cache"):
        stored(tiny_backbone, tmp_path)(TEXTS)


def test_texts_and_images_lie_side_by_side(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    stored(tiny_backbone, tmp_path)(TEXTS)
    image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == len(list(tmp_path.glob("*.npy"))) == 2


FROZEN = {
    "tiny": ["zero-shot"],
    "tiny/image-text": ["zero-shot"],
    "tiny/composed": ["text-only", "image-plus-text"],
}


@pytest.mark.parametrize("dataset", FROZEN)
def test_a_cells_captions_are_encoded_for_one_cell_alone(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    """The second time in a fresh process no text is encoded, and the record is the same."""
    monkeypatch.setattr(text_files, "FEWEST", 2)
    methods = FROZEN[dataset]
    cells = tiny_cells(tiny_data, tmp_path, datasets=[dataset], methods=methods)
    assert len(cells) == len(methods)
    records = []
    for way in ("first", "later"):
        _backbone.cache_clear()  # as a new process has none
        encoded: list[int] = []
        encode = FrozenTexts._encode

        def counted(self: FrozenTexts, texts: list[str], seen: list[int] = encoded) -> torch.Tensor:
            seen.append(len(texts))
            return encode(self, texts)  # noqa: B023

        with monkeypatch.context() as patched:
            patched.setattr(FrozenTexts, "_encode", counted)
            results = [run_cell(cell) for cell in cells]
        records.append([(r.record["metrics"], r.queries.to_dict()) for r in results if r])
        assert bool(encoded) == (way == "first")
        assert len(encoded) == len(set(encoded))  # and no list twice
    assert records[0] == records[1]


def test_of_two_who_come_together_one_encodes(tiny_backbone: Backbone, tmp_path: Path) -> None:
    encoded: list[int] = []
    both = Barrier(2)

    def ask(_: int) -> torch.Tensor:
        def encode() -> torch.Tensor:
            encoded.append(len(TEXTS))
            time.sleep(0.5)
            return tiny_backbone.text.encode_texts(TEXTS)

        both.wait()
        return TextFiles(tmp_path, tiny_backbone).features(TEXTS, encode)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert torch.equal(first, second) and encoded == [len(TEXTS)]
