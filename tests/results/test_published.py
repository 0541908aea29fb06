"""The published numbers: every row parses, is plausible, and says where it was read."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from results.published import PUBLISHED_COLUMNS, UNSTATED, published, sources

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
FAMILIES = sorted(path for path in FOLDER.glob("*.csv") if path.name != "sources.csv")


@pytest.mark.parametrize("path", FAMILIES, ids=lambda path: path.stem)
def test_every_row_is_a_percentage_with_a_source(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        assert 0 < Decimal(row["printed"]) < 100, row
        assert row["source"] in sources().index, row
        assert all(row[f"their_{name}"] for name in ("method", "backbone", "dataset", "metric"))
        assert bool(row["dataset"]) == bool(row["protocol"]) == bool(row["metric"]), row
        assert not row["options"] or isinstance(json.loads(row["options"]), dict), row
    names = [tuple(v for k, v in row.items() if k.startswith("their_")) for row in rows]
    named = [(*name, row["source"]) for name, row in zip(names, rows, strict=True)]
    assert len(set(named)) == len(named)


def test_all_of_them_in_one_table() -> None:
    table = published()
    assert tuple(table.columns) == PUBLISHED_COLUMNS
    assert len(table) == 3068
    assert table["value"].between(0.001, 0.999).all()
    assert (table["shots"] >= UNSTATED).all()
    assert table["address"].str.startswith("https://").all()
    assert table["second_hand"].any() and not table["second_hand"].all()


def test_sources_say_what_is_second_hand() -> None:
    table = sources()
    assert table["title"].ne("").all() and table["year"].between(2015, 2030).all()
    assert table.loc[["MP", "AGG"], "second_hand"].all()
    assert not table.loc["DC", "second_hand"]
    assert published().loc[lambda t: t["source"].isin(["MP", "AGG"]), "second_hand"].all()


def test_known_numbers_are_these() -> None:
    """CoOp's curve on ImageNet equals the table of another source; FDRD's average is its mean."""
    table = published()
    coop = table[(table["method"] == "coop") & (table["dataset"] == "imagenet")]
    coop = coop[coop["trained_on"].eq("") & coop["backbone"].eq("RN50-quickgelu/openai")]
    by_source = coop.pivot(index="shots", columns="source", values="printed")
    assert by_source["CF"].tolist() == ["57.15", "57.81", "59.99", "61.56", "62.95"]
    assert by_source["CF"].tolist() == by_source["TA"].tolist()
    fdrd = table[(table["their_method"] == "DCAR") & table["source"].eq("DC")]
    for _, rows in fdrd.groupby("their_metric"):
        average = rows["their_dataset"] == "FDRD-AVG"
        assert abs(rows[~average]["value"].mean() - rows[average]["value"].item()) < 1e-4


def test_a_row_that_was_spoilt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from results import published as module

    text = (FOLDER / "fdrd.csv").read_text(encoding="utf-8")
    monkeypatch.setattr(module, "files", lambda _: tmp_path)
    (tmp_path / "sources.csv").write_text((FOLDER / "sources.csv").read_text(encoding="utf-8"))
    for old, new, said in (
        (",38.99,", ",38,99,", "fdrd.csv"),
        (",38.99,", ",much,", "fdrd.csv: could not convert"),
        (",DC,no,", ",XX,no,", "no source 'XX'"),
        (",DC,no,", ",DC,maybe,", "second_hand is 'maybe'"),
    ):
        (tmp_path / "fdrd.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises((ValueError, pd.errors.ParserError), match=said):
            module.published.__wrapped__()
