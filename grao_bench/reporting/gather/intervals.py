"""How sure a score is: over seeds, over prompts, over both at once, each labelled for what it is.

docs/statistics.md has the formulas and their sources in one place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

LEVEL = 0.95
RESAMPLES = 2000
MIN_SEEDS = 5
"""Fewer seeds than this stand in no sentence: a t interval over 3 that fall into two groups covers
76%, not 95 (tests/reporting/test_intervals.py)."""

GAP = 2.5
LEAST_GAP = 3.0
"""Points: see `two_groups`."""

PERCENT = (0.0, 100.0)
BOUNDS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("ras", "ras_lc", "win", "tie", "loss", "correct", "truncated"), PERCENT),
    **dict.fromkeys(("nag_win", "distinct_1", "distinct_2", "repetition"), PERCENT),
    "nag_mean": (-200.0, 200.0),
    "nag_net": (-100.0, 100.0),
}
"""The scores that can't leave a range, with it: nor does their interval (`limits`)."""

Kind = Literal["seeds", "prompts only", "seeds and prompts", "point"]
Bounds = tuple[float, float] | None
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval.

    kind "seeds": a t interval on n seed means, sd their sample standard deviation; it says how
    training varies with the seed, for the base and the prompts that were used. "prompts only": one
    seed, n prompts, sd the standard error of the mean; it says nothing of how training would vary
    with the seed. "seeds and prompts": n seeds, each on the same prompts, sd the standard error of
    the mean over other seeds and other prompts of the kind, for the base that was used. "point":
    one number with no interval (low, high and sd are nan).

    clusters: of prompts, where prompts vary (0 elsewhere). design: the design effect (Kish 1965),
    the variance of the mean over clusters of prompts as a multiple of that over as many prompts
    drawn singly; nan where not known.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    kind: Kind
    clusters: int = 0
    design: float = math.nan


def limits(
    mean: float,
    error: float,
    df: float,
    bounds: Bounds = None,
    units: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """mean +- t error; of a score with bounds, the same on the logit scale, which can't leave them.

    There p = (mean - low) / (high - low), and the interval is logit p +- t error / (p (1 - p)), put
    back (the delta method; survey::svyciprop's and Stata's "logit"). At a bound itself, where no
    error can be seen, it is Clopper and Pearson's for `units` independent units, where there are
    some: 0 of m has the upper limit 1 - (0.025)^(1 / m).
    """
    t = float(stats.t.ppf(0.5 + level / 2, df))
    if bounds is None:
        return mean - t * error, mean + t * error
    low, width = bounds[0], bounds[1] - bounds[0]
    p = (mean - low) / width
    if not 0.0 < p < 1.0:
        far = 1.0 - (0.5 - level / 2) ** (1.0 / units) if units else 0.0
        return (low, low + width * far) if p <= 0.0 else (low + width * (1.0 - far), low + width)
    half = t * error / width / (p * (1.0 - p))
    ends = special.expit(special.logit(p) + np.array([-half, half]))
    return low + width * float(ends[0]), low + width * float(ends[1])


def over_seeds(means: Sequence[float], bounds: Bounds = None, level: float = LEVEL) -> Interval:
    """The t interval over one mean per seed, error sd / sqrt(n). A single seed gives a "point"."""
    values = np.asarray(means, dtype=float)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1, "point")
    sd = float(values.std(ddof=1))
    low, high = limits(mean, sd / math.sqrt(len(values)), len(values) - 1.0, bounds, level=level)
    return Interval(mean, low, high, sd, len(values), "seeds")


def from_error(mean: float, error: float, n: int, level: float = LEVEL) -> Interval:
    """mean +- z * error, from a standard error over n prompts that was recorded instead of the
    values; kind "prompts only"."""
    low, high = limits(mean, error, math.inf, level=level)
    return Interval(mean, low, high, error, n, "prompts only")


def over_prompts(
    frame: pd.DataFrame, rng: np.random.Generator, level: float = LEVEL, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """A cluster bootstrap over the rows (prompts) of each column, all columns resampled together.

    frame: see `cluster_codes`. Whole clusters are drawn with replacement, as many as there are; the
    error is the standard deviation of the resampled means, each over the prompts it holds, and the
    interval has one degree of freedom less than clusters (`limits`).
    """
    values = frame.to_numpy(dtype=float)
    codes = cluster_codes(frame)
    clusters = int(codes.max()) + 1
    means = values.mean(axis=0)
    if clusters < 2:
        return {str(name): over_seeds([one]) for name, one in zip(frame, means, strict=True)}
    drawn = rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=resamples)
    sums = drawn @ _by_cluster(values - means, codes)
    errors = (sums / (drawn @ np.bincount(codes))[:, None]).std(axis=0, ddof=1)
    found = {}
    for i, (name, mean) in enumerate(zip(frame, means, strict=True)):
        error, bounds = float(errors[i]), BOUNDS.get(str(name))
        low, high = limits(float(mean), error, clusters - 1.0, bounds, clusters, level)
        design = _design_effect(values[:, i], codes)
        kind: Kind = "prompts only"
        told = (error, len(frame), kind, clusters, design)
        found[str(name)] = Interval(float(mean), low, high, *told)
    return found


def intervals(frames: Sequence[pd.DataFrame], seed: int = 0) -> dict[str, Interval]:
    """The interval of every score from one `per_prompt` frame per seed; columns that are not in all
    frames are left out.

    `seed` drives the bootstrap of the one-seed case: the same records give the same interval.
    """
    if len(frames) == 1:
        return over_prompts(frames[0], np.random.default_rng(seed))
    names = [str(name) for name in frames[0] if all(name in frame for frame in frames)]
    means = {name: [float(frame[name].mean()) for frame in frames] for name in names}
    return {name: over_seeds(means[name], BOUNDS.get(name)) for name in names}


