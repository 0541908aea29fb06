"""Labelled images as tasks: candidates in label order, base and new classes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_recipes.core.classification import Labelled, Splits, classification_tasks

TEMPLATES = ("a photo of a {}.",)


def splits(labels: list[int], val: bool = True) -> Splits:
    def images(split: str) -> list[Labelled]:
        return [Labelled(f"{split}/{label}", label) for label in labels]

    names = {label: f"name {label}" for label in labels}
    return Splits(names, images("train"), images("val") if val else [], images("test"))


def test_candidates_are_the_class_names_in_label_order() -> None:
    classify, val, _ = classification_tasks(splits([7, 0, 3, 5]), TEMPLATES)
    assert classify.class_names == ("name 0", "name 3", "name 5", "name 7")
    assert (classify.name, classify.protocol) == ("classification", "classification/1")
    assert (val.name, [p.name for p in val.parts()]) == ("val", ["train", "val"])
    query = classify.evaluate[0].queries[0]
    assert (query.image, query.relevant, query.group) == ("test/7", ("class-007",), "class-007")
    assert all(task.templates == TEMPLATES for task in (classify, val))


def test_equal_names_are_told_apart_by_label() -> None:
    cranes = Splits({0: "crane", 1: "crane"}, [], [], [Labelled("a", 0), Labelled("b", 1)])
    (task,) = classification_tasks(cranes, TEMPLATES)
    assert task.train is None
    assert {query.group for query in task.evaluate[0].queries} == {"class-000", "class-001"}
    assert task.evaluate[0].problems() == []


@given(st.lists(st.integers(0, 999), min_size=4, max_size=30, unique=True))
def test_base_is_the_first_half_of_the_labels_and_new_the_rest(labels: list[int]) -> None:
    task = classification_tasks(splits(labels), TEMPLATES)[-1]
    assert (task.name, task.protocol) == ("base-to-new", "base-to-new/1")
    base, new = task.evaluate
    half = (len(labels) + 1) // 2  # CoCoOp: m = ceil(n / 2)
    ordered = [f"class-{label:03d}" for label in sorted(labels)]
    assert [c.id for c in base.candidates] == ordered[:half]
    assert [c.id for c in new.candidates] == ordered[half:]
    assert task.training().candidates == base.candidates
    assert {q.relevant[0] for q in task.training().queries} == set(ordered[:half])
    assert {q.relevant[0] for q in new.queries} == set(ordered[half:])
    assert all(part.problems() == [] for part in task.parts())


def test_base_to_new_needs_two_new_classes_training_and_test_images_of_both() -> None:
    def names(of: Splits) -> list[str]:
        return [task.name for task in classification_tasks(of, TEMPLATES)]

    assert names(splits([0, 1, 2])) == ["classification", "val"]
    assert names(splits([0, 1, 2, 3], val=False)) == ["classification", "base-to-new"]
    four = splits([0, 1, 2, 3])
    assert names(Splits(four.names, [], four.val, four.test)) == ["classification", "val"]
    assert "base-to-new" not in names(Splits(four.names, four.train, [], four.test[:2]))
