"""Facts of CoOp's classification sets: folders, split files, prompts, counts.

Folders, split files and prompts: KaiyangZhou/CoOp, `DATASETS.md`, `datasets/`,
`trainers/zsclip.py`. Counts: Zhou et al., arXiv 2109.01134, the appendix's table of datasets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_recipes.core.folders import ImageFolder


@dataclass(frozen=True)
class CoOpSet:
    """One set. folder: below the root of all sets. inside: the images' folder in it.

    split: the split file; "" where the set has official lists (aircraft).
    classes, counts: official; counts are of train, val, test.
    """

    folder: str
    inside: str
    split: str
    template: str
    classes: int
    counts: tuple[int, int, int]


SETS: dict[str, CoOpSet] = {
    "caltech101": CoOpSet(
        "caltech-101",
        "101_ObjectCategories",
        "split_zhou_Caltech101.json",
        "a photo of a {}.",
        100,
        (4128, 1649, 2465),
    ),
    "oxford_pets": CoOpSet(
        "oxford_pets",
        "images",
        "split_zhou_OxfordPets.json",
        "a photo of a {}, a type of pet.",
        37,
        (2944, 736, 3669),
    ),
    "stanford_cars": CoOpSet(
        "stanford_cars",
        "",
        "split_zhou_StanfordCars.json",
        "a photo of a {}.",
        196,
        (6509, 1635, 8041),
    ),
    "oxford_flowers": CoOpSet(
        "oxford_flowers",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        "a photo of a {}, a type of flower.",
        102,
        (4093, 1633, 2463),
    ),
    "food101": CoOpSet(
        "food-101",
        "images",
        "split_zhou_Food101.json",
        "a photo of {}, a type of food.",
        101,
        (50500, 20200, 30300),
    ),
    "fgvc_aircraft": CoOpSet(
        "fgvc_aircraft",
        "images",
        "",
        "a photo of a {}, a type of aircraft.",
        100,
        (3334, 3333, 3333),
    ),
    "sun397": CoOpSet(
        "sun397",
        "SUN397",
        "split_zhou_SUN397.json",
        "a photo of a {}.",
        397,
        (15880, 3970, 19850),
    ),
    "dtd": CoOpSet(
        "dtd",
        "images",
        "split_zhou_DescribableTextures.json",
        "{} texture.",
        47,
        (2820, 1128, 1692),
    ),
    "eurosat": CoOpSet(
        "eurosat",
        "2750",
        "split_zhou_EuroSAT.json",
        "a centered satellite photo of {}.",
        10,
        (13500, 5400, 8100),
    ),
    "ucf101": CoOpSet(
        "ucf101",
        "UCF-101-midframes",
        "split_zhou_UCF101.json",
        "a photo of a person doing {}.",
        101,
        (7639, 1898, 3783),
    ),
}


def image_file(folder: ImageFolder, one: CoOpSet, path: str) -> Path:
    """Where an image of a set lies below the user's folder.

    path: as the split file has it, relative to the set's folder of images. The user's folder may
    hold all sets, be the set's own, or be its folder of images. Only there a bare name will do:
    numbers such as "1514522.jpg" occur in several sets.

    Raises:
        DataError: several files could be meant.
    """
    root = folder.root
    if root.resolve().name == one.inside and (root / path).is_file():
        return root / path
    inside = PurePosixPath(one.inside, path)
    return folder.find(str(PurePosixPath(one.folder, inside)), str(inside))
