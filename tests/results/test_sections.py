"""Sections of the report that belong to no single table, and published numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from results.document import Block
from results.effect_sections import published_blocks
from results.frames import TABLE
from results.gap import GAP_COLUMNS
from results.html import render_html
from results.markdown import render_markdown
from results.study_sections import (
    flag_blocks,
    ledger_blocks,
    left_out_blocks,
    overview_blocks,
    variance_blocks,
)

PLACE = {
    "dataset": "roles",
    "task": "captions",
    "protocol": "image-text/1",
    "backbone": "tiny",
    "data_version": "",
    "backbone_version": "",
    "oracle": "",
    "method": "coop",
    "variant": "",
    "trained_on": "",
    "ablation_of": "",
    "trains": True,
    "shots": 4,
    "draw": -1,
    "seed": 2,
    "key": "k1",
}


def rows(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([PLACE | change for change in changes])


def lines(blocks: list[Block]) -> list[str]:
    return render_markdown(blocks).splitlines()


def test_flags_are_shown_and_said_to_stay() -> None:
    found = lines(
        flag_blocks(
            rows({"flag": "diverged", "detail": "loss 3 times"}, {"flag": "x", "detail": ""})
        )
    )
    assert (
        "| roles/captions | coop | 4 | 2 | image-text/1 | tiny | diverged | loss 3 times | k1 |"
        in (found)
    )
    assert any("part of every mean" in line for line in found)


def test_variance_in_points() -> None:
    found = rows(
        {"metric": "recall@1", "sd_draw": 0.012, "sd_seed": 0.0, "sd_rest": float("nan")}
        | {"draws": 3, "seeds": 2}
    )
    assert "| roles/captions | coop | 4 | recall@1 | 1.20 | 0.00 | — | 3 | 2 |" in lines(
        variance_blocks(found)
    )


def test_ledger_says_how_options_were_chosen() -> None:
    spent = {"tries": 3, "records": 12, "gpu_seconds": 0.04, "core_seconds": 1234.56}
    chosen = {"selection": "validation", "selection_split": "val"}
    assert "| roles/captions | tiny | coop | 3 | 12 | 0.0 | 1,234.6 | validation | val |" in lines(
        ledger_blocks(rows(spent | chosen))
    )


def test_average_ranks_are_labelled_as_an_overview() -> None:
    about = {"datasets": 6, "critical_difference": 1.234}
    found = lines(
        overview_blocks(
            rows(
                about | {"label": "b", "average_rank": 2.0},
                about | {"label": "a", "average_rank": 1.0},
            )
        )
    )
    assert any(line.startswith("An overview only") for line in found)
    assert "- tiny, 4 shots, 6 datasets: a 1.00, b 2.00 (critical difference 1.23)" in found


def test_published_numbers_stand_beside_ours() -> None:
    row: dict[str, Any] = dict.fromkeys(GAP_COLUMNS, "") | {name: PLACE[name] for name in TABLE}
    row |= {
        "label": "coop",
        "shots": 4,
        "metric": "recall@1",
        "ours": 0.512,
        "half_width": 0.013,
        "published": 0.5,
        "gap": 0.012,
        "same_backbone": True,
        "same_protocol": True,
        "comparable": True,
        "second_hand": False,
        "source": "Table 2",
        "address": "https://example.org/a?b=1&c=2",
        "their_method": "CoOp",
        "their_backbone": "RN50",
    }
    other = row | {"same_backbone": False, "comparable": False, "second_hand": True}
    other["address"] = "javascript:alert(1)"
    frame = pd.DataFrame([row, other], columns=list(GAP_COLUMNS))
    blocks = published_blocks(frame, {})
    found = lines(blocks)
    ours = "| coop | 4 | recall@1 | 51.2 ± 1.3 | 50.0 |"
    link = "[Table 2](<https://example.org/a?b=1&c=2>)"
    assert f"{ours} +1.2 | CoOp, RN50 | yes | yes | {link} | — |" in found
    assert f"{ours} (+1.2) | CoOp, RN50 | no | yes | Table 2 (second-hand) | — |" in found
    page = render_html(blocks)
    assert '<a href="https://example.org/a?b=1&amp;c=2">Table 2</a>' in page
    assert "javascript" not in page


def test_nothing_has_no_section() -> None:
    nothing = rows().reindex(columns=list(PLACE))
    for section in (flag_blocks, variance_blocks, ledger_blocks, overview_blocks):
        assert section(nothing) == []
    assert left_out_blocks(0) == []
    assert "1 stored record of" in lines(left_out_blocks(1))[0]
    assert "1,200 stored records of" in lines(left_out_blocks(1200))[0]
