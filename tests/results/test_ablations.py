"""Effects of ablations: planted ones are found, and each stands against its own base."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.ablations import ABLATION_COLUMNS, ablation_effects, option_of
from results.compare import holm
from results.frames import from_records

QUERIES = 1500
SEEDS = (1, 2, 3)
PLANTED = {"n_ctx=4": 0.0, "n_ctx=16": 0.10, "alpha=0.5": -0.14}


class Planted:
    """Records and outcomes of `coop` and ablations that gain `PLANTED` over it."""

    def __init__(self, make_record: Any) -> None:
        self.make, self.records, self.ranks = make_record, [], {}
        rng = np.random.default_rng(5)
        self.skill = rng.uniform(0.2, 0.8, QUERIES)
        for seed in SEEDS:
            self.add(seed, 0.0, None, rng)
            for option, gain in PLANTED.items():
                self.add(seed, gain, option, rng)

    def add(
        self,
        seed: int,
        gain: float,
        option: str | None,
        rng: np.random.Generator,
        base: str | None = None,
        trained: bool = True,
    ) -> None:
        hits = (rng.uniform(size=QUERIES) < self.skill + gain).astype(float)
        record = self.make(
            shots=4 if trained else 0,
            seed=seed,
            accuracy=float(hits.mean()),
            variant=base if option is None else f"{base or 'coop'}[{option}]",
        )
        if option is not None:
            record["cell"]["ablation_of"] = base or "coop"
        self.records.append(record)
        self.ranks[record["key"]] = pd.DataFrame(
            {
                "query_id": [f"q{n}" for n in range(QUERIES)],
                "part": "test",
                "group": "g",
                "cluster": [f"q{n}" for n in range(QUERIES)],
                "rank": np.where(hits > 0, 1, 2),
                "value": hits,
                "gallery": 10,
            }
        )

    def effects(self) -> pd.DataFrame:
        return ablation_effects(from_records(self.records), self.ranks.get)


@pytest.fixture
def planted(make_record: Any) -> Planted:
    return Planted(make_record)


def test_planted_effects_are_found_and_none_where_there_is_none(planted: Planted) -> None:
    found = planted.effects()
    assert list(found.columns) == list(ABLATION_COLUMNS)
    assert list(found["option"]) == ["alpha=0.5", "n_ctx=4", "n_ctx=16"]  # numbers as numbers
    for row in found.to_dict("records"):
        gain = PLANTED[row["option"]]
        assert (row["base"], row["variant"]) == ("coop", f"coop[{row['option']}]")
        assert row["difference"] == pytest.approx(row["mean"] - row["base_mean"])
        assert row["low"] <= gain <= row["high"]
        assert (row["p_holm"] < 0.05) == (gain != 0)
        assert math.copysign(1, row["difference"]) == math.copysign(1, gain) or gain == 0
        assert (row["replicates"], row["queries"], row["shots"]) == (3, QUERIES, 4)


def test_holm_is_over_the_ablations_of_one_base(planted: Planted) -> None:
    rng = np.random.default_rng(6)
    for seed in SEEDS:
        planted.add(seed, 0.0, None, rng, base="wide")
        planted.add(seed, 0.04, "n_ctx=8", rng, base="wide")
    found = planted.effects().set_index("base")
    coop, wide = found.loc["coop"], found.loc["wide"]
    assert list(coop["p_holm"]) == holm(list(coop["p"])) and list(coop["p_holm"]) != list(coop["p"])
    assert wide["p_holm"] == wide["p"]  # one test is no family
    assert wide["option"] == "n_ctx=8"


def test_the_order_of_records_changes_nothing(planted: Planted) -> None:
    before = planted.effects().to_csv()
    planted.records.reverse()
    assert planted.effects().to_csv() == before


def test_without_its_base_an_ablation_is_named_with_a_note(planted: Planted) -> None:
    planted.records = [r for r in planted.records if r["cell"].get("ablation_of")]
    found = planted.effects()
    assert len(found) == 3 and found["difference"].isna().all() and found["p_holm"].isna().all()
    assert set(found["note"]) == {"not compared: its base has no record at these shots"}
    assert found["mean"].between(0.3, 0.7).all()


def test_what_needs_no_training_stands_at_the_shots_of_its_base(planted: Planted) -> None:
    rng = np.random.default_rng(7)
    planted.add(0, -0.2, "phi=fixed", rng, trained=False)
    found = planted.effects().set_index("option")
    row = found.loc["phi=fixed"]
    assert (row["shots"], row["replicates"]) == (4, 3) and row["high"] < -0.1


def test_each_origin_has_its_own_base(planted: Planted) -> None:
    for record in [r for r in planted.records if r["cell"]["variant"] in (None, "coop[n_ctx=16]")]:
        twin = {**record, "key": record["key"] + "far"}
        twin["cell"] = {**record["cell"], "trained_on": "other/task"}
        planted.records.append(twin)
        planted.ranks[twin["key"]] = planted.ranks[record["key"]]
    found = planted.effects()
    far = found[found["base"] == "coop (from other/task)"]
    assert list(far["variant"]) == ["coop[n_ctx=16] (from other/task)"]
    assert len(found) == 4 and found["note"].eq("").all()


def test_without_outcomes_or_seeds_there_is_a_difference_and_no_interval(planted: Planted) -> None:
    planted.records = [r for r in planted.records if r["cell"]["seed"] == 1]
    found = ablation_effects(from_records(planted.records), lambda _: None)
    assert found["difference"].notna().all() and found["low"].isna().all()
    assert found["note"].str.startswith("not compared: one run each").all()


def test_no_ablation_no_row(make_record: Any) -> None:
    found = ablation_effects(from_records([make_record()]), lambda _: None)
    assert found.empty and list(found.columns) == list(ABLATION_COLUMNS)


def test_an_option_is_what_the_label_holds() -> None:
    assert option_of("coop", "coop[n_ctx=16, ctx_init=a [b]]") == "n_ctx=16, ctx_init=a [b]"
    assert option_of("coop", "mine") == "mine"
