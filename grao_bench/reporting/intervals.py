"""How sure a score is: over seeds where there are several, over prompts (and labelled so) where there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000

Kind = Literal["seeds", "prompts only", "point"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval.

    kind "seeds": a t interval on n seed means, sd their sample standard deviation. kind "prompts only": one seed, a percentile
    bootstrap over n prompts, sd the standard error of the mean; it says nothing of how training would vary with the seed.
    kind "point": one number with no interval (low, high and sd are nan).
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    kind: Kind


def over_seeds(means: Sequence[float], level: float = LEVEL) -> Interval:
    """mean +- t * sd / sqrt(n) over one mean per seed. A single seed gives a "point"."""
    values = np.asarray(means, dtype=float)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1, "point")
    sd = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, df=len(values) - 1)) * sd / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, sd, len(values), "seeds")


def from_error(mean: float, error: float, n: int, level: float = LEVEL) -> Interval:
    """mean +- z * error, from a standard error over n prompts that was recorded instead of the values; kind "prompts only"."""
    half = float(stats.norm.ppf(0.5 + level / 2)) * error
    return Interval(mean, mean - half, mean + half, error, n, "prompts only")


def over_prompts(frame: pd.DataFrame, rng: np.random.Generator, level: float = LEVEL, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """A percentile bootstrap over the rows (prompts) of each column, all columns resampled together."""
    columns = frame.to_numpy(dtype=float).T
    means = columns.mean(axis=1)
    if len(frame) < 2:
        return {str(name): over_seeds([mean]) for name, mean in zip(frame.columns, means, strict=True)}
    found = stats.bootstrap(
        (columns,), np.mean, axis=-1, n_resamples=resamples, batch=200, confidence_level=level, method="percentile", rng=rng
    )
    low, high = found.confidence_interval
    return {
        str(name): Interval(float(means[i]), float(low[i]), float(high[i]), float(found.standard_error[i]), len(frame), "prompts only")
        for i, name in enumerate(frame.columns)
    }


def intervals(frames: Sequence[pd.DataFrame], seed: int = 0) -> dict[str, Interval]:
    """The interval of every score from one `per_prompt` frame per seed; columns that are not in all frames are left out.

    `seed` drives the bootstrap of the one-seed case: the same records give the same interval.
    """
    if len(frames) == 1:
        return over_prompts(frames[0], np.random.default_rng(seed))
    shared = [name for name in frames[0].columns if all(name in frame.columns for frame in frames)]
    return {str(name): over_seeds([float(frame[name].mean()) for frame in frames]) for name in shared}
