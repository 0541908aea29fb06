"""The one ranking engine: exact ranks of the relevant candidates, in blocks of queries.

No sorting: the rank of a relevant candidate is one more than the number of candidates above it,
so counting is exact, and memory is one block of similarities. Ties are broken pessimistically:
a candidate that is not relevant and has an equal similarity stands above. A constant scorer is
therefore last, whatever the order of the gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.metrics import Floats, Ints, per_query
from data_recipes.core.model import RetrievalTask

NEVER = 2**31  # the rank of a relevant candidate that is not retrieved at all
BLOCK_VALUES = 16_000_000  # similarities in one block: 64 MB of float32


class NotFiniteError(ValueError):
    """Similarities with NaN or infinity; they have no order."""


@dataclass(frozen=True)
class Rankings:
    """Ranks of one RetrievalTask.

    ranks: (Q, R) 1-based ranks of relevant candidates, ascending, 0 as padding, NEVER for those
        that are not retrieved.
    subset_ranks: the same inside each query's subset, or None.
    gallery: (Q,) size of each query's gallery, exclusions removed.
    tied: (Q,) True where a candidate that is not relevant ties with the best relevant one.
    credit, subset_credit: (Q, R) what recall pays for the candidate at each rank; None: 1.
    """

    ranks: Ints
    subset_ranks: Ints | None
    gallery: Ints
    tied: np.ndarray[tuple[int], np.dtype[np.bool_]]
    credit: Floats | None = None
    subset_credit: Floats | None = None

    def per_query(self, name: str) -> Floats:
        """The metric called `name`, (Q,) in [0, 1]."""
        return per_query(name, self.ranks, self.subset_ranks, self.credit, self.subset_credit)


def rank(
    task: RetrievalTask,
    queries: Tensor,
    candidates: Tensor,
    block_values: int = BLOCK_VALUES,
    target_first: bool = False,
) -> Rankings:
    """Rank every query of `task`.

    queries: (Q, D), candidates: (N, D), rows in the task's order; similarities are their fp32
    inner products.

    Raises:
        NotFiniteError: naming the first query with a similarity that is NaN or infinite.
        ValueError: the numbers of rows do not fit the task.
    """
    if (len(queries), len(candidates)) != (len(task.queries), len(task.candidates)):
        raise ValueError(
            f"{len(queries)} query and {len(candidates)} candidate features for "
            f"{len(task.queries)} queries and {len(task.candidates)} candidates"
        )
    columns = candidates.float().T.contiguous()
    return rank_blocks(
        task, lambda rows: queries[rows].float() @ columns, block_values, target_first
    )


def rank_blocks(
    task: RetrievalTask,
    block: Callable[[slice], Tensor],
    block_values: int = BLOCK_VALUES,
    target_first: bool = False,
) -> Rankings:
    """Rank every query of `task` by similarities that are made a block of queries at a time.

    block: rows -> (rows, N) similarities, columns in the order of the task's candidates.
    target_first: relevant candidates win ties instead (GeneCIS' code; see `settle`).

    Raises:
        NotFiniteError: naming the first query with a similarity that is NaN or infinite.
    """
    # Relevant candidates by rising credit: the stable sort in _count keeps that order in a tie.
    order = [sorted(range(len(q.credit)), key=q.credit.__getitem__) for q in task.queries]
    relevant = _rows(
        task,
        [
            [q.relevant[i] for i in by_credit] if by_credit else q.relevant
            for q, by_credit in zip(task.queries, order, strict=True)
        ],
    )
    credit = torch.ones(relevant.shape, dtype=torch.float64)
    for row, (query, by_credit) in enumerate(zip(task.queries, order, strict=True)):
        for column, i in enumerate(by_credit):
            credit[row, column] = query.credit[i]
    whole, subsets, sizes = [], [], []
    for start, stop in _blocks(len(task.queries), len(task.candidates), block_values):
        similarity = block(slice(start, stop))
        finite = torch.isfinite(similarity).all(dim=1)
        if not bool(finite.all()):
            bad = task.queries[start + int((~finite).nonzero()[0])]
            raise NotFiniteError(
                f"query {bad.id!r}: a similarity is not finite; NaN and infinity have no order"
            )
        allowed = torch.ones(similarity.shape, dtype=torch.bool, device=similarity.device)
        for row, query in enumerate(task.queries[start:stop]):
            if query.gallery is not None:
                allowed[row] = False
                allowed[row, [task.position[c] for c in query.gallery]] = True
            if query.excluded:
                allowed[row, [task.position[c] for c in query.excluded]] = False
        rows = relevant[start:stop].to(similarity.device)
        pays = credit[start:stop].to(similarity.device)
        whole.append(_count(similarity, allowed, rows, pays, target_first))
        sizes.append(allowed.sum(dim=1).cpu())
        if task.queries[0].subset is not None:
            inside = torch.zeros_like(allowed)
            for row, query in enumerate(task.queries[start:stop]):
                inside[row, [task.position[c] for c in query.subset or ()]] = True
            subsets.append(_count(similarity, inside, rows, pays, target_first))
    graded = any(order)
    return Rankings(
        ranks=torch.cat([ranks for ranks, _, _ in whole]).numpy(),
        subset_ranks=torch.cat([ranks for ranks, _, _ in subsets]).numpy() if subsets else None,
        gallery=torch.cat(sizes).numpy(),
        tied=torch.cat([tied for _, tied, _ in whole]).numpy(),
        credit=torch.cat([pays for _, _, pays in whole]).numpy() if graded else None,
        subset_credit=(
            torch.cat([pays for _, _, pays in subsets]).numpy() if graded and subsets else None
        ),
    )


def settle(rankings: Rankings, limit: float, target_first: Callable[[], Rankings]) -> Rankings:
    """The rankings that a protocol reports: pessimistic, but for a few ties the official way.

    GeneCIS' code sorts stably with the target in place 0, so that the target wins every tie: a
    constant model scores 100 %. A share of tied queries of at most `limit` is settled like that,
    so that numbers equal the official ones; above it the rankings stay pessimistic.

    target_first: makes the rankings in which the target wins ties.
    """
    return target_first() if 0 < rankings.tied.mean() <= limit else rankings


def _blocks(queries: int, candidates: int, block_values: int) -> Iterator[tuple[int, int]]:
    size = max(1, block_values // max(1, candidates))
    for start in range(0, queries, size):
        yield start, min(start + size, queries)


def _rows(task: RetrievalTask, ids: Sequence[Sequence[str]]) -> Tensor:
    """Candidate rows (Q, R) of lists of candidate ids, padded with -1."""
    width = max(1, max(len(row) for row in ids))
    rows = torch.full((len(ids), width), -1, dtype=torch.long)
    for number, row in enumerate(ids):
        rows[number, : len(row)] = torch.tensor([task.position[c] for c in row], dtype=torch.long)
    return rows


def _count(
    similarity: Tensor, allowed: Tensor, relevant: Tensor, credit: Tensor, target_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks (b, R) int64 of the relevant rows among the allowed ones, ties (b,), credits (b, R)."""
    present = relevant >= 0
    # Padding points at the row's first relevant candidate, so that it changes no other column.
    places = torch.where(present, relevant, relevant[:, :1].clamp(min=0))
    present &= allowed.gather(1, places)
    own = similarity.gather(1, places).masked_fill(~present, float("-inf"))
    own, order = own.sort(dim=1, descending=True, stable=True)
    present = present.gather(1, order)
    # Relevant and barred candidates never stand above: what is left is counted.
    others = similarity.masked_fill(~allowed, float("-inf"))
    others.scatter_(1, places, float("-inf"))
    over = torch.gt if target_first else torch.ge
    above = torch.stack([over(others, own[:, r : r + 1]).sum(1) for r in range(own.shape[1])], 1)
    ranks = above + torch.arange(1, own.shape[1] + 1, device=above.device)
    tied = (others == own[:, :1]).any(dim=1) & present[:, 0]
    return torch.where(present, ranks, 0).cpu(), tied.cpu(), credit.gather(1, order).cpu()
