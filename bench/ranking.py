"""The one ranking engine: exact ranks of the relevant candidates and the first k, in one pass.

Similarities are made in tiles and looked at once (`bench.counted`); neither they nor the gallery
are copied. Ties are broken pessimistically: a candidate that is not relevant and has an equal
similarity stands above. A constant scorer is therefore last, whatever the order of the gallery.
Lists break ties by the order of the task's candidates, the earlier one first, so that a list may
place a target above an equal candidate that the metric counts above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.counted import Counted, Want, counted
from bench.gather import ALONE, gather
from bench.metrics import Floats, Ints, per_query
from bench.pairs import Named
from bench.tiles import TILE_VALUES, Block, products, wholes
from bench.train import Engine
from bench.workers import Inline, Workers
from data_recipes.core.model import Query, RetrievalTask

NEVER = 2**31  # the rank of a relevant candidate that is not retrieved at all
SMALL = 2_000  # candidates that are one tile, or nearly
BLOCK_VALUES = 4_000_000  # similarities in one block that comes whole: 16 MB of float32

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


@dataclass(frozen=True)
class Found:
    """What one pass over a task gives.

    rankings: pessimistic. favoured: with relevant candidates winning ties (see `settle`).
    first, subset_first: (Q, k) candidate rows, best first, padded with -1; None: not asked for.
    """

    rankings: Rankings
    favoured: Rankings
    first: Ints | None
    subset_first: Ints | None


def search(
    task: RetrievalTask,
    queries: Tensor,
    candidates: Tensor,
    *,
    k: int = 0,
    subset_k: int = 0,
    favoured: bool = False,
    block_values: int | None = None,
    similarity: Similarity | None = None,
    engine: Engine = ALONE,
) -> Found | None:
    """Rank every query of `task`, and list its first candidates.

    With several ranks all call it with the same features and share the queries; rank 0 gets the
    result, others None. Bits are equal on any number of ranks.

    queries: (Q, D), candidates: (N, D), rows in the task's order. k, subset_k: how many to list;
    0: none. favoured: whether `Found.favoured` is wanted; else it means nothing. similarity: of
    scores that depend on the pair; None: fp32 inner products. block_values: similarities in
    memory at a time.

    Raises:
        NotFiniteError: naming the first query with a similarity that is NaN or infinite.
        ValueError: the numbers of rows do not fit the task, or `similarity` gives another shape.
        OtherRankError: another rank failed.
    """
    check_rows(task, queries, candidates)
    gallery, asked = candidates.float(), (k, subset_k, favoured)
    if similarity is not None:
        pairwise, values = similarity, block_values or BLOCK_VALUES
        size = max(1, values // len(gallery))  # whole blocks are dealt: their bits may differ

        def made(rows: slice) -> Iterable[Block]:
            def block(part: slice) -> Tensor:
                return compared(pairwise, queries[rows][part], gallery)

            return wholes(block, rows.stop - rows.start, len(gallery), values)

        return _search(task, made, gallery.device, asked, size, engine)

    # Queries with many relevant candidates first: what they need is then done for a block's
    # first rows alone.
    features, size = queries.float(), -(-len(queries) // engine.world_size)
    order = np.argsort([-len(query.relevant) for query in task.queries], kind="stable")
    turned = torch.from_numpy(order).to(features.device)

    def blocks(rows: slice) -> Iterable[Block]:
        return products(features[turned[rows]], gallery, block_values or TILE_VALUES)

    def check() -> None:
        for block in products(features, gallery, block_values or TILE_VALUES):
            check_finite(task.queries[block.start : block.stop], block)

    return _search(task, blocks, gallery.device, asked, size, engine, order, check)


def rank(
    task: RetrievalTask,
    queries: Tensor,
    candidates: Tensor,
    block_values: int | None = None,
    target_first: bool = False,
    similarity: Similarity | None = None,
) -> Rankings:
    """The ranks alone; see `search`. target_first: relevant candidates win ties (see `settle`)."""
    found = search(
        task,
        queries,
        candidates,
        favoured=target_first,
        block_values=block_values,
        similarity=similarity,
    )
    assert found is not None  # one rank
    return found.favoured if target_first else found.rankings


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
    count = len(task.queries)

    def blocks(rows: slice) -> Iterable[Block]:
        return wholes(block, count, len(task.candidates), block_values)

    device = torch.device("cpu")
    found = _search(task, blocks, device, (0, 0, target_first), count, ALONE)
    assert found is not None  # one rank
    return found.favoured if target_first else found.rankings


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


def check_finite(queries: Sequence[Query], block: Block) -> None:
    """Raise NotFiniteError for the first row of `block` with NaN or infinity."""
    finite = [
        tile.amin(dim=1).isfinite() & tile.amax(dim=1).isfinite()  # NaN is both
        for tile in (block.tile(low, high) for low, high in block.edges)
    ]
    rows = torch.stack(finite).all(dim=0)
    if not bool(rows.all()):
        bad = queries[int((~rows).nonzero()[0])]
        raise NotFiniteError(
            f"query {bad.id!r}: a similarity is not finite; NaN and infinity have no order"
        )


def _search(
    task: RetrievalTask,
    blocks: Callable[[slice], Iterable[Block]],
    device: torch.device,
    asked: tuple[int, int, bool],
    size: int,
    engine: Engine,
    order: Ints | None = None,
    check: Callable[[], None] | None = None,
) -> Found | None:
    """`search` by blocks of similarities.

    size: queries dealt together. order: of the queries in the blocks. check: of all similarities,
    where a block's may not be finite; None: each block is checked as it comes.
    """
    order = np.arange(len(task.queries)) if order is None else order
    queries = [task.queries[row] for row in order]
    named, want = Named.of(queries, task.position), Want(*asked)

    def work(parts: list[slice]) -> Tensor:
        with torch.no_grad():
            if device.type != "cpu":
                return torch.cat([table for rows in parts for table in part(rows, Inline())])
            with Workers() as workers:
                return torch.cat([table for rows in parts for table in part(rows, workers)])

    def part(rows: slice, workers: Inline) -> list[Tensor]:
        def one(block: Block, workers: Inline) -> Tensor:
            start, stop = rows.start + block.start, rows.start + block.stop
            if check is None:
                check_finite(queries[start:stop], block)
            found = counted(block, named.of_queries(start, stop), want, workers, device)
            if check is not None and not block.surely_finite():
                check()
            return _packed(found)

        made = blocks(rows)
        if (
            check is not None and len(task.candidates) <= SMALL
        ):  # a block has no tiles to share, but a worker
            return workers.map(lambda block: one(block, Inline()), made)
        return [one(block, workers) for block in made]

    found = gather(work, len(task.queries), size, engine)
    if engine.rank != 0:
        return None
    back = np.argsort(order)
    graded = any(query.credit for query in queries)
    return _found(named, found.cpu().numpy(), want, graded, back)


def _packed(found: Counted) -> Tensor:
    """A block's results as one table of int64: what ranks exchange."""
    parts = []
    for ranked in (found.whole, found.subset):
        if ranked is not None:
            pays = ranked.pays.view(torch.int64)
            parts += [ranked.hard, ranked.favoured, pays, ranked.tied[:, None].long()]
    parts += [rows for rows in (found.first, found.subset_first) if rows is not None]
    return torch.cat(parts, dim=1)


def _found(named: Named, table: Ints, want: Want, graded: bool, back: Ints) -> Found:
    """The results from the tables of all queries. back: their rows in the task's order."""
    width = named.relevant.shape[1]
    subset = named.subset is not None
    subset_k = min(want.subset_k, named.subset.shape[1]) if named.subset is not None else 0
    widths = [width, width, width, 1] * (2 if subset else 1) + [want.k, subset_k]
    columns = np.split(table[back], np.cumsum(widths)[:-1], axis=1)
    *ranked, first, subset_first = (np.ascontiguousarray(part) for part in columns)

    def rankings(which: int) -> Rankings:
        return Rankings(
            ranks=ranked[which],
            subset_ranks=ranked[4 + which] if subset else None,
            gallery=named.sizes[back],
            tied=ranked[3][:, 0] > 0,
            credit=ranked[2].view(np.float64) if graded else None,
            subset_credit=ranked[6].view(np.float64) if graded and subset else None,
        )

    lists = first if want.k else None
    return Found(rankings(0), rankings(1), lists, subset_first if subset_k else None)
