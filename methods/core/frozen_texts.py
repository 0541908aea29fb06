"""Features of texts by the frozen text tower: the same list is encoded once, and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from data_recipes.core import strict_json

if TYPE_CHECKING:
    from methods.core.backbone import Backbone

KEPT = 256 * 2**20  # bytes of features in memory


class TextStore(Protocol):
    """Where features of texts outlive a process (`bench.text_files`)."""

    def features(self, texts: Sequence[str], encode: Callable[[], Tensor]) -> Tensor:
        """What `encode` gives for this list, from the store if it is there: (N, D) float32."""
        ...


class FrozenTexts:
    """Unit-norm features (N, D) of lists of texts, each list encoded once.

    A feature's last bits depend on the batch it is encoded in. So a list is known by all its texts
    in their order, and what is returned never depends on what was asked before.

    store: asked for lists that are not in memory; None: they are encoded. kept: bytes of features
        in memory; beyond them the list goes that was not asked for longest.
    """

    def __init__(self, backbone: Backbone, kept: int = KEPT) -> None:
        self.store: TextStore | None = None
        self._backbone = backbone
        self._kept = kept
        self._known: OrderedDict[tuple[str, torch.device], Tensor] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features (N, D) of plain texts, without gradient; shared, so never to be changed.

        Raises:
            ValueError: a text does not fit into the tower's context.
        """
        key = strict_json.digest(list(texts)), self._backbone.device
        found = self._known.get(key)
        if found is None:
            store = self.store
            found = (
                self._encode(texts)
                if store is None
                else store.features(texts, lambda: self._encode(texts))
            )
            self._known[key] = found
            while len(self._known) > 1 and sum(t.nbytes for t in self._known.values()) > self._kept:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return found

    def _encode(self, texts: Sequence[str]) -> Tensor:
        return self._backbone.text.encode_texts(texts)
