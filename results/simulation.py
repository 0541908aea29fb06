"""How often the intervals hold what they say: simulated studies of equal methods.

    python -m results.simulation [--runs 400] [--seed 7]

Every study has one training-free method and five that train, equal in truth, so that every
significant difference is an error. An outcome is right where the sum of a query's difficulty
(shared by its cluster and by all methods), the method's own part of it, the seed's shift and the
run's own part is positive. Clusters are unequal. The analysis is the one that tables use.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from results.compare import finished, holm
from results.paired import Layout, Run, run_of
from results.pairs import Column, Side, compared
from results.statistics import student_t_interval

Floats = npt.NDArray[np.float64]

METHODS = 6
LEVEL = 0.95
DIFFICULTY = (1.0, 0.7)
"""Spread of the queries' difficulty: of clusters, and of queries within; a probit scale."""

OWN = 0.3
"""Spread of a method's own part of it, for clusters and for queries each."""

EACH_RUN = 0.3
"""Spread of what differs between two runs of a method on one query."""


@dataclass(frozen=True)
class Regime:
    """seed_sd: in fractions (0.01 is a point). gain: of the first method that trains."""

    seeds: int
    queries: int
    seed_sd: float
    gain: float = 0.0
    methods: int = METHODS


REGIMES = tuple(
    Regime(seeds, queries, sd)
    for seeds in (3, 5)
    for queries in (1000, 4000)
    for sd in (0.0, 0.005, 0.01)
)

COLUMNS = ("seeds", "queries", "seed_sd", "trained", "free", "family")
"""Of `simulate`: coverage between methods that train, against a training-free one, and how often
a study has any significant difference."""


def study(regime: Regime, generator: np.random.Generator) -> pd.DataFrame:
    """The comparisons of one simulated study, as `compare.finished`, with `free` and `p_holm`.

    Where the regime has a gain, it is that of the method m1.
    """
    layout = _layout(regime.queries, generator)
    runs: dict[str, Run] = {}
    sides = []
    common = _rough(layout, DIFFICULTY, generator)
    spread = float(np.sqrt(sum(np.square(DIFFICULTY)) + 2 * OWN**2 + EACH_RUN**2))
    # A small shift of the threshold moves the share of right ones by the density there.
    point = spread / norm.pdf(0.0)
    for method in range(regime.methods):
        trains = method > 0
        mine = common + _rough(layout, (OWN, OWN), generator)
        mine += regime.gain * point * (method == 1)
        for seed in range(regime.seeds if trains else 1):
            shift = generator.normal(0.0, regime.seed_sd) * point * trains
            noise = generator.normal(0.0, EACH_RUN, regime.queries)
            runs[f"m{method}-{seed}"] = run_of(layout, (mine + shift + noise > 0).astype(float))
        sides.append(_side(f"m{method}", trains, runs))
    column = Column(sides)
    pairs = list(combinations(sides, 2))
    found = finished([compared(a, b, lambda key, _: runs[key], column) for a, b in pairs])
    found["first"], found["second"] = zip(*((a.label, b.label) for a, b in pairs), strict=True)
    found["free"] = [not a.trains for a, _ in pairs]
    found["p_holm"] = holm(found["p"].tolist())
    return found


def simulate(regime: Regime, runs: int, seed: int) -> dict[str, float]:
    """`COLUMNS` of `runs` simulated studies of equal methods, as shares."""
    generator = np.random.default_rng([seed, regime.seeds, regime.queries, _milli(regime)])
    found = [study(regime, generator) for _ in range(runs)]
    rows = pd.concat(found)
    covered = (rows["low"] <= 0.0) & (rows["high"] >= 0.0)
    return {
        "seeds": regime.seeds,
        "queries": regime.queries,
        "seed_sd": regime.seed_sd,
        "trained": float(covered[~rows["free"]].mean()),
        "free": float(covered[rows["free"]].mean()),
        "family": float(np.mean([(table["p_holm"] < 1 - LEVEL).any() for table in found])),
    }


def seed_coverage(seeds: int, runs: int, seed: int) -> float:
    """Share of Student-t intervals over normal seeds that hold the true mean."""
    samples = np.random.default_rng([seed, seeds]).normal(0.4, 0.01, size=(runs, seeds))
    covered = 0
    for sample in samples.tolist():
        mean, half = student_t_interval(sample)
        covered += half is not None and abs(mean - 0.4) <= half
    return covered / runs


def report(runs: int, seed: int) -> Iterator[str]:
    """The lines that the command prints."""
    yield "Student-t interval of a method's mean over seeds (normal seeds):"
    for seeds in (3, 5):
        share = seed_coverage(seeds, 20 * runs, seed)
        yield f"  {seeds} seeds: covers {100 * share:.1f} % of {20 * runs:,}"
    yield ""
    yield f"Paired comparisons in {runs:,} studies of {METHODS} equal methods each:"
    yield "seeds  queries  SD of seeds  coverage, trained  vs training-free  family-wise error"
    rows = []
    for regime in REGIMES:
        row = simulate(regime, runs, seed)
        rows.append(row)
        yield (
            f"{row['seeds']:5}  {row['queries']:7,}  {100 * row['seed_sd']:5.1f} points"
            f"  {100 * row['trained']:15.1f} %  {100 * row['free']:14.1f} %"
            f"  {100 * row['family']:15.1f} %"
        )
    means = pd.DataFrame(rows, columns=list(COLUMNS)).mean()
    yield (
        f"all                         {100 * means['trained']:15.1f} %"
        f"  {100 * means['free']:14.1f} %  {100 * means['family']:15.1f} %"
    )


def _layout(queries: int, generator: np.random.Generator) -> Layout:
    """One part, in clusters of 1 query or more, 2.5 on average."""
    sizes = generator.geometric(0.4, size=queries)
    cluster = np.repeat(np.arange(queries), sizes)[:queries]
    part = np.zeros(queries, dtype=np.int64)
    return Layout(pd.DataFrame(), part, np.array([queries]), cluster, int(cluster[-1]) + 1)


def _rough(layout: Layout, spread: tuple[float, float], generator: np.random.Generator) -> Floats:
    of_clusters = generator.normal(0.0, spread[0], layout.clusters)[layout.cluster]
    return np.asarray(of_clusters + generator.normal(0.0, spread[1], len(layout.cluster)))


def _side(label: str, trains: bool, runs: dict[str, Run]) -> Side:
    keys = {(-1, int(key.split("-")[1])): key for key in runs if key.startswith(f"{label}-")}
    values = {seed: runs[key].score("mean of queries") for seed, key in keys.items()}
    others = {key: {"accuracy": values[seed]} for seed, key in keys.items()}
    return Side(label, trains, "accuracy", keys, values, others)


def _milli(regime: Regime) -> int:
    return round(100_000 * regime.seed_sd)


def main() -> None:
    """Print coverage and family-wise error; the same options print the same numbers."""
    parser = argparse.ArgumentParser(description="Coverage and family-wise error, simulated.")
    parser.add_argument("--runs", type=int, default=400, help="studies for each regime")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for line in report(options.runs, options.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
