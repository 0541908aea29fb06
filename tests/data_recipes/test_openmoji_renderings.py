"""Four renderings of one set of classes, and base and new classes."""

from __future__ import annotations

import io
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data_recipes.core.recipe import Recipe
from data_recipes.openmoji import (
    OpenMojiBaseNew,
    OpenMojiRoles,
    OpenMojiRolesGrey,
    OpenMojiRolesLines,
    OpenMojiRolesPlain,
    OpenMojiRolesShifted,
)
from data_recipes.openmoji.base_new import halves
from data_recipes.openmoji.names import roles

SHIFTED = (OpenMojiRolesShifted, OpenMojiRolesGrey, OpenMojiRolesLines)


def pixels(recipe: Recipe, number: int = 3) -> list[NDArray[np.uint8]]:
    images = [source.load(None)[0] for source in islice(recipe.images(), number)]
    return [np.asarray(Image.open(io.BytesIO(image.data))) for image in images]


@pytest.mark.parametrize("kind", [OpenMojiRolesPlain, *SHIFTED])
def test_classes_queries_and_answers_are_those_of_openmoji_roles(kind: type[Recipe]) -> None:
    task, home = kind().tasks()[0], OpenMojiRoles().tasks()[0]
    assert task.class_names == home.class_names == roles()
    assert task.evaluate == home.evaluate  # candidates, query ids, answers, attributes
    assert task.templates == home.templates
    assert task.train == (home.train if kind is OpenMojiRolesPlain else None)


@pytest.mark.parametrize("kind", SHIFTED)
def test_the_others_have_test_pictures_only(kind: type[Recipe]) -> None:
    recipe = kind()
    assert isinstance(recipe, OpenMojiRolesPlain)
    assert [p.id for p in recipe.pictures] == [q.id for q in recipe.tasks()[0].evaluate[0].queries]
    assert len(recipe.pictures) == 1320


def test_shifted_pictures_are_the_test_pictures_of_openmoji_roles() -> None:
    ids = [p.id for p in islice(OpenMojiRolesShifted().pictures, 3)]
    home = (p for p in OpenMojiRoles().images() if p.id in ids)
    assert [p.data for p in islice(home, 3)] == [
        p.data for p in islice(OpenMojiRolesShifted().images(), 3)
    ]


def test_poses_are_equal_in_plain_grey_and_lines() -> None:
    plain = [p.nuisance for p in OpenMojiRolesPlain().pictures if p.split == "test"]
    grey = [p.nuisance for p in OpenMojiRolesGrey().pictures]
    lines = [p.nuisance for p in OpenMojiRolesLines().pictures]
    pose = [(n.scale, n.rotation, n.shift) for n in plain]
    assert lines == plain
    assert [(n.scale, n.rotation, n.shift) for n in grey] == pose
    assert len(set(pose)) == len(pose)  # so that no two pictures of one drawing are equal


def test_each_rendering_is_what_its_name_says() -> None:
    for picture in pixels(OpenMojiRolesPlain()):
        assert (picture[0] == 255).all()
        assert (np.ptp(picture.astype(int), axis=2) > 60).any()
    for picture in pixels(OpenMojiRolesGrey()):
        assert (picture[0] == 255).all()
        assert (np.ptp(picture.astype(int), axis=2) <= 1).all()
    for picture in pixels(OpenMojiRolesLines()):
        assert (np.ptp(picture.astype(int), axis=2) <= 1).all()
        assert picture.min() < 60
        assert (picture > 200).mean() > 0.6  # nothing is filled


def test_a_base_class_is_never_a_new_class() -> None:
    base, new = halves()
    assert (len(base), len(new)) == (69, 69)
    assert not base & new
    assert max(base) < min(new)  # the first half in label order, as in CoCoOp


def test_base_and_new_are_the_two_halves_of_openmoji_roles() -> None:
    task, home = OpenMojiBaseNew().tasks()[0], OpenMojiRoles().tasks()[0]
    base, new = task.evaluate
    assert task.protocol == "base-to-new/1"
    assert [part.name for part in task.evaluate] == ["base", "new"]
    assert task.training().candidates == base.candidates
    assert base.candidates + new.candidates == home.evaluate[0].candidates
    assert {q.group for q in task.training().queries} == halves()[0]
    assert sorted(q.id for part in task.evaluate for q in part.queries) == sorted(
        q.id for q in home.evaluate[0].queries
    )
    known = {q.id: q for q in (*home.training().queries, *home.evaluate[0].queries)}
    assert all(known[q.id] == q for part in task.parts() for q in part.queries)


def test_no_picture_of_a_new_class_is_for_training() -> None:
    recipe = OpenMojiBaseNew()
    shown = {p.id for p in recipe.pictures}
    for part in recipe.tasks()[0].parts():
        assert part.problems(shown) == []
    assert not {p.drawing.role for p in recipe.pictures if p.split == "train"} & halves()[1]


def test_base_and_new_show_the_pictures_of_openmoji_roles() -> None:
    first = list(islice(OpenMojiBaseNew().images(), 3))
    ids = {image.id for image in first}
    home = islice((i for i in OpenMojiRoles().images() if i.id in ids), 3)
    assert [i.data for i in home] == [i.data for i in first]
