"""The one ranking engine: exact ranks of the relevant candidates, in blocks of queries.

No sorting: the rank of a relevant candidate is one more than the number of candidates above it:
all that compare so in its row, less the few that never stand above. So counting is exact, and
memory is one block of similarities; neither it nor the gallery is copied. Ties are broken
pessimistically: a candidate that is not relevant and has an equal similarity stands above. A
constant scorer is therefore last, whatever the order of the gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.metrics import Floats, Ints, per_query
from data_recipes.core.model import Query, RetrievalTask

NEVER = 2**31  # the rank of a relevant candidate that is not retrieved at all
BLOCK_VALUES = 4_000_000  # similarities in one block: 16 MB of float32

Similarity = Callable[[Tensor, Tensor], Tensor]
"""Embedded queries (B, Dq) and candidates (N, Dc) -> scores (B, N)."""


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
    similarity: Similarity | None = None,
) -> Rankings:
    """Rank every query of `task`.

    queries: (Q, D), candidates: (N, D), rows in the task's order. similarity: of scores that
    depend on the pair; None: fp32 inner products.

    Raises:
        NotFiniteError: naming the first query with a similarity that is NaN or infinite.
        ValueError: the numbers of rows do not fit the task, or `similarity` gives another shape.
    """
    check_rows(task, queries, candidates)
    gallery = candidates.float()
    if similarity is not None:
        pairwise = similarity
        with torch.no_grad():
            return rank_blocks(
                task,
                lambda rows: compared(pairwise, queries[rows], gallery),
                block_values,
                target_first,
            )
    # One buffer for all blocks: given back and asked for again, memory would end in pieces.
    size = min(len(queries), block_size(len(candidates), block_values))
    buffer = gallery.new_empty(size, len(candidates))

    def block(rows: slice) -> Tensor:
        return torch.mm(queries[rows].float(), gallery.T, out=buffer[: rows.stop - rows.start])

    with torch.no_grad():
        return rank_blocks(task, block, block_values, target_first)


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
    whole: list[_Counted] = []
    subsets: list[_Counted] = []
    width = max(1, max(len(query.relevant) for query in task.queries))
    for start, stop in _blocks(len(task.queries), len(task.candidates), block_values):
        queries = task.queries[start:stop]
        similarity = block(slice(start, stop))
        check_finite(queries, similarity)
        pools = [query.gallery for query in queries]
        whole.append(_count(task, queries, pools, True, similarity, width, target_first))
        if queries[0].subset is not None:
            pools = [query.subset or () for query in queries]
            subsets.append(_count(task, queries, pools, False, similarity, width, target_first))
    graded = any(query.credit for query in task.queries)
    return Rankings(
        ranks=torch.cat([part.ranks for part in whole]).numpy(),
        subset_ranks=torch.cat([part.ranks for part in subsets]).numpy() if subsets else None,
        gallery=torch.cat([part.sizes for part in whole]).numpy(),
        tied=torch.cat([part.tied for part in whole]).numpy(),
        credit=torch.cat([part.credit for part in whole]).numpy() if graded else None,
        subset_credit=(
            torch.cat([part.credit for part in subsets]).numpy() if graded and subsets else None
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


def compared(similarity: Similarity, queries: Tensor, candidates: Tensor) -> Tensor:
    """Scores (B, N) in fp32 by a similarity. Raises ValueError when it gives another shape."""
    values = similarity(queries.float(), candidates)
    wanted = (len(queries), len(candidates))
    if tuple(values.shape) != wanted:
        raise ValueError(f"the method's similarity has shape {tuple(values.shape)}, not {wanted}")
    return values.float()


def check_rows(task: RetrievalTask, queries: Tensor, candidates: Tensor) -> None:
    """Raise ValueError unless there is one feature row for each query and candidate of `task`."""
    if (len(queries), len(candidates)) != (len(task.queries), len(task.candidates)):
        raise ValueError(
            f"{len(queries)} query and {len(candidates)} candidate features for "
            f"{len(task.queries)} queries and {len(task.candidates)} candidates"
        )


def check_finite(queries: Sequence[Query], similarity: Tensor) -> None:
    """Raise NotFiniteError for the first row of `similarity` (rows, N) with NaN or infinity."""
    least, most = similarity.aminmax(dim=1)  # NaN is both
    finite = least.isfinite() & most.isfinite()
    if not bool(finite.all()):
        bad = queries[int((~finite).nonzero()[0])]
        raise NotFiniteError(
            f"query {bad.id!r}: a similarity is not finite; NaN and infinity have no order"
        )


def block_size(candidates: int, block_values: int) -> int:
    """Queries in a block of at most `block_values` similarities; at least one."""
    return max(1, block_values // max(1, candidates))


def _blocks(queries: int, candidates: int, block_values: int) -> Iterator[tuple[int, int]]:
    size = block_size(candidates, block_values)
    for start in range(0, queries, size):
        yield start, min(start + size, queries)


def _rows(task: RetrievalTask, ids: Sequence[Sequence[str]], width: int = 1) -> Tensor:
    """Candidate rows (Q, R) of lists of candidate ids, R at least `width`, padded with -1."""
    rows = np.full((len(ids), max(width, max(len(row) for row in ids))), -1, dtype=np.int64)
    for number, row in enumerate(ids):
        rows[number, : len(row)] = [task.position[c] for c in row]
    return torch.from_numpy(rows)


@dataclass(frozen=True)
class _Counted:
    """One block. ranks (b, R) int64, tied (b,), credit (b, R), sizes (b,) of the galleries."""

    ranks: Tensor
    tied: Tensor
    credit: Tensor
    sizes: Tensor


def _count(
    task: RetrievalTask,
    queries: Sequence[Query],
    pools: Sequence[Sequence[str] | None],
    exclude: bool,
    similarity: Tensor,
    width: int,
    target_first: bool,
) -> _Counted:
    """Rank a block of queries, each in its pool (None: all candidates).

    exclude: whether the queries' `excluded` are taken out of the pools. width: R.
    """
    relevant, credit, silent, sizes = [], [], [], []
    for query, pool in zip(queries, pools, strict=True):
        inside: Collection[str] = task.position if pool is None else set(pool)
        barred = {c for c in query.excluded if c in inside} if exclude else set()
        # By rising credit: the stable sort below keeps that order in a tie.
        paid = zip(query.relevant, query.credit or [1.0] * len(query.relevant), strict=True)
        ranked = sorted(
            ((c, pays) for c, pays in paid if c in inside and c not in barred),
            key=lambda pair: pair[1],
        )
        relevant.append([c for c, _ in ranked])
        credit.append([pays for _, pays in ranked] + [1.0] * (width - len(ranked)))
        silent.append([*relevant[-1], *barred])
        sizes.append(len(inside) - len(barred))

    def found(rows: Tensor) -> Tensor:
        rows = rows.to(similarity.device)
        return similarity.gather(1, rows.clamp(min=0)).masked_fill_(rows < 0, float("-inf"))

    own, order = found(_rows(task, relevant, width)).sort(dim=1, descending=True, stable=True)
    present = own > float("-inf")
    # Relevant and barred candidates never stand above, so they are taken off the count.
    quiet = found(_rows(task, silent))
    values = similarity
    if any(pool is not None for pool in pools):
        values = found(_rows(task, [[*task.position] if p is None else p for p in pools]))
    over = torch.gt if target_first else torch.ge
    ranks = torch.zeros_like(order)
    for r in range(int(present.sum(dim=1).max())):
        best = own[:, r : r + 1]
        ranks[:, r] = _true(over(values, best)) - _true(over(quiet, best)) + r + 1
    tied = _true(values == own[:, :1]) > _true(quiet == own[:, :1])
    pays = torch.tensor(credit, dtype=torch.float64).gather(1, order.cpu())
    ranks = torch.where(present, ranks, 0)
    return _Counted(ranks.cpu(), (tied & present[:, 0]).cpu(), pays, torch.tensor(sizes))


def _true(mask: Tensor) -> Tensor:
    """Number of true values in each row (b,); numpy counts bytes ten times as fast on a CPU."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1))
    return mask.sum(dim=1)
