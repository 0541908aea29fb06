"""Words for drawings: captions with any part of the attributes, and texts that change one."""

from __future__ import annotations

from collections.abc import Sequence

from data_recipes.openmoji.names import ADULT, IRREGULAR, Drawing, Gender

_IRREGULAR_NOUN = {role_gender: name for name, role_gender in IRREGULAR.items()}
_PLURAL: dict[Gender | None, str] = {
    "woman": "women",
    "man": "men",
    "person": "people",
    None: "people",
}
PAIRS = ("couple with heart", "kiss")


def noun(role: str, gender: Gender | None) -> str:
    """`farmer`, woman -> `woman farmer`; `person golfing`, man -> `man golfing`; None: the role."""
    if gender is None:
        return role
    if (role, gender) in _IRREGULAR_NOUN:
        return _IRREGULAR_NOUN[role, gender]
    if role == ADULT:
        return gender
    if role in PAIRS:
        return role if gender == "person" else f"{role} of two {_PLURAL[gender]}"
    words = role.split(" ")
    if words[0] == "people":
        return " ".join([_PLURAL[gender], *words[1:]])
    if "person" in words:
        return " ".join(gender if word == "person" else word for word in words)
    return role if gender == "person" else f"{gender} {role}"


def article(phrase: str) -> str:
    """The phrase with "a" or "an", or as it is when it is plural or a name."""
    first = phrase.split(" ")[0]
    if first in ("people", "women", "men", "Santa", "Mrs.", "Mx") or phrase.endswith("s"):
        return phrase
    return f"an {phrase}" if first[0].lower() in "aeio" else f"a {phrase}"


# Ways to say the same; the first one is the plain one.
TONE_WAYS = ("with {} skin tone", "with {} skin", "in {} skin tone", "having {} skin")
IDENTITY_WAYS = ("as {}", "now {}", "but as {}", "turned into {}")
EDIT_WAYS = ("{}", "{}", "the same {}", "{} instead")
# The first so many ways of `edit` add no words of EDIT_WAYS.
PLAIN_WAYS = len(TONE_WAYS) * len(IDENTITY_WAYS)


def tone_phrase(tone: str | None, way: int = 0) -> str:
    """`dark` -> `with dark skin tone`; the toneless drawings are yellow."""
    return TONE_WAYS[way].format(tone or "yellow")


def hair_phrase(hair: str | None) -> str:
    """`red hair` -> `with red hair`; None is plain hair."""
    if hair is None:
        return "with plain hair"
    return {"bald": "with a bald head", "beard": "with a beard"}.get(hair, f"with {hair}")


def direction_phrase(direction: str | None) -> str:
    """The side that a moving person faces."""
    return "facing left" if direction is None else direction


def role_phrase(role: str, way: int) -> str:
    """The role alone, with no word for a gender: `as a farmer`, `now golfing`, `now deaf`."""
    words = role.split(" ")
    if "person" in words:
        return "now " + " ".join(word for word in words if word != "person")
    return IDENTITY_WAYS[way].format(article(role))


def edit(drawing: Drawing, changed: Sequence[str], way: int) -> str:
    """Say the drawing's values of the `changed` attributes in one of many ways, chosen by `way`.

    Role and gender together are said by one noun, so the gender must then be woman or man.
    """
    way, tone_way = divmod(way, len(TONE_WAYS))
    way, identity_way = divmod(way, len(IDENTITY_WAYS))
    way, edit_way = divmod(way, len(EDIT_WAYS))
    said = []
    if "role" in changed and "gender" in changed:
        named = article(noun(drawing.role, drawing.gender))
        said.append(IDENTITY_WAYS[identity_way].format(named))
    elif "role" in changed:
        said.append(role_phrase(drawing.role, identity_way))
    elif "gender" in changed:
        said.append(IDENTITY_WAYS[identity_way].format(f"a {drawing.gender}"))
    if "hair" in changed:
        said.append(hair_phrase(drawing.hair))
    if "direction" in changed:
        said.append(direction_phrase(drawing.direction))
    if "tone" in changed:
        said.append(tone_phrase(drawing.tone, tone_way))
    if way % 2:
        said.reverse()
    return EDIT_WAYS[edit_way].format(" ".join(said))


def caption(drawing: Drawing) -> str:
    """All that there is to say: `a woman running facing right with dark skin tone`."""
    parts = [article(noun(drawing.role, drawing.gender))]
    if drawing.hair:
        parts.append(hair_phrase(drawing.hair))
    if drawing.direction:
        parts.append(direction_phrase(drawing.direction))
    parts.append(tone_phrase(drawing.tone))
    return " ".join(parts)
