"""Captions for pre-training: a text and the attributes that it claims.

A caption rarely says everything, so it is true of many drawings. With its claims beside it, a batch
knows every true pair, and none of them is taken for a negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_recipes.openmoji import phrases
from data_recipes.openmoji.names import ADULT, Drawing

# Plain templates are common and the prompt-engineering ones rare, as on the web.
TEMPLATES = (
    *("{}", "{}.", "an emoji of {}", "an emoji of {}.", "a drawing of {}", "a drawing of {}."),
    *("an icon of {}", "a picture of {}", "an image of {}", "this is {}", "there is {}"),
)
RARE_TEMPLATES = (
    *("a photo of {}.", "a photo of {}", "a rendering of {}.", "a cropped photo of {}."),
    *("a bad photo of {}.", "a close-up photo of {}.", "a low resolution photo of {}."),
    *("a photo of the small {}.", "a sketch of {}.", "a painting of {}.", "art of {}."),
    *("a cartoon {}.", "itap of {}.", "a photo of one {}.", "a blurry photo of {}."),
    *("a dark photo of {}.", "a noisy picture of {}.", "the photo shows {}.", "graffiti of {}."),
)
RARE = 0.12

# Shares of the captions that are a class name, and that are a name with attributes; the rest are
# fragments such as "as a man with dark skin", so that the change in a composed query has a meaning.
NAME_ALONE, DESCRIPTION = 0.3, 0.35

ANY = -1  # the caption claims nothing about this attribute
NONE = -2  # the drawing has no such attribute: a raised fist has no hair
ATTRIBUTES = ("role", "gender", "tone", "direction", "hair")
Claims = tuple[int, int, int, int, int]


class World:
    """The drawings of pre-training and their attributes as numbers.

    `truth` is (N, 5) int64, one column for each of ATTRIBUTES. An object that is nobody has its
    name for a role and no other attribute.
    """

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        self.drawings = tuple(drawings)
        # Only the roles with both directions have one; only adults have hair.
        self._turning = {d.role for d in drawings if d.direction}
        self._numbers: dict[tuple[str, str | None], int] = {}
        self.truth = np.array([self._attributes(d) for d in drawings], dtype=np.int64)

    def _number(self, attribute: str, value: str | None) -> int:
        return self._numbers.setdefault((attribute, value), len(self._numbers))

    def _attributes(self, d: Drawing) -> Claims:
        somebody = d.kind != "other"
        return (
            self._number("role", d.role),
            self._number("gender", d.gender) if d.gender else NONE,
            self._number("tone", d.tone) if somebody else NONE,
            self._number("direction", d.direction) if d.role in self._turning else NONE,
            self._number("hair", d.hair) if somebody and d.role == ADULT else NONE,
        )

    def caption(self, index: int, rng: np.random.Generator) -> tuple[str, Claims]:
        """A random true text about drawing `index`, and what it claims."""
        drawing = self.drawings[index]
        there = dict(zip(ATTRIBUTES, (int(number) for number in self.truth[index]), strict=True))
        if drawing.kind == "other":
            return _in_template(drawing.role, rng), (there["role"], ANY, ANY, ANY, ANY)
        mode = rng.random()
        if mode < NAME_ALONE:
            said = {"role"}
            text = _in_template(phrases.noun(drawing.role, None), rng)
        elif mode < NAME_ALONE + DESCRIPTION:
            said = {"role", *_some(there, rng)}
            text, said = _description(drawing, said, rng)
        else:
            said = _some(there, rng) or {"tone"}
            # "mechanic" claims no gender; and the role is the commoner part of an edit.
            if drawing.gender == "person" and "role" in said:
                said.discard("gender")
            text = phrases.edit(drawing, sorted(said), int(rng.integers(2**31)))
        role, gender, tone, direction, hair = (
            there[name] if name in said else ANY for name in ATTRIBUTES
        )
        return text, (role, gender, tone, direction, hair)

    def texts(self) -> list[str]:
        """Texts that hold every word the captions use, for the vocabulary."""
        found = {template.format("a farmer") for template in TEMPLATES + RARE_TEMPLATES}
        for d in self.drawings:
            # The full stop joins some names' last sign in one token.
            found |= {phrases.noun(d.role, None), f"{phrases.noun(d.role, None)}."}
            found |= {way.format("") for way in phrases.IDENTITY_WAYS + phrases.EDIT_WAYS}
            found |= {phrases.tone_phrase("dark", way) for way in range(len(phrases.TONE_WAYS))}
            if d.kind != "other":
                found |= {phrases.noun(d.role, d.gender), f"as a an {d.gender}"}
                found |= {phrases.hair_phrase(d.hair), phrases.tone_phrase(d.tone)}
                found.add(phrases.direction_phrase(d.direction))
        return sorted(found)


def matches(truth: NDArray[np.int64], claims: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B, 5) attributes and (C, 5) claims -> (B, C): is the caption true of the drawing?"""
    agree = (claims[None] == ANY) | (claims[None] == truth[:, None])
    return np.asarray(agree.all(axis=2))


def _some(there: dict[str, int], rng: np.random.Generator) -> set[str]:
    """Each attribute that the drawing has, with probability 0.55."""
    return {name for name in ATTRIBUTES if there[name] != NONE and rng.random() < 0.55}


def _description(
    drawing: Drawing, said: set[str], rng: np.random.Generator
) -> tuple[str, set[str]]:
    """A caption with the noun and the attributes in `said`, and what it says in fact."""
    noun = phrases.noun(drawing.role, drawing.gender if "gender" in said else None)
    if noun == phrases.noun(drawing.role, None):
        said = said - {"gender"}  # "farmer" is said of a person and of the role alike
    tail = []
    if "hair" in said:
        tail.append(phrases.hair_phrase(drawing.hair))
    if "direction" in said:
        tail.append(phrases.direction_phrase(drawing.direction))
    if "tone" in said:
        way = int(rng.integers(len(phrases.TONE_WAYS))) if rng.random() < 0.4 else 0
        tail.append(phrases.tone_phrase(drawing.tone, way))
    return _in_template(" ".join([noun, *tail]), rng), said


def _in_template(text: str, rng: np.random.Generator) -> str:
    templates = RARE_TEMPLATES if rng.random() < RARE else TEMPLATES
    template = templates[int(rng.integers(len(templates)))]
    named = phrases.article(text) if rng.random() < 0.8 else text
    return template.replace("{}", text if "small {}" in template else named)
