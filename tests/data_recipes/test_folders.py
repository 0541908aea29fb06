"""Finding files: one listing, layouts as users have them, ambiguity named."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.model import DataError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_an_image_is_found_in_any_folder_by_its_name(tmp_path: Path) -> None:
    folder = ImageFolder(tree(tmp_path, "VG_100K/1.jpg", "VG_100K_2/2.jpg", "3.jpg"))
    assert folder.find("1.jpg") == tmp_path / "VG_100K/1.jpg"
    assert folder.find("2.jpg") == tmp_path / "VG_100K_2/2.jpg"
    assert folder.find("./3.jpg") == tmp_path / "3.jpg"
    assert [p.name for p in folder.files()] == ["3.jpg", "1.jpg", "2.jpg"]


def test_a_path_is_the_end_of_the_files_path(tmp_path: Path) -> None:
    """Caltech's file names repeat in every class: another class' file is no answer."""
    names = ("c/accordion/image_1.jpg", "c/ant/image_1.jpg", "c/ant/image_2.jpg")
    folder = ImageFolder(tree(tmp_path, *names))
    assert folder.find("ant/image_1.jpg") == tmp_path / "c/ant/image_1.jpg"
    assert folder.find("accordion/image_2.jpg") == tmp_path / "accordion/image_2.jpg"
    assert not folder.find("accordion/image_2.jpg").exists()
    assert not folder.find("t/image_2.jpg").exists()


def test_other_names_are_tried_in_their_order(tmp_path: Path) -> None:
    folder = ImageFolder(tree(tmp_path, "train/34/a.png", "b.png"))
    assert folder.find("./train/34/a.png", "a.png") == tmp_path / "train/34/a.png"
    assert folder.find("./train/34/b.png", "b.png") == tmp_path / "b.png"
    assert folder.find("./train/34/c.png", "c.png") == tmp_path / "train/34/c.png"


def test_another_image_ending_will_do_but_the_named_one_is_better(tmp_path: Path) -> None:
    folder = ImageFolder(tree(tmp_path, "a.png", "b.JPG", "c.jpg", "c.png", "x.1.jpg", "x.2.jpg"))
    assert folder.find("a.jpg").name == "a.png"
    assert folder.find("b.jpg").name == "b.JPG"
    assert folder.find("c.png").name == "c.png"
    assert folder.find("x.1").name == "x.1.jpg"
    with pytest.raises(DataError, match="there 2 times"):
        folder.find("c.webp")


def test_the_same_name_in_two_folders_is_refused_when_asked_for(tmp_path: Path) -> None:
    folder = ImageFolder(tree(tmp_path, "old/a.jpg", "new/a.jpg", "new/b.jpg"))
    assert folder.find("b.jpg") == tmp_path / "new/b.jpg"
    assert folder.find("old/a.jpg") == tmp_path / "old/a.jpg"
    with pytest.raises(DataError, match=r"'a.jpg' is there 2 times: new/a.jpg and old/a.jpg"):
        folder.find("a.jpg")


def test_hidden_files_other_files_and_loops_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.jpg", "in/._a.jpg", ".trash/a.jpg", "in/a.txt")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert len(ImageFolder(tmp_path).files()) == 1
    outside = tmp_path.with_name(f"{tmp_path.name}-linked")
    outside.symlink_to(tmp_path / "in")
    assert ImageFolder(outside).find("a.jpg") == outside / "a.jpg"


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image file in it .* --images"):
        ImageFolder(tree(tmp_path, "readme.txt"))
    with pytest.raises(DataError, match="none: cannot be listed"):
        ImageFolder(tmp_path / "none")


@pytest.mark.parametrize("start", ["", "captions", "image_splits"])
def test_annotations_are_found_from_the_root_or_a_place(tmp_path: Path, start: str) -> None:
    root = tree(tmp_path, "captions/cap.json", "image_splits/split.json")
    folder = AnnotationFolder(root / start, ("captions", "image_splits"))
    assert folder.find("cap.json").resolve() == root / "captions/cap.json"
    assert folder.find("none.json", "split.json").resolve() == root / "image_splits/split.json"
    assert folder.get("none.json") is None


def test_flat_annotations_are_found_and_their_neighbours_are_not(tmp_path: Path) -> None:
    root = tree(tmp_path, "flat/cap.json", "captions/other.json")
    folder = AnnotationFolder(root / "flat", ("captions",))
    assert folder.find("cap.json") == root / "flat/cap.json"
    assert folder.get("other.json") is None


def test_an_absent_or_ambiguous_annotation_file_is_one_clear_error(tmp_path: Path) -> None:
    root = tree(tmp_path, "cap.json", "captions/cap.json", "captions/cap.min.json")
    folder = AnnotationFolder(root, ("captions",))
    with pytest.raises(
        DataError, match=rf"two files could be cap.json: {root}/cap.json and {root}/c"
    ):
        folder.find("cap.json")
    with pytest.raises(
        DataError, match=rf"no a.json or b.json there; looked in {root}, .*captions"
    ):
        folder.find("a.json", "b.json")
