"""The counted arithmetic of the growth table, and the table."""

from __future__ import annotations

import pytest

from bench.speed_growth import (
    Curve,
    Point,
    Tower,
    class_names,
    coop_step,
    curve,
    medians,
    paragraph,
    rank_flops,
    section,
    step_flops,
)
from methods.core.backbone import Backbone


def test_one_prompt_in_one_layer_by_hand() -> None:
    # One layer, width 2, D = 3: a prefix of 2 tokens, one prompt with one more, 5 images.
    linear = 3 * (2 * 2 * 4)  # keys and values, 2 x 2 -> 4 numbers, of three tokens
    linear += 2 * 2 * 2 + 2 * 2 * 2 + 2 * (2 * 2 * 8)  # query, output and MLP of the last token
    linear += 2 * 2 * 3  # projection
    attention = 2 * 3 * 2 + 2 * 3 * 2  # the last token's scores and mixture of three
    logits = 2 * 5 * 1 * 3
    expected = 2 * linear + 3 * attention + 2 * logits
    assert step_flops(Tower(1, 2, 3), 1, [1], 5) == expected


def test_a_further_layer_costs_all_tokens() -> None:
    one, two = (step_flops(Tower(n, 2, 3), 1, [1], 5) for n in (1, 2))
    linear = 3 * (2 * 2 * 2 * (3 + 1 + 8))
    seen = (1 + 2) + 3  # pairs of the prefix, and what the rest's token sees
    assert two - one == 2 * linear + 3 * (4 * 2 * seen)


def test_the_arithmetic_grows_linearly_with_classes_and_hardly_with_rows() -> None:
    tower = Tower(3, 128, 128)
    few, many = (step_flops(tower, 16, [6] * n, 32) for n in (1_000, 10_000))
    assert 9.8 < many / few < 10
    rows = [step_flops(tower, 16, [6] * 200, n) for n in (8, 512)]
    assert rows[0] < rows[1] < 1.1 * rows[0]
    assert rank_flops(10, 400, 8) == 4 * rank_flops(10, 100, 8)


def test_names_differ_and_their_number_is_bounded() -> None:
    names = class_names(5_000)
    assert len(set(names)) == 5_000 and names == class_names(5_000)
    with pytest.raises(ValueError, match="names can be made, 10000000 are asked for"):
        class_names(10_000_000)


def test_the_step_is_real(tiny_backbone: Backbone) -> None:
    flops, step = coop_step(tiny_backbone, 4, 2, 3)
    step()
    assert flops > 0
    # A class more costs more, and is counted.
    assert coop_step(tiny_backbone, 5, 2, 3)[0] > flops


def test_a_curve_counts_from_its_first_point() -> None:
    calls: list[int] = []
    found = curve(
        "work", "size", "nothing", [(n, float(n), lambda n=n: calls.append(n)) for n in (2, 6)]
    )
    assert calls[:4] == [2, 6, 2, 6], "in turn"
    first, last = found.points
    assert (first.measured, first.expected, last.expected) == (1.0, 1.0, 3.0)
    assert last.measured == last.seconds / first.seconds
    assert len(medians([lambda: None])) == 1


def test_the_words_name_the_point_furthest_above_its_arithmetic() -> None:
    steep = Curve("step", "classes", "-", (Point(1, 1.0, 1.0, 1.0), Point(1_000, 9.0, 9.0, 6.0)))
    flat = Curve("ranking", "gallery", "-", (Point(1, 1.0, 1.0, 1.0), Point(5, 2.0, 2.0, 5.0)))
    text = paragraph([steep, flat])
    assert "step: classes 1 to 1,000 cost 9 times as much, and the arithmetic grows 6 times" in text
    assert "furthest above its arithmetic is classes 1,000 (step), 1.50 times it" in text
    assert "no point grows faster than its arithmetic" in paragraph([flat])
    assert "| ranking (-) | gallery | 5 | 2000.0 | 2.00 | 5.00 | 0.40 |" in section([steep, flat])