@dataclass(frozen=True, slots=True)
class Spread:
    """What `crossed_error` finds: the standard error of the mean over seeds and prompts, its
    degrees of freedom, the number of clusters of prompts, and their design effect."""

    error: float
    df: float
    clusters: int
    design: float


def crossed_error(values: Floats, codes: NDArray[np.intp]) -> Spread:
    """The standard error of the mean of values [seeds, prompts], both drawn at random and crossed.

    codes: each prompt's cluster, 0 .. C - 1. The mean's variance is V_s + V_c - V_sc: that of the
    seeds' means, of the clusters' means, less that of what is left, which both contain (the
    two-way random-effects mean: Clark 1973's F' in the form of an interval; with clusters of
    unequal size, Cameron, Gelbach and Miller 2011). It is never taken to be less than either alone.
    Degrees of freedom by Satterthwaite (1946), not below the smaller of S - 1 and C - 1. Raises
    ValueError below two seeds or two clusters.
    """
    seeds, prompts = values.shape
    clusters = int(codes.max()) + 1
    if seeds < 2 or clusters < 2:
        raise ValueError(f"{seeds} seeds and {clusters} clusters: an error takes two of each")
    centred = values - values.mean()
    cells = _by_cluster(centred.T, codes).T / prompts  # [S, C]: summed, the seed's deviation
    by_seed, by_cluster = cells.sum(axis=1), cells.mean(axis=0)
    rest = cells - by_cluster - np.outer(by_seed, np.bincount(codes) / prompts)
    over_s, over_c = seeds * (seeds - 1), clusters / (clusters - 1)
    v_s, v_c = float((by_seed**2).sum()) / over_s, over_c * float((by_cluster**2).sum())
    v_sc = over_c * float((rest**2).sum()) / over_s
    total = max(v_s + v_c - v_sc, v_s, v_c)
    parts = ((v_s, seeds - 1), (v_c, clusters - 1), (v_sc, (seeds - 1) * (clusters - 1)))
    below = sum(variance**2 / df for variance, df in parts)
    least = min(seeds, clusters) - 1.0
    df = max(total**2 / below, least) if below > 0.0 else least
    return Spread(math.sqrt(total), df, clusters, _design_effect(values.mean(axis=0), codes))


def crossed(frames: Sequence[pd.DataFrame]) -> dict[str, Interval]:
    """The interval of every score over seeds and prompts; {} where there are not two of each.

    It is never narrower than the one over seeds alone: two or three seeds that lie close together
    by chance would make it so, and it would cover 89% to 92% where seeds are what varies.
    frames: as in `intervals`. Prompts that a seed lacks are left out of the error, not of the mean.
    """
    if len(frames) < 2:
        return {}
    index = frames[0].index
    for frame in frames[1:]:
        index = index.intersection(frame.index, sort=False)
    shared = [frame.loc[index] for frame in frames]
    codes = cluster_codes(shared[0])
    if len(np.unique(codes)) < 2:
        return {}
    found = {}
    for name in (str(one) for one in frames[0] if all(one in frame for frame in frames)):
        spread = crossed_error(
            np.stack([frame[name].to_numpy(dtype=float) for frame in shared]), codes
        )
        mean = float(np.mean([frame[name].mean() for frame in frames]))
        bounds, units = BOUNDS.get(name), spread.clusters
        low, high = limits(mean, spread.error, spread.df, bounds, units)
        alone = over_seeds([float(frame[name].mean()) for frame in frames], bounds)
        low, high = min(low, alone.low), max(high, alone.high)
        kind: Kind = "seeds and prompts"
        told = (spread.error, len(frames), kind, spread.clusters, spread.design)
        found[name] = Interval(mean, low, high, *told)
    return found


def two_groups(means: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """The seeds' means as a lower and an upper group where they fall into two, else None.

    Rule: the widest gap between neighbours that leaves two seeds on either side is over GAP times
    as wide as the wider group, and over LEAST_GAP points. Of 5 seeds from one normal distribution
    it splits 5%, of 10 under 1%; below 4 seeds nothing can be said.
    """
    ordered = sorted(means)
    cuts = range(2, len(ordered) - 1)
    if not cuts:
        return None
    cut = max(cuts, key=lambda i: ordered[i] - ordered[i - 1])
    lower, upper = ordered[:cut], ordered[cut:]
    gap, width = upper[0] - lower[-1], max(lower[-1] - lower[0], upper[-1] - upper[0])
    return (lower, upper) if gap > max(GAP * width, LEAST_GAP) else None


def cluster_codes(frame: pd.DataFrame | pd.Series) -> NDArray[np.intp]:
    """The number of each row's cluster, from the index level "cluster"; without one, each row is a
    cluster of its own."""
    if "cluster" not in frame.index.names:
        return np.arange(len(frame), dtype=np.intp)
    return pd.factorize(frame.index.get_level_values("cluster"))[0]


def _by_cluster(values: Floats, codes: NDArray[np.intp]) -> Floats:
    """Sums of rows [prompts, columns] per cluster: [clusters, columns]."""
    sums = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def _design_effect(values: Floats, codes: NDArray[np.intp]) -> float:
    """The linearised variance of the mean over clusters over that of prompts drawn singly."""
    clusters, prompts = int(codes.max()) + 1, len(values)
    centred = values - values.mean()
    singly = float((centred**2).sum()) * prompts / (prompts - 1)
    sums = np.bincount(codes, weights=centred)
    return float((sums**2).sum()) * clusters / (clusters - 1) / singly if singly else math.nan
