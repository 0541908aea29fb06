"""Text features of frozen captions, kept as files beside the image features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.feature_store import Identity, Stored
from bench.features import precision_of
from data_recipes.core import strict_json
from methods.core.backbone import Backbone

FEWEST = 64  # texts of a list that has a file; encoding fewer takes hardly longer than reading one


@dataclass(frozen=True)
class TextFiles:
    """Features of lists of texts in the folder `cache`: a `methods.core.frozen_texts.TextStore`.

    Each rank asks for its own lists. Where two processes want the same one, the second waits for
    the first, which needs nobody else to finish.
    """

    cache: Path
    backbone: Backbone

    def features(self, texts: Sequence[str], encode: Callable[[], Tensor]) -> Tensor:
        """What `encode` gives for this list: (N, D) float32, on the backbone's device.

        Raises:
            DataError: the file is damaged.
        """
        if len(texts) < FEWEST:
            return encode()
        encoder = self.backbone
        identity = Identity(
            kind="texts",
            encoder=encoder.digest,
            dataset=None,
            transform="none",
            precision=precision_of(encoder),
            rows=strict_json.digest(list(texts)),
        )
        place = Stored(self.cache, identity, (len(texts), encoder.dim), encoder.label)
        found = place.open()
        if found is None:
            with place.alone():
                found = place.open()
                if found is None:
                    made = encode()
                    place.write(made.cpu().numpy())
                    return made
        return torch.from_numpy(found).to(encoder.device)
