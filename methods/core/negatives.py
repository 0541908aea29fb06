"""Negative captions: one thing in a caption changed, its class or one of its attributes.

Pure functions. What is drawn is decided by a hash of the caption, so that it is equal on every
machine and on any number of ranks. No negative equals its caption, and none comes twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# Words that exclude one another when said of the same thing; the longest match counts.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": (
        *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
        *("grey", "gray", "golden", "silver", "beige", "turquoise", "maroon", "lavender"),
    ),
    "skin tone": tuple(
        f"{tone} skin tone"
        for tone in ("light", "medium-light", "medium", "medium-dark", "dark", "yellow")
    ),
    "brightness": ("light", "dark", "pale", "bright"),
    "material": (
        *("wooden", "metal", "plastic", "glass", "leather", "stone", "brick", "concrete", "paper"),
        *("wool", "cotton", "silk", "ceramic", "rubber"),
    ),
    "pattern": ("striped", "spotted", "checkered", "plaid", "floral", "speckled"),
    "shape": ("round", "square", "triangular", "oval", "rectangular"),
    "size": ("small", "large", "tiny", "huge"),
    "length": ("short", "long"),
    "count": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "digit": tuple("123456789"),
    "age": ("young", "old", "middle-aged"),
    "person": ("man", "woman", "boy", "girl"),
    "people": ("men", "women", "boys", "girls"),
    "hair": ("curly", "straight", "wavy"),
    "hair colour": ("blond", "blonde", "brunette", "red-haired"),
    "plant part": ("petals", "leaves", "stems", "buds"),
    "animal part": ("wings", "tail", "beak", "ears", "paws"),
    "vehicle part": ("wheels", "doors", "windows", "headlights"),
    "side": ("left", "right"),
    "height": ("up", "down"),
    "direction": ("upwards", "downwards", "leftwards", "rightwards"),
    "place": ("top", "bottom"),
    "face": ("front", "back"),
}
SAME = (("grey", "gray"), ("blond", "blonde"))  # two spellings of one attribute

# Words of class names that captions say otherwise.
SAID_AS = {
    "person": ("person", "man", "woman"),
    "people": ("people", "men", "women"),
    "adult": ("adult", "person", "man", "woman"),
    "child": ("child", "boy", "girl"),
    "older": ("older", "old", "elderly"),
}
GENDERED = (*ATTRIBUTES["person"], *ATTRIBUTES["people"])

_KIND = {word: kind for kind, words in ATTRIBUTES.items() for word in words}
_ATTRIBUTE = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(_KIND, key=len, reverse=True)))})(?![\w-])",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"\b(a)n?(\s+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Negative:
    """A negative caption. same_class: an attribute was changed, not the class."""

    text: str
    same_class: bool


def negatives(
    caption: str, name: str, rivals: Sequence[str], swapped: int, altered: int, draw: int = 0
) -> tuple[Negative, ...]:
    """Up to `swapped` + `altered` negatives of a caption, in the order of a hash.

    name: its class. rivals: the classes that may take its place. swapped: wanted negatives with
    another class; altered: with another attribute. Where one kind falls short (the caption does not
    name its class; it has no attribute word) the other fills up, as far as it goes. Another `draw`
    draws others.
    """
    by_class = _ordered(swaps(caption, name, rivals), caption, draw, {_plain(caption)})
    taken = {_plain(caption), *map(_plain, by_class)}
    by_attribute = _ordered(alterations(caption, name), caption, draw, taken)
    missing_class = max(0, swapped - len(by_class))
    missing_attribute = max(0, altered - len(by_attribute))
    return (
        *(Negative(text, False) for text in by_class[: swapped + missing_attribute]),
        *(Negative(text, True) for text in by_attribute[: altered + missing_class]),
    )


def swaps(caption: str, name: str, rivals: Iterable[str]) -> list[str]:
    """The caption with its class replaced by each rival, wherever it is named; else none.

    Who does it is kept: "a man kneeling" becomes "a man farmer", "a man farmer" "a man kneeling".
    """
    found = list(_named(name).finditer(caption)) if name else []
    texts = []
    for rival in rivals if found else ():
        text = caption
        for match in reversed(found):  # from the end, so that places stay what they are
            text = _put(text, match.start(), match.end(), _as_said(rival, match, name))
        texts.append(text)
    return texts


def _as_said(rival: str, match: re.Match[str], name: str) -> str:
    """A rival's name with the person and the number of what it takes the place of."""
    who = match["lead"] or match.groupdict().get("who") or ""
    if who.lower() in GENDERED:
        placed = re.sub(r"\b(?:person|people)\b", who, rival)
        rival = f"{who} {rival}" if placed == rival else placed
    plural = match["name"].lower().endswith("s") and not name.endswith("s")
    return f"{rival}s" if plural and not rival.endswith("s") else rival


