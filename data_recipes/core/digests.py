"""Digests of the official annotation files, so that another release is noticed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OfficialFile:
    """family: the protocol's name up to its first "-"; records: how many the file holds."""

    family: str
    name: str
    records: int
    sha256: str


# family -> lines of file name, number of records, sha256
_TABLE = {
    # XiaoxiaoGuo/fashion-iq @ f71b16c
    "fashioniq": """
cap.dress.test.json 2024 190240b3b4d115cd4f80de65ab78ca18a3f8581c041cbeea6f5a1f57ee4f5a48
cap.dress.train.json 5985 1691bd52e5bbda755b0c1f14d1024000be2c57a0cc29511a327af1372636a946
cap.dress.val.json 2017 5e5117d45695df9c3ca91fac3e0bc49e6422ae9c8b3793f0ac9b3ab83adb7de9
cap.shirt.test.json 2038 27c7551b005d4befa53135a7ddee5e31c97821eafd3ceb3fec514e7ac0ad83a7
cap.shirt.train.json 5988 0999ce5da01a38f0cef1547941b738f4c56e225fdd9b8e03e2a6edaf292f94c3
cap.shirt.val.json 2038 7b7ca3797b85dddfd83e74cdb4454cb63e3e7c09acef2590155efbacea6d7feb
cap.toptee.test.json 2056 db822aa52340ce1f09c3000064f79b60b6c476b50b98bf34200dd2996c06e146
cap.toptee.train.json 6027 6daa171a9e744823087780a3b69b8b697bd05526adb6dd55a38ee6c4904ab348
cap.toptee.val.json 1961 b4e09f428e6c255cc4b4ec46e77908305ab83075d82840c960be81af15cdc5eb
split.dress.test.json 3818 1d1d3af24b9ec4ed3f7805c53a870148df9b51e232b32912505d8ae54718353d
split.dress.train.json 11452 dcb1c7329003e85e39a3010147a620cee4b7de6a5ddf2626f253bc9a2cdd78e5
split.dress.val.json 3817 21ff91d53c23859da91bfd49f3acc139b7f3a3dc944fc4e4a80194468cf14bab
split.shirt.test.json 6346 8d243830e80e77c23c8dc9a85db87813230d38da146f0706082db812f591968b
split.shirt.train.json 19036 1552c05d866d31b43321a719b2cb8a65f02c53e9a6bc355861fe1d62498b9983
split.shirt.val.json 6346 b82effbf7352a6f828b38c45eb32e53d726bd4d6fd81d6290c81eeb2c68e3234
split.toptee.test.json 5374 25a30d4f4013a04026585399b10980db7cba39dfaad0d97a0671a62e2125ddbf
split.toptee.train.json 16121 aa9b3a55332340f21360fb6a3fe174badd27ce389fe7d78d890bf2b9032ffe05
split.toptee.val.json 5373 ee42b2505275dd7a19b11ddb88c9264aab2d77f4e59b075fb1c7c3095d02f412
""",
    # Cuberick-Orion/CIRR @ 2276fba
    "cirr": """
cap.rc2.test1.json 4148 26a2b2e7a5c96c903491aefc7d5f237f03d3cca97712e1b6bb3b231db5ff8001
cap.rc2.val.json 4181 a85c3a1aa464f1af7229918e8018d08b8b20ce5dab479ffdf39d61113140f919
split.rc2.test1.json 2315 bf2bb9ed0659c4aae35de72350652b9ab75d36a060211f826bec15c58ec12566
split.rc2.train.json 16939 7b3f2211ff67e527190754ab778321a3c83f0baa6150d1e6c19646ec25c3bcb9
split.rc2.val.json 2297 de36f7a7219c8bb06347a67748cfc68405be7dad62853a1e31846c98e491235b
""",
    # facebookresearch/genecis @ 0c5c968
    "genecis": """
change_attribute.json 2112 f256e04f7ea3c3e41fa0ef95a02164dab71c4b1fd57e5c296692ce511ccf7916
change_object.json 1960 0a5145984f7d8594c457a3609288ae2acfcdb6b72bd0309220e616300c9beac8
focus_attribute.json 2000 33edb4aba762c74d948a941eaa021273e6bc85f1e0e776837e8c1ca917b2b7f2
focus_object.json 1960 ee6de86ffb78ad989986b65f7e74e5627a90c1395a8cdc4aed8da3d92f4c016c
""",
    # miccunifi/CIRCO @ 267b5c9
    "circo": """
test.json 800 2f7c37e89220c990b6b0525d6f3ed63d3fc02e03ce336aa42a3b822841b14886
val.json 220 6b31a1dbc3c85627501d9a250f87708f24a27d74d6a65360b6ddd2537a154d04
""",
    # wyf202322/DCAR @ 4cb2342
    "fdrd": """
flower_test.json 2463 71cca34c873d07c3bd90027bc7aaabd16c1728c89339c0a2a0314bca16ff9ded
pets_test.json 3669 0a64d73036cd3257247a44025180308e66f3696a702f1f4be0a679388ce3d46d
plane_test.json 3333 0f267514cb55ab7f260b9674129b167a9dd6321a829996b26f628a21b370aa28
""",
}
OFFICIAL = tuple(
    OfficialFile(family, name, int(records), digest)
    for family, lines in _TABLE.items()
    for name, records, digest in (line.split() for line in lines.strip().splitlines())
)
FAMILIES = frozenset(_TABLE)
_BY_DIGEST = {file.sha256: file for file in OFFICIAL}
# Official files of which only git's own id is known (`git hash-object FILE`).
GIT_BLOBS = {
    "118a9aa7a70283964593947e88dc2cc452fc3ac7": ("cirr", "cap.rc2.train.json"),
    "debd3f6c87c24d4cf6e1ab941bd8fd15abd14efe": ("fdrd", "car_test.json"),
    "1d40c1fec70fc10b079768adf3dc452d4abd06b1": ("fdrd", "flower_train.json"),
    "745b90d4800ba0a09960fe7b31a9af81316b5aa2": ("fdrd", "pets_train.json"),
    "bd50e274f80a172f8bccfe74c9ab92849d0cfa24": ("fdrd", "plane_train.json"),
}


def sha256(path: Path) -> str:
    """The file's digest (hex)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob(path: Path) -> str:
    """The id that git gives to the file's content (hex)."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def stranger(path: Path, family: str) -> str | None:
    """A warning where `path` is no known official file of `family`; None where it is.

    Families without a table (Karpathy's splits circulate in many forms) have no warning.
    """
    if family not in FAMILIES:
        return None
    known = _BY_DIGEST.get(sha256(path))
    if known is not None and known.family == family:
        return None
    if GIT_BLOBS.get(git_blob(path), ("", ""))[0] == family:
        return None
    return f"{path.name} is not the official file (its digest is none of the {family} files known)"
