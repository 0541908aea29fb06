"""Several right drawings: recomputed from the attributes alone, without the recipe's own rule."""

from __future__ import annotations

from collections import Counter

import pytest

from data_recipes.core.model import Query, RetrievalTask
from data_recipes.core.protocol import CIRCO_ASPECTS, protocol
from data_recipes.openmoji import OpenMojiMulti, composed, multi
from data_recipes.openmoji.names import ATTRIBUTES, people, split_of

TASK = OpenMojiMulti().tasks()[0]
PARTS = {part.name: part for part in TASK.parts()}
DRAWINGS = {d.code: d for d in people()}


def right(part: RetrievalTask, query: Query) -> set[str]:
    """Every candidate that has the changed values and shares all that is neither changed nor open.

    Only the written task is used: the meta of the query and of the candidates.
    """
    fixed = {a: query.meta["reference"][a] for a in ATTRIBUTES if a not in query.meta["open"]}
    wanted = {**fixed, **query.meta["changes"]}
    return {c.id for c in part.candidates if all(c.meta[name] == v for name, v in wanted.items())}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_right_drawings_are_exactly_those_that_the_attributes_say(part: RetrievalTask) -> None:
    assert part.problems() == []
    for query in part.queries:
        assert set(query.relevant) == right(part, query)
        assert query.credit == (1.0, *[0.0] * (len(query.relevant) - 1))
        assert query.image in part.position and query.image not in query.relevant
        assert not query.excluded and query.gallery is None


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_neither_image_nor_text_alone_says_what_is_right(part: RetrievalTask) -> None:
    """The text alone leaves wrong drawings in; and the reference lacks what the text says."""
    for query in part.queries:
        said = query.meta["changes"]
        by_text = {c.id for c in part.candidates if all(c.meta[a] == v for a, v in said.items())}
        assert set(query.relevant) < by_text
        assert all(query.meta["reference"][a] != v for a, v in said.items())


def test_there_are_one_to_fourteen_targets_as_in_circo() -> None:
    sizes = Counter(len(query.relevant) for query in PARTS["test"].queries)
    assert (min(sizes), max(sizes)) == (1, 14)
    assert len(sizes) == 10
    assert 4 < sum(n * count for n, count in sizes.items()) / 250 < 5  # CIRCO: 4.53


@pytest.mark.parametrize("place", [0, 1])
def test_every_kind_is_there_as_often_as_planned(place: int) -> None:
    part = TASK.parts()[place]
    planned = {
        f"{'+'.join(changed)}, any {'+'.join(free)}": counts[place]
        for (changed, free), counts in multi.KINDS.items()
    }
    assert Counter(q.group for q in part.queries) == planned
    assert min(planned.values()) >= 8
    assert max(Counter((q.group, q.image) for q in part.queries).values()) <= multi.PER_REFERENCE


def test_the_sides_share_no_role_and_no_drawing() -> None:
    train, test = ({c.id for c in PARTS[side].candidates} for side in ("train", "test"))
    assert (len(train), len(test)) == (344, 717)
    assert not train & test
    roles = [{(DRAWINGS[i].role, DRAWINGS[i].hair) for i in side} for side in (train, test)]
    assert not roles[0] & roles[1]
    assert test <= {d.code for d in composed.gallery("test")}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_references_and_annotated_targets_are_held_out_of_pretraining(part: RetrievalTask) -> None:
    for query in part.queries:
        assert query.image is not None
        assert split_of(DRAWINGS[query.image]) != "pretrain"
        assert split_of(DRAWINGS[query.relevant[0]]) != "pretrain"


def test_a_text_says_what_is_open_and_what_is_changed() -> None:
    for query in PARTS["test"].queries:
        assert query.text is not None
        opened = query.meta["open"]
        assert ("any skin tone" in query.text) == ("tone" in opened)
        assert ("facing left or right" in query.text) == ("direction" in opened)
        assert (query.text.endswith(("any gender", "of any gender", "woman or man or person"))) == (
            "gender" in opened
        )
        tone = query.meta["changes"].get("tone", "-")
        assert tone == "-" or (tone or "yellow") in query.text


def test_semantic_aspects_are_circos_own() -> None:
    for query in PARTS["test"].queries:
        aspects, changed = query.meta["semantic_aspects"], query.meta["changes"]
        assert set(aspects) <= set(CIRCO_ASPECTS)
        assert ("viewpoint" in aspects) == ("direction" in changed)
        assert ("statement_with_conjunction" in aspects) == (len(changed) > 1)


def test_the_protocol_is_that_of_circo_without_its_slices() -> None:
    own, circo = protocol(TASK.protocol), protocol("circo/1")
    assert (own.metrics, own.headline) == (circo.metrics, circo.headline)


def test_the_specification_is_the_same_each_time() -> None:
    before = OpenMojiMulti().tasks()
    multi.questions.cache_clear()
    multi.gallery.cache_clear()
    assert OpenMojiMulti().tasks() == before
