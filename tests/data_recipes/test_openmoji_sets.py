"""The two downstream datasets, checked as specifications; a few images are rendered."""

from collections import Counter
from dataclasses import asdict
from itertools import islice

import pytest

from data_recipes.core import strict_json
from data_recipes.core.recipe import Recipe
from data_recipes.openmoji import OpenMojiComposed, OpenMojiConfig, OpenMojiRoles, composed
from data_recipes.openmoji.names import roles, split_of
from data_recipes.openmoji.roles import pictures


def test_every_class_has_eight_training_pictures_and_some_to_test() -> None:
    train = Counter(p.drawing.role for p in pictures(0) if p.split == "train")
    test = Counter(p.drawing.role for p in pictures(0) if p.split == "test")
    assert set(train) == set(test) == set(roles())
    assert min(train.values()) >= 8
    assert sum(test.values()) == 1320


def test_no_drawing_is_in_two_splits_or_in_pretraining() -> None:
    train = {p.drawing.code for p in pictures(0) if p.split == "train"}
    test = {p.drawing.code for p in pictures(0) if p.split == "test"}
    assert not train & test
    assert all(split_of(p.drawing) == p.split for p in pictures(0))


def test_pictures_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = pictures(0), pictures(0), pictures(1)
    assert first == again
    assert [p.id for p in first] == [p.id for p in other]
    assert all(a.nuisance != b.nuisance for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("side", ["train", "test"])
def test_every_edit_is_exact(side: composed.Side) -> None:
    gallery = composed.gallery(side)
    known = Counter(composed.apply(d, ()) for d in gallery)
    assert set(known.values()) == {1}
    for edit in composed.edits(side):
        assert composed.apply(edit.reference, edit.changes) == composed.apply(edit.target, ())
        assert edit.reference in gallery
        assert edit.target in gallery
        assert edit.kind == "+".join(name for name, _ in edit.changes)
        assert all(getattr(edit.reference, name) != value for name, value in edit.changes)
        assert "pretrain" not in {split_of(edit.reference), split_of(edit.target)}


def test_the_sides_share_no_role_and_no_drawing() -> None:
    units = {side: {(d.role, d.hair) for d in composed.gallery(side)} for side in ("train", "test")}
    assert not units["train"] & units["test"]
    assert len(units["test"]) == 52


@pytest.mark.parametrize("side", ["train", "test"])
def test_every_kind_of_edit_is_there_as_often_as_planned(side: composed.Side) -> None:
    kinds = Counter(edit.kind for edit in composed.edits(side))
    place = 0 if side == "train" else 1
    assert kinds == {kind: counts[place] for kind, counts in composed.KINDS.items()}
    assert min(kinds.values()) >= 8


def test_a_text_is_said_in_several_ways() -> None:
    texts = {e.text for e in composed.edits("test") if ("tone", "dark") in e.changes}
    assert sum("dark skin tone" in text for text in texts) > 5
    assert sum("having dark skin" in text for text in texts) > 2


@pytest.mark.parametrize("recipe", [OpenMojiRoles(), OpenMojiComposed()])
def test_tasks_are_sound_and_their_images_exist(recipe: Recipe) -> None:
    if isinstance(recipe, OpenMojiRoles):
        ids = {picture.id for picture in recipe.pictures}
    else:
        ids = {d.code for side in ("train", "test") for d in composed.gallery(side)}
    for task in recipe.tasks():
        for part in task.parts():
            assert part.problems(ids) == []


def test_images_are_png_and_the_same_each_time() -> None:
    first = list(islice(OpenMojiRoles().images(), 5))
    again = list(islice(OpenMojiRoles().images(), 5))
    other = list(islice(OpenMojiRoles(OpenMojiConfig(seed=1)).images(), 5))
    assert [i.data for i in first] == [i.data for i in again]
    assert all(a.data != b.data for a, b in zip(first, other, strict=True))
    assert first[0].data.startswith(b"\x89PNG")


def test_the_licence_goes_with_the_pictures() -> None:
    for recipe in (OpenMojiRoles, OpenMojiComposed):
        assert recipe.licence == "CC BY-SA 4.0"
        assert "OpenMoji" in recipe.attribution


PUBLISHED = {
    OpenMojiRoles: "bdd3c9ac1cc0c305a17b5bed696621228797a768435399db565ea1c76e0714fb",
    OpenMojiComposed: "155efc555089fe1abf89310c3fcb2244fa87d1048b5b5900df06af5cade52f7d",
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_published_tasks_do_not_change_silently(recipe: type[Recipe]) -> None:
    """A change here needs a new version of the recipe: results name the dataset's digest."""
    assert strict_json.digest([asdict(task) for task in recipe().tasks()]) == PUBLISHED[recipe]
