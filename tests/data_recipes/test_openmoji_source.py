"""Pairs of pictures and names, from drawings that no evaluated set shows."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from data_recipes.openmoji import OpenMojiConfig, OpenMojiSource
from data_recipes.openmoji.drawing import PRETRAINING
from data_recipes.openmoji.names import people
from data_recipes.openmoji.source import RENDERINGS, VALIDATION, pairs


def test_there_are_1588_drawings_and_none_of_them_is_evaluated() -> None:
    shown = {pair.drawing for pair in pairs(0)}
    assert len(shown) == 1588
    assert not shown & set(people())
    assert not {d.name for d in shown} & {d.role for d in people()}


def test_no_drawing_and_no_name_is_in_both_splits() -> None:
    codes, names = (
        {split: {read(p) for p in pairs(0) if p.split == split} for split in ("train", "val")}
        for read in (lambda p: p.drawing.code, lambda p: p.drawing.name)
    )
    for found in (codes, names):
        assert not found["train"] & found["val"]
        assert (len(found["train"]), len(found["val"])) == (1588 - VALIDATION, VALIDATION)
    assert set(Counter(p.drawing.code for p in pairs(0) if p.split == "train").values()) == {
        RENDERINGS
    }


def test_the_two_directions_ask_for_the_same_pairs() -> None:
    recipe = OpenMojiSource()
    task = recipe.tasks()[0]
    assert all(part.problems({p.id for p in recipe.pairs}) == [] for part in task.parts())
    i2t, t2i = task.evaluate
    assert {(q.id, c) for q in i2t.queries for c in q.relevant} == {
        (c, q.id) for q in t2i.queries for c in q.relevant
    }
    caption = {c.id: c.text for c in task.training().candidates}
    drawing = {pair.id: pair.drawing for pair in recipe.pairs}
    for query in task.training().queries:
        assert query.image is not None
        assert [caption[i] for i in query.relevant] == [drawing[query.image].name]


def test_pictures_depend_on_the_seed_and_have_the_look_of_pretraining() -> None:
    first, again, other = (
        list(islice(OpenMojiSource(OpenMojiConfig(seed=seed)).images(), 4)) for seed in (0, 0, 1)
    )
    assert [i.data for i in first] == [i.data for i in again]
    assert all(a.data != b.data for a, b in zip(first, other, strict=True))
    low, high = PRETRAINING.scale
    assert all(low <= pair.nuisance.scale <= high for pair in pairs(0))
