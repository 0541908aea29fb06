"""Natural-language descriptions of classes and images, read in training only.

CuPL's released files (github.com/sarahpratt/CuPL) have this form: a JSON object from a name to a
list of sentences. A built dataset holds them in `descriptions.json`.
"""

from __future__ import annotations

from pathlib import Path

from data_recipes.core import strict_json
from data_recipes.core.model import DataError

DESCRIPTIONS = "descriptions.json"


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Class name or image id -> its sentences, at least one each.

    Raises:
        DataError: no such file, not JSON, a key that occurs twice, or a value that is no list of
            sentences; names the file and the key.
    """
    raw = strict_json.read(path)
    if not isinstance(raw, dict):
        raise DataError(
            f"{path}: descriptions are one object from class names or image ids to lists of "
            'sentences: {"farmer": ["a person who grows food.", ...]}'
        )
    for key, texts in raw.items():
        sound = isinstance(texts, list) and all(isinstance(t, str) and t.strip() for t in texts)
        if not sound or not texts:
            raise DataError(
                f"{path}: descriptions of {key!r}: give a list of sentences, or leave the key out"
            )
    return {key: tuple(texts) for key, texts in raw.items()}
