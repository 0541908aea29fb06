"""Two looks at a tile of similarities that take no more than its reading: which, and how many.

On a CPU numpy compares into bytes, which are then read eight at a time: torch's own comparison
costs four times as much there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

SOME = 2  # rows are looked at one by one where they are fewer than one in so many
LANES = 255  # words of bytes 0 and 1 whose sum does not run over


def at_least(values: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values (n,) of what in `values` (b, w) reaches its row's `floor` (b,).

    They come by row.
    """
    if values.device.type != "cpu":
        rows, columns = (values >= floor[:, None]).nonzero(as_tuple=True)
        return rows, columns, values[rows, columns]
    mask = _compared(np.greater_equal, values.numpy(), floor.numpy())
    bytes8 = mask.reshape(-1).view(np.uint64)
    words = np.flatnonzero(bytes8 != 0)
    lanes = np.flatnonzero(bytes8[words].view(np.bool_))
    places = words[lanes >> 3] * 8 + (lanes & 7)
    row = places // mask.shape[1]
    column = places - row * mask.shape[1]
    found = values.numpy()[row, column]
    return torch.from_numpy(row), torch.from_numpy(column), torch.from_numpy(found)


def count(values: Tensor, rows: Tensor, least: Tensor, strict: bool = False) -> Tensor:
    """How many `values` (b, w) of `rows` (n,) are at least (or, `strict`, above) `least` (n,)."""
    if values.device.type != "cpu":
        over = torch.gt if strict else torch.ge
        return over(values[rows], least[:, None]).sum(dim=1)
    compare = np.greater if strict else np.greater_equal
    if len(rows) < len(values) / SOME:
        table, bounds = values.numpy(), least.numpy()
        pairs = zip(rows.tolist(), bounds, strict=True)
        return torch.tensor([np.count_nonzero(compare(table[row], v)) for row, v in pairs])
    bounds = np.full(len(values), np.inf, dtype=values.numpy().dtype)
    bounds[rows.numpy()] = least.numpy()
    words = _compared(compare, values.numpy(), bounds).view(np.uint64)
    found = np.zeros(len(words), dtype=np.int64)
    for first in range(0, words.shape[1], LANES):
        lanes = np.add.reduce(words[:, first : first + LANES], axis=1)
        found += lanes.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)
    return torch.from_numpy(found)[rows]


def rising(values: Tensor) -> Tensor:
    """`values` sorted along the last dimension; numpy is several times as fast on a CPU."""
    if values.device.type != "cpu":
        return values.sort(dim=-1).values
    return torch.from_numpy(np.sort(values.numpy(), axis=-1)).contiguous()


def _compared(compare: Any, values: Any, bounds: Any) -> Any:
    """The comparison's bytes (b, w), filled up with zeros to whole words."""
    width = values.shape[1]
    mask = np.empty((len(values), -(-width // 8) * 8), dtype=np.bool_)
    mask[:, width:] = False
    compare(values, bounds[:, None], out=mask[:, :width])
    return mask
