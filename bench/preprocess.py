"""An image transform in two halves: what is done to the picture, and arithmetic on its bytes.

open_clip's transforms resize and crop a picture, and then turn each byte into a number. The second
half is done here for a whole batch at once, on the device where it is used: pixels wait in memory
and travel to a GPU as bytes, a quarter of their size, and the numbers are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

from methods.core.device import moved

Transform = Callable[[Image.Image], Tensor]


class Preprocess:
    """A transform as `raw` (per image) and `pixels` (per batch): pixels(raw(x)) == transform(x).

    Of a transform of another kind `raw` is the whole and `pixels` changes nothing.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._steps = _picture_steps(transform)
        self._constants: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}
        if self._steps is not None and not self._equal_on_all_bytes():
            self._steps = None

    @property
    def halved(self) -> bool:
        """Whether `raw` is bytes."""
        return self._steps is not None

    def raw(self, image: Image.Image) -> Tensor:
        """RGB image -> (H, W, 3) uint8, or (3, H, W) as the transform makes it."""
        if self._steps is None:
            return self._transform(image)
        picture: Any = image
        for step in self._steps:
            picture = step(picture)
        return torch.from_numpy(np.array(picture))

    def pixels(self, raw: Tensor, device: str | torch.device) -> Tensor:
        """A batch of `raw` (B, ...) -> pixels (B, 3, H, W) on `device`."""
        raw = moved(raw, device)
        if self._steps is None:
            return raw
        full, mean, std = self._constants_on(raw.device)
        planes = raw.permute(0, 3, 1, 2)
        found = planes.to(torch.float32, memory_format=torch.contiguous_format)
        # ToTensor and Normalize in their order. A GPU would multiply by 1 / 255 for a plain number.
        return found.div_(full).sub_(mean).div_(std)

    def _constants_on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if device not in self._constants:
            last = self._transform.transforms[-1]  # type: ignore[attr-defined]
            values = ([255.0], last.mean, last.std)
            full, mean, std = (
                moved(torch.as_tensor(v, dtype=torch.float32).view(-1, 1, 1), device)
                for v in values
            )
            self._constants[device] = (full, mean, std)
        return self._constants[device]

    def _equal_on_all_bytes(self) -> bool:
        """Whether both ways agree on every byte in every channel; else nothing is halved."""
        values = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256).permute(1, 2, 0)
        picture: Any = Image.fromarray(values.contiguous().numpy())
        for step in self._transform.transforms[-2:]:  # type: ignore[attr-defined]
            picture = step(picture)
        return torch.equal(self.pixels(values[None], "cpu")[0], picture)


def _picture_steps(transform: Transform) -> list[Any] | None:
    """The steps before the arithmetic; None where the last two are not ToTensor and Normalize."""
    if not isinstance(transform, Compose) or len(transform.transforms) < 2:
        return None
    steps: list[Any] = [*transform.transforms]
    arithmetic = isinstance(steps[-2], ToTensor) and isinstance(steps[-1], Normalize)
    return steps[:-2] if arithmetic else None


@lru_cache(maxsize=8)
def preprocess(transform: Transform) -> Preprocess:
    """The halves of a transform, known once for a process."""
    return Preprocess(transform)
