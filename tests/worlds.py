"""A tiny raw world for every registered recipe: annotation files and images of its schema.

`WORLDS[name](folder)` writes one below `folder`, and says which folders the recipe reads, its
options and how many images it should build. The conformance tests build each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_recipes.core.recipe import Folders
from tests.raw import World, both, lines, pictures, write
from tests.worlds_composed import circo, cirr, fashioniq, genecis

WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361")


def _embedded(images: int) -> Callable[[Path], World]:
    return lambda root: World(Folders(), images, {"size": 16})


def coop_set(split: str, inside: str) -> Callable[[Path], World]:
    """A `split_zhou` set: 4 classes, 2 train, 1 val and 1 test image each."""

    def make(root: Path) -> World:
        rows: dict[str, list[list[Any]]] = {"train": [], "val": [], "test": []}
        for label, name in enumerate(("big_dog", "cat", "F/A-18", "cat")):
            for number, of in enumerate(("train", "train", "val", "test")):
                rows[of].append([f"c{label}/{label}_{number}.jpg", label, name])
        write(root / "annotations" / split, rows)
        names = [f"{inside}/{row[0]}" for part in rows.values() for row in part]
        return World(both(root), pictures(root / "images", names))

    return make


def fgvc_aircraft(root: Path) -> World:
    """Three variants in the official lists."""
    variants = ("707-320", "BAE 146-200", "F/A-18")
    lines(root / "annotations/variants.txt", variants)
    names = []
    for part, split in enumerate(("train", "val", "test")):
        rows = [f"{part}{label:06d} {name}" for label, name in enumerate(variants)]
        lines(root / f"annotations/images_variant_{split}.txt", rows)
        names += [f"images/{row.split()[0]}.jpg" for row in rows]
    return World(both(root), pictures(root / "images", names))


def imagenet(root: Path) -> World:
    """Four classes, and the four shifted sets, two of them with two classes."""
    classnames(root / "annotations")
    names = [f"imagenet/images/train/{w}/{w}_{n}.JPEG" for w in WNIDS for n in range(2)]
    names += [f"imagenet/images/val/{w}/ILSVRC2012_val_{w}.JPEG" for w in WNIDS]
    names += [f"imagenetv2/imagenetv2-matched-frequency-format-val/{n}/a.jpeg" for n in range(4)]
    names += [f"imagenet-sketch/images/{w}/sketch_0.JPEG" for w in WNIDS]
    names += [f"imagenet-adversarial/imagenet-a/{w}/0.jpg" for w in WNIDS[1:3]]
    names += [f"imagenet-rendition/imagenet-r/{w}/art_0.jpg" for w in WNIDS[2:]]
    return World(both(root), pictures(root / "images", names))


def classnames(folder: Path) -> Path:
    """`classnames.txt`, not sorted, with a name that two classes have."""
    names = dict(zip(WNIDS, ("tench", "crane", "great white shark", "crane"), strict=True))
    return lines(folder / "classnames.txt", [f"{w} {names[w]}" for w in reversed(WNIDS)])


def shifted(names: list[str]) -> Callable[[Path], World]:
    """One shifted set alone."""

    def make(root: Path) -> World:
        classnames(root / "annotations")
        return World(both(root), pictures(root / "images", names))

    return make


def fdrd(root: Path) -> World:
    """Three shapes: a domain with train and negatives, one of the history, one without train."""

    def record(name: str, n: int, negatives: int, **more: str) -> dict[str, Any]:
        wrong = [f"A wrong {name} {i}." for i in range(negatives)]
        return {"file_name": name, "positive": f"A {name}, {n}.", "negative": wrong, **more}

    flowers = [f"king's crown_image_{n:05d}" for n in range(4)]
    for split, keys in (("test", flowers[:2]), ("train", flowers[2:])):
        more = {"class_name": "king's crown", "positive": "A king's crown."}
        rows = {k: record(k, 0, 4, number=k[-5:], **more) for k in keys}
        write(root / f"annotations/FDRD/{split}/flower_{split}.json", rows)
    planes = {f"BAE 146-200_{n}": record(n, 1, 4) for n in ("0934710", "0934711")}
    write(root / "annotations/FDRD/test/plane_test.json", planes)
    textures = {n: record(n, 2, 0, class_name="banded") for n in ("banded_1.jpg", "banded_2.jpg")}
    write(root / "annotations/FDRD/inter_dtd_test.json", textures)
    (root / "annotations/FDRD/train/inter_caltech-101_train.json").write_bytes(b"\n\n")
    names = [f"oxford_flowers/jpg/image_{n:05d}.jpg" for n in range(4)]
    names += [f"fgvc_aircraft/images/{n}.jpg" for n in ("0934710", "0934711")]
    names += [f"dtd/images/banded/{name}" for name in textures]
    return World(both(root), pictures(root / "images", names))


def karpathy(name: str, path: Callable[[str, int], tuple[str, str]]) -> Callable[[Path], World]:
    """A `dataset_<name>.json` with two images of each split; one has six captions."""

    def make(root: Path) -> World:
        images, names, sentence = [], [], 0
        for split in ("test", "val", "train", "restval"):
            for number in range(2):
                folder, file = path(split, number)
                count = 6 if (split, number) == ("test", 1) else 5
                sentences = [
                    {"raw": f"A {split} {number}, {c}.", "sentid": sentence + c}
                    for c in range(count)
                ]
                sentence += count
                row: dict[str, Any] = {"filename": file, "split": split, "sentences": sentences}
                images.append(row)
                if split != "restval" or name == "coco":
                    names.append(f"{folder}/{file}")
        write(root / f"annotations/dataset_{name}.json", {"dataset": name, "images": images})
        return World(both(root), pictures(root / "images", names))

    return make


def _coco(split: str, number: int) -> tuple[str, str]:
    folder = "train2014" if split == "train" else "val2014"
    code = {"test": 0, "val": 10, "train": 20, "restval": 30}[split] + number
    return folder, f"COCO_{folder}_{code:012d}.jpg"


def imagefolder(root: Path) -> World:
    """Four classes without splits, one of them renamed."""
    classes = ("big_dog", "cat", "cow", "pig")
    lines(root / "images/classnames.txt", ["cow a black cow"])
    names = [f"{name}/{number}.png" for name in classes for number in range(4)]
    return World(Folders(images=root / "images"), pictures(root / "images", names))


def jsonl(root: Path) -> World:
    """Composed queries with a gallery of their own, in two files."""
    names = []
    for split in ("train", "test"):
        images = [f"{split}/{colour}.png" for colour in ("red", "green", "blue")]
        names += images
        rows: list[dict[str, Any]] = [{"candidate": image, "image": image} for image in images]
        rows.append(
            {
                "query": "q1",
                "image": images[0],
                "text": "make it green",
                "relevant": [images[1]],
                "excluded": [images[0]],
                "group": "colour",
            }
        )
        lines(root / f"annotations/{split}.jsonl", rows)
    return World(both(root), pictures(root / "images", names))


V2 = "imagenetv2-matched-frequency-format-val"
WORLDS: dict[str, Callable[[Path], World]] = {
    "openmoji-roles": _embedded(2746),
    "openmoji-roles-plain": _embedded(2746),
    "openmoji-roles-shifted": _embedded(1320),
    "openmoji-roles-grey": _embedded(1320),
    "openmoji-roles-lines": _embedded(1320),
    "openmoji-base-new": _embedded(2014),
    "openmoji-composed": _embedded(1494),
    "openmoji-multi": _embedded(1061),
    "openmoji-conditional": _embedded(1494),
    "openmoji-source": _embedded(3016),
    "caltech101": coop_set("split_zhou_Caltech101.json", "101_ObjectCategories"),
    "oxford_pets": coop_set("split_zhou_OxfordPets.json", "images"),
    "stanford_cars": coop_set("split_zhou_StanfordCars.json", "stanford_cars"),
    "oxford_flowers": coop_set("split_zhou_OxfordFlowers.json", "jpg"),
    "food101": coop_set("split_zhou_Food101.json", "food-101/images"),
    "fgvc_aircraft": fgvc_aircraft,
    "sun397": coop_set("split_zhou_SUN397.json", "SUN397"),
    "dtd": coop_set("split_zhou_DescribableTextures.json", "dtd/images"),
    "eurosat": coop_set("split_zhou_EuroSAT.json", "2750"),
    "ucf101": coop_set("split_zhou_UCF101.json", "ucf101/UCF-101-midframes"),
    "imagenet": imagenet,
    "imagenetv2": shifted([f"{V2}/{n}/a.jpeg" for n in range(4)]),
    "imagenet_sketch": shifted([f"imagenet-sketch/images/{w}/0.JPEG" for w in WNIDS]),
    "imagenet_a": shifted([f"imagenet-a/{w}/0.jpg" for w in WNIDS[:2]]),
    "imagenet_r": shifted([f"imagenet-r/{w}/0.jpg" for w in WNIDS[2:]]),
    "fdrd": fdrd,
    "flickr30k": karpathy(
        "flickr30k", lambda split, n: ("flickr30k-images", f"1007{len(split)}{n}.jpg")
    ),
    "coco": karpathy("coco", _coco),
    "imagefolder": imagefolder,
    "jsonl": jsonl,
    "fashioniq": fashioniq,
    "cirr": cirr,
    "circo": circo,
    "genecis": genecis,
}
