"""Descriptions of classes and of drawings, for methods that learn from natural language.

The world's stand-in for sentences that a language model writes of a class (CuPL). They follow from
names alone: what a role may look like, whichever drawings are in a split. Their words are those
that the embedded backbone was pre-trained with.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from data_recipes.openmoji import phrases
from data_recipes.openmoji.names import TONES, Drawing, people, stable_hash

# About the role as such, and about one of its variants.
PLAIN = ("{}.", "an image of {}.", "a sketch of {}.", "the photo shows {}.")
VARIED = (
    *("a drawing of {}.", "an emoji of {}.", "a picture of {}.", "an icon of {}."),
    *("a photo of {}.", "a painting of {}.", "a rendering of {}.", "art of {}."),
)


def of_classes(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Class name -> its twelve sentences."""
    return {name: of_class(name) for name in names}


@cache
def of_class(role: str) -> tuple[str, ...]:
    """Twelve different sentences on a role: four on it as such, eight on its variants.

    The variants go through the role's genders, hair and directions and through all skin tones in
    an order that depends on the role.
    """
    named = phrases.article(phrases.noun(role, None))
    forms = sorted(
        {d.family for d in people() if d.role == role},
        key=lambda family: stable_hash("description", family),
    )
    start = stable_hash("description", role)
    tones = (None, *TONES)
    variants = []
    for number in range(len(VARIED)):
        _, gender, direction, hair = forms[number % len(forms)]
        parts = [phrases.article(phrases.noun(role, gender))]
        parts += [phrases.hair_phrase(hair)] if hair else []
        parts += [phrases.direction_phrase(direction)] if direction else []
        tone = tones[(start + number) % len(tones)]
        parts.append(phrases.tone_phrase(tone, number % len(phrases.TONE_WAYS)))
        variants.append(" ".join(parts))
    return (
        *(sentence.format(named) for sentence in PLAIN),
        *(s.format(v) for s, v in zip(VARIED, variants, strict=True)),
    )


def of_images(shown: Iterable[Drawing]) -> dict[str, tuple[str, ...]]:
    """Image id, which is the drawing's code -> its caption."""
    return {drawing.code: (phrases.caption(drawing),) for drawing in shown}
