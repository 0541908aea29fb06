"""Samples dealt to ranks: each encoded once, equal counts, and the same bits as on one rank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench import features
from bench.embed import embed
from bench.features import image_features
from bench.gather import ALONE, OtherRankError, dealt, gather
from bench.train import Engine
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import Query
from methods.core.backbone import load_backbone
from methods.core.contract import Batch, TaskInfo
from methods.core.registry import method
from tests.ranks import on_ranks
from tests.tiny import TINY_SPEC


@given(st.integers(1, 100), st.integers(1, 40), st.integers(1, 9))
def test_every_row_is_dealt_in_the_batch_of_one_rank(rows: int, size: int, ranks: int) -> None:
    alone = dealt(rows, size, ALONE)
    assert [n for part in alone for n in range(rows)[part]] == list(range(rows))
    shares = [dealt(rows, size, Engine(rank=rank, world_size=ranks)) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert len(shares[0]) == -(-len(alone) // ranks)
    together = [part for share in shares for part in share]
    assert together[: len(alone)] == alone
    assert all(part == alone[-1] for part in together[len(alone) :])


def test_one_rank_needs_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gather", "all_gather", "all_reduce"):
        monkeypatch.delattr(torch.distributed, name)
    numbers = torch.arange(14.0).reshape(7, 2)
    found = gather(lambda own: torch.cat([numbers[part] for part in own]), 7, 3)
    assert torch.equal(found, numbers)


ROWS, SIZE = 203, 32


def worded(count: int) -> list[Query]:
    """Texts of many lengths; every fifth query has three of them."""
    rows = []
    for n in range(count):
        texts = [f"{'very ' * (k + n % 4)}dark colour, number {n}" for k in range(3)]
        meta = {"texts": texts} if n % 5 == 0 else {}
        rows.append(Query(str(n), image=str(n), text=texts[0], meta=meta))
    return rows


def work(engine: Engine, data: str, caches: str) -> dict[str, Tensor]:
    """What a rank holds: embedded queries, features through a new cache, and their cache file."""
    backbone = load_backbone(TINY_SPEC)
    kind = method("image-plus-text")
    composer = kind(kind.Config(), backbone, TaskInfo(kind="composed"))
    pictures = torch.nn.functional.normalize(
        torch.randn(ROWS, backbone.dim, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    with torch.no_grad():
        queries = embed(
            composer.query, worded(ROWS), lambda i: pictures[[int(n) for n in i]], SIZE, engine
        )
    features.BATCH = 5
    cache = Path(caches) / f"{engine.world_size}"
    found = image_features(open_dataset(data), backbone, cache, engine)
    own = Path(caches) / f"{engine.world_size}-of-{engine.rank}"  # a cache that is not shared
    apart = image_features(open_dataset(data), backbone, own, engine)
    return {"queries": queries, "features": found.features + 0, "apart": apart.features + 0}


def failing(engine: Engine) -> str:
    """One rank fails while encoding, then the ranks hold different samples."""
    said = []
    for rows in (5, 5 + engine.rank):

        def encode(own: list[slice], rows: int = rows) -> Tensor:
            if rows == 5 and engine.rank == 1 and not said:
                raise KeyError("no such image")
            return torch.zeros(sum(len(range(rows)[part]) for part in own), 2)

        try:
            gather(encode, rows, 2, engine)
        except (KeyError, OtherRankError, ValueError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return "\n".join(said)


@pytest.mark.slow
def test_ranks_hold_the_bits_of_one_rank(tiny_data: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (alone,) = [work(ALONE, str(tiny_data / "tiny"), str(tmp_path))]
    finally:
        torch.set_num_threads(threads)
    assert len(alone["queries"]) == ROWS
    for ranks in (2, 3):
        folder = tmp_path / f"ranks-{ranks}"
        folder.mkdir()
        found = on_ranks(work, ranks, folder, str(tiny_data / "tiny"), str(tmp_path))
        assert torch.equal(found[0]["queries"], alone["queries"])
        assert all(one["queries"].shape == (0, 16) for one in found[1:])
        for name in ("features", "apart"):
            assert all(torch.equal(one[name], alone["features"]) for one in found)


@pytest.mark.slow
def test_what_fails_on_one_rank_fails_on_all(tmp_path: Path) -> None:
    first, second = (said.splitlines() for said in on_ranks(failing, 2, tmp_path))
    assert first[0] == "OtherRankError: rank 1: KeyError: 'no such image'"
    assert second[0] == "KeyError: 'no such image'"
    assert first[1].startswith("ValueError: the ranks hold different samples")
    assert first[1] == second[1]


def test_a_query_with_several_texts_has_their_mean() -> None:
    def encode(batch: Batch) -> Tensor:
        assert batch.texts is not None and batch.images is not None
        lengths = torch.tensor([[float(len(text)), 1.0] for text in batch.texts])
        return torch.nn.functional.normalize(lengths + batch.images, dim=-1)

    images = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([0.0, 5.0])}

    def picture(ids: list[str]) -> Tensor:
        return torch.stack([images[i] for i in ids])

    rows = [
        Query("1", image="a", text="one", meta={"texts": ["one", "three", "x"]}),
        Query("2", image="b", text="two"),
        Query("3", image="b", text="two", meta={"texts": ["two", "fourteen"]}),
        Query("4", image="b", text="two", meta={"texts": ["two"]}),
    ]

    def alone(image: str, text: str) -> Tensor:
        return encode(Batch(picture([image]), [text]))[0]

    found = embed(encode, rows, picture, size=3)
    three = sum(alone("a", text) for text in ("one", "three", "x"))
    assert isinstance(three, Tensor)
    torch.testing.assert_close(found[0], three / three.norm())
    both = alone("b", "two") + alone("b", "fourteen")
    torch.testing.assert_close(found[2], both / both.norm())
    assert torch.equal(found[1], alone("b", "two")) and torch.equal(found[3], found[1])


def test_rows_with_one_text_are_encoded_once() -> None:
    calls = []

    def encode(batch: Batch) -> Tensor:
        calls.append(list(batch.texts or ()))
        return torch.ones(len(calls[-1]), 2)

    embed(encode, [Query(str(n), text=f"t{n}") for n in range(5)], lambda _: torch.empty(0), 2)
    assert calls == [["t0", "t1"], ["t2", "t3"], ["t4"]]


@pytest.mark.parametrize("texts", ["one text", [], [1, 2], None])
def test_texts_that_are_no_list_of_strings_are_refused(texts: object) -> None:
    rows = [Query("q7", text="a", meta={"texts": texts})]
    with pytest.raises(ValueError, match="'q7': meta 'texts' must be a list of strings"):
        embed(lambda batch: torch.ones(1, 2), rows, lambda _: torch.empty(0))
