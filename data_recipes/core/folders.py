"""Finding a dataset's files in the folders that users have: annotation files, and images by name.

An image folder is listed once; 120,000 names are then looked up without touching the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from data_recipes.core.model import DataError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
"""File endings of images, in any case."""


class ImageFolder:
    """The image files below `root`, folders within it included, hidden files left out.

    Raises:
        DataError: a folder cannot be listed, or no image is there at all.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_stem: dict[str, list[str]] = {}
        for file in _image_files(root):
            self._by_stem.setdefault(_stem(file), []).append(file)
        if not self._by_stem:
            raise DataError(
                f"{root}: no image file in it or below it ({', '.join(sorted(ENDINGS))}); name "
                "the folder that holds the images with --images"
            )

    def get(self, *names: str) -> Path | None:
        """The file with the first of these names that is there, or None.

        A name is a file name or a path, "34/a.png", which is then the end of the file's path, in
        whatever folder. Another image ending ("a.jpg") does where that file is not there.

        Raises:
            DataError: several files have that name; the message names two.
        """
        for name in names:
            found = self._matches(name)
            if len(found) > 1:
                self._ambiguous(name, found)
            if found:
                return self.root / found[0]
        return None

    def find(self, name: str, *others: str) -> Path:
        """As `get`; where there is none, `name` below the root: a build reports it as missing."""
        return self.get(name, *others) or self.root / name

    def files(self) -> list[Path]:
        """Every image file, sorted by path."""
        return [self.root / f for f in sorted(f for row in self._by_stem.values() for f in row)]

    def _matches(self, wanted: str) -> list[str]:
        folders = _parts(wanted)[:-1]
        same = [
            file
            for file in self._by_stem.get(_stem(wanted), ())
            if not folders or _parts(file)[:-1][-len(folders) :] == folders
        ]
        exact = [file for file in same if _parts(file)[-1] == _parts(wanted)[-1]]
        return exact or same

    def _ambiguous(self, wanted: str, found: Sequence[str]) -> NoReturn:
        more = f" and {len(found) - 2} more" if len(found) > 2 else ""
        raise DataError(
            f"{self.root}: the image {wanted!r} is there {len(found)} times: {found[0]} and "
            f"{found[1]}{more}; name the folder with the right one with --images, or remove a copy"
        )


class AnnotationFolder:
    """The official annotation files at `root`: in it, or in one of its folders `places`.

    `root` may itself be one of these places; the others are then looked for beside it, and the
    files above it.
    """

    def __init__(self, root: Path, places: Sequence[str] = ()) -> None:
        self.root = root
        self.looked = [root, *(root / place for place in places)]
        if root.resolve().name in {Path(place).name for place in places}:
            above = root.resolve().parent
            self.looked += [above, *(above / place for place in places)]

    def get(self, *names: str) -> Path | None:
        """The file with one of these names, or None. Raises DataError when there are several."""
        found: dict[Path, Path] = {}
        for folder in self.looked:
            for name in names:
                if (folder / name).is_file():
                    found.setdefault((folder / name).resolve(), folder / name)
        paths = list(found.values())
        if len(paths) > 1:
            raise DataError(
                f"{self.root}: two files could be {names[0]}: {paths[0]} and {paths[1]}; remove "
                "one, or name its own folder with --annotations"
            )
        return paths[0] if paths else None

    def find(self, *names: str) -> Path:
        """As `get`. Raises DataError too when there is none; it says what was looked for where."""
        path = self.get(*names)
        if path is None:
            self.absent(*names)
        return path

    def absent(self, *names: str) -> NoReturn:
        """Raise the DataError that none of the files `names` is there."""
        folders = ", ".join(dict.fromkeys(str(folder) for folder in self.looked))
        raise DataError(
            f"{self.root}: no {' or '.join(names)} there; looked in {folders}; name the folder "
            "that holds it with --annotations"
        )


def _image_files(root: Path) -> Iterator[str]:
    """Paths relative to `root`, with "/", of all image files; links are followed, loops are not."""

    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from None

    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = "" if folder == str(root) else f"{Path(folder).relative_to(root).as_posix()}/"
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS:
                yield inside + name


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _stem(path: str) -> str:
    """The file name without an image ending; dots that end no such name stay."""
    name = _parts(path)[-1]
    ending = Path(name).suffix
    return name.removesuffix(ending) if ending.lower() in ENDINGS else name