def alterations(caption: str, name: str) -> list[str]:
    """The caption with one attribute word replaced by another of its kind; class words stay."""
    own = {word for word in _words(name) if word not in SAID_AS}
    texts = []
    for found in _ATTRIBUTE.finditer(caption):
        word = found[0].lower()
        if own & set(_words(word)):
            continue
        same = next((pair for pair in SAME if word in pair), (word,))
        others = [other for other in ATTRIBUTES[_KIND[word]] if other not in same]
        texts += [_put(caption, found.start(), found.end(), other) for other in others]
    return texts


def names_class(caption: str, name: str) -> bool:
    """Whether a caption names a class: any case, singular or plural, hyphens or spaces."""
    return bool(name) and _named(name).search(caption) is not None


def nearest(features: Tensor, count: int) -> list[list[int]]:
    """For each of C unit-norm features (C, D) the rows of the `count` most similar others."""
    found: list[list[int]] = []
    for start in range(0, len(features), 1024):
        similarity = features[start : start + 1024] @ features.T
        own = torch.arange(len(similarity), device=features.device)
        similarity[own, own + start] = float("-inf")
        best = similarity.topk(min(count, len(features) - 1)).indices
        found += best.tolist()
    return found


@lru_cache(maxsize=100_000)
def _named(name: str) -> re.Pattern[str]:
    """Finds a class name, with a person before it ("man farmer"); groups lead, name, who."""
    parts, someone = [], False
    for word in _words(name):
        if word in SAID_AS:
            forms = "|".join(SAID_AS[word])
            parts.append(f"(?:{forms})" if someone else f"(?P<who>{forms})")
            someone = True
        elif word.endswith("person"):
            parts.append(re.escape(word.removesuffix("person")) + "(?:person|man|woman|maid)")
        elif word.endswith("y"):
            parts.append(re.escape(word[:-1]) + "(?:y|ies)")
        else:
            stem = word[:-1] if word.endswith("s") and not word.endswith("ss") else word
            parts.append(re.escape(stem) + "(?:s|es)?")
    lead = rf"(?:(?P<lead>{'|'.join(GENDERED)})\s+)?"
    body = r"[\s\-_]*".join(parts)
    return re.compile(rf"(?<!\w){lead}(?P<name>{body})(?!\w)", re.IGNORECASE)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s\-_]+", name.lower()) if word]


def _put(caption: str, start: int, end: int, new: str) -> str:
    """The caption with new words at a place, and "a" or "an" before them as they want it."""
    before = caption[:start]
    vowel = new[:1].lower() in "aeiou" and not re.match(r"one\b|uni|eu", new, re.IGNORECASE)
    before = _ARTICLE.sub(r"\1n\2" if vowel else r"\1\2", before)
    return before + new + caption[end:]


def _ordered(texts: Iterable[str], caption: str, draw: int, taken: set[str]) -> list[str]:
    """Each text once and none that is taken, in the order of a hash."""
    once = {_plain(text): text for text in texts if _plain(text) not in taken}

    def place(text: str) -> bytes:
        return hashlib.sha256(f"{draw}\0{caption}\0{text}".encode()).digest()

    return sorted(once.values(), key=place)


def _plain(text: str) -> str:
    """A text as a tokenizer sees it: without case and extra spaces."""
    return " ".join(text.lower().split())
