"""How much the seeds alone move a method's score, from all methods of a column together.

Three seeds give one method's variance two degrees of freedom: a t quantile of 4.3, and of 17
after Holm over 15 pairs, so that nothing would be found. The methods of a column share what they
know: the variance is pooled over them (as the error of an analysis of variance is), and a method
whose own is significantly larger keeps its own excess, with its own few degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

LEAST_DF = 4
"""Below this many degrees of freedom a shared shift of the seeds is not taken out."""

OWN_ALPHA = 0.05
"""Level of the F test for a variance of one's own above that of the other methods."""


@dataclass(frozen=True)
class SeedNoise:
    """Variances of one run's score, in squared fractions, of M trained methods.

    own, pooled: with the shift that a seed gives to all methods alike taken out, so that they
    hold between trained methods. own_alone, pooled_alone: with it, against a training-free one.
    """

    own: Floats
    own_df: float
    pooled: float
    pooled_df: float
    own_alone: Floats
    alone_df: float
    pooled_alone: float
    pooled_alone_df: float

    def between(self, first: int, second: int) -> tuple[float, float]:
        """Variance of a paired difference of one run each, and its degrees of freedom."""
        pair = self.own[[first, second]]
        rest = (self.own.sum() - pair) / max(len(self.own) - 1, 1)
        return _joined(pair, rest, self.own_df, self.pooled, self.pooled_df)

    def against_free(self, method: int) -> tuple[float, float]:
        """The same against a training-free method, which no seed moves."""
        mine = self.own_alone[[method]]
        rest = (self.own_alone.sum() - mine) / max(len(self.own_alone) - 1, 1)
        return _joined(mine, rest, self.alone_df, self.pooled_alone, self.pooled_alone_df)


def seed_noise(scores: Floats) -> SeedNoise:
    """From (M methods, S replicates) scores, S >= 2, whose columns are the same (draw, seed).

    The two-way table of methods and replicates has MS_replicates, S - 1 degrees of freedom, and
    MS_rest, (M - 1)(S - 1). A seed's shift of all methods (the few-shot draw that they share) is
    taken out where MS_rest has at least `LEAST_DF` degrees of freedom; else the seeds count as
    independent, which is wider where they are not.
    """
    methods, replicates = scores.shape
    own = scores - scores.mean(axis=1, keepdims=True)
    shift = own.mean(axis=0)
    rest_df = float((methods - 1) * (replicates - 1))
    ms_rest = float(np.square(own - shift).sum() / rest_df) if rest_df else 0.0
    ms_shift = float(methods * np.square(shift).sum() / (replicates - 1))
    own_alone = np.square(own).sum(axis=1) / (replicates - 1)
    alone_df = float(replicates - 1)
    share = np.array([ms_shift, (methods - 1) * ms_rest]) / methods
    pooled_alone = float(share.sum())
    squares = float(share[0] ** 2 / alone_df + (share[1] ** 2 / rest_df if rest_df else 0.0))
    pooled_alone_df = pooled_alone**2 / squares if squares else alone_df
    if rest_df >= LEAST_DF:
        inside = np.square(own - shift).sum(axis=1) * methods / rest_df
        return SeedNoise(
            inside,
            rest_df / methods,
            ms_rest,
            rest_df,
            own_alone,
            alone_df,
            pooled_alone,
            pooled_alone_df,
        )
    return SeedNoise(
        own_alone,
        alone_df,
        float(own_alone.mean()),
        methods * alone_df,
        own_alone,
        alone_df,
        pooled_alone,
        pooled_alone_df,
    )


def _joined(
    own: Floats, rest: Floats, own_df: float, pooled: float, pooled_df: float
) -> tuple[float, float]:
    """Sum of the methods' variances: pooled, plus each method's significant excess over it.

    Degrees of freedom as of a sum of independent variances (Satterthwaite).
    """
    rest_df = pooled_df - own_df
    larger = np.zeros(len(own), dtype=bool)
    if rest_df > 0:
        # own / rest > quantile, without a division by zero.
        larger = own > rest * stats.f.isf(OWN_ALPHA, own_df, rest_df)
    excess = np.where(larger, np.maximum(own - pooled, 0.0), 0.0)
    base = len(own) * pooled
    total = float(base + excess.sum())
    if total == 0.0:
        return 0.0, pooled_df
    spread = base**2 / pooled_df + float(np.square(excess).sum()) / own_df
    return total, float(total**2 / spread)
