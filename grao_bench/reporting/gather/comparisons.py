"""Is a difference real, and is "no difference" shown? Objectives are compared over seeds and
prompts; two given checkpoints, prompt by prompt, which is another question.

docs/statistics.md has the formulas, the words and their sources in one place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, stats

from grao_bench.core.errors import UserError
from grao_bench.core.records import EvalRecord, first_answers, no_references
from grao_bench.reporting.gather.intervals import LEVEL, cluster_codes, crossed_error

POWER = 0.8
MARGIN = 3.0
"""Points of RAS: differences within them are called level (`Difference.level_p`)."""
LIMITS = (0.05, 0.01, 0.001)
"""One star for each of these that the adjusted p lies under."""

Errors = tuple[tuple[float, float], ...]
Verdict = Literal["ahead", "behind", "level", "not shown to differ", "not tested"]


@dataclass(frozen=True, slots=True)
class Difference:
    """first - second over the seeds that both have, paired.

    mean, sd of the paired seed differences; low, high: their 95% t interval, over seeds alone.
    errors: standard errors of the mean, each with its degrees of freedom; every one is tested and
    the widest counts, so that what is shown holds by each of them. `paired` has one, over seeds
    alone; `crossed_pair` has that over seeds and prompts too. Empty where there is no test: fewer
    than two common seeds, or differences that are all the same. tests: how many the family has
    (`adjust`). better: the share of pairs of seeds in which first scores higher, with its interval
    (`improved`).
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    sd: float
    seeds: int
    errors: Errors = ()
    tests: int = 1
    better: tuple[float, float, float] = (math.nan, math.nan, math.nan)

    @property
    def tested(self) -> bool:
        """Whether there is a test."""
        return bool(self.errors)

    @property
    def p(self) -> float:
        """Two-sided p of the t test of no difference: the largest, where there are two."""
        found = [2.0 * float(stats.t.sf(abs(self.mean) / error, df)) for error, df in self.errors]
        return max(found, default=math.nan)

    @property
    def p_adjusted(self) -> float:
        """p by Bonferroni: times the family's tests, 1 at most."""
        return min(1.0, self.tests * self.p) if self.tested else math.nan

    @property
    def level(self) -> float:
        """Of each interval, so that all of the family hold together in 95% (Dunn 1961)."""
        return 1.0 - (1.0 - LEVEL) / self.tests

    @property
    def adjusted(self) -> tuple[float, float]:
        """The simultaneous interval; it leaves 0 out where p_adjusted < 0.05, and nowhere else."""
        halves = [float(stats.t.ppf(0.5 + self.level / 2, df)) * error for error, df in self.errors]
        half = max(halves, default=math.nan)
        return self.mean - half, self.mean + half

    def level_p(self, margin: float = MARGIN) -> float:
        """p of "the true difference is within +- margin": the larger of the two one-sided tests
        (TOST, Schuirmann 1987), times the family's tests."""
        if not self.tested:
            return math.nan
        inside = margin - abs(self.mean)
        return min(
            1.0, self.tests * max(float(stats.t.sf(inside / e, df)) for e, df in self.errors)
        )

    def verdict(self, margin: float = MARGIN) -> Verdict:
        """The one word for this difference, said of `first`."""
        if not self.tested:
            return "not tested"
        if self.p_adjusted < LIMITS[0]:
            return "ahead" if self.mean > 0 else "behind"
        return "level" if self.level_p(margin) < LIMITS[0] else "not shown to differ"

    @property
    def stars(self) -> str:
        """ "*", "**" or "***" for an adjusted p under 0.05, 0.01, 0.001."""
        return "*" * sum(self.p_adjusted < limit for limit in LIMITS)


def paired(
    first: str, second: str, ours: Mapping[int, float], theirs: Mapping[int, float]
) -> Difference | None:
    """The t test paired over seeds alone, from a score per seed; None when no seed is shared."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    a, b = np.array([ours[seed] for seed in seeds]), np.array([theirs[seed] for seed in seeds])
    mean, n, nan = float((a - b).mean()), len(seeds), math.nan
    better = improved(list(ours.values()), list(theirs.values()))
    if n == 1:
        return Difference(first, second, mean, nan, nan, nan, 1, better=better)
    sd = float((a - b).std(ddof=1))
    if sd <= 1e-9 * max(1.0, float(np.abs(a).max()), float(np.abs(b).max())):
        return Difference(first, second, mean, mean, mean, 0.0, n, better=better)
    error = sd / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error
    return Difference(
        first, second, mean, mean - half, mean + half, sd, n, ((error, n - 1.0),), better=better
    )


def crossed_pair(
    first: str, second: str, ours: Mapping[int, pd.Series], theirs: Mapping[int, pd.Series]
) -> Difference | None:
    """The t tests over seeds and prompts, and over seeds alone, paired by both: a score per prompt
    for each seed. Both, as a few seeds can lie close together by chance (docs/statistics.md).

    The Series' index: see `intervals.cluster_codes`. With one seed, one cluster or no common prompt
    there is no test. None when no seed is shared.
    """
    means = ({seed: float(one.mean()) for seed, one in each.items()} for each in (ours, theirs))
    found = paired(first, second, *means)
    seeds = sorted(ours.keys() & theirs.keys())
    if found is None or len(seeds) < 2:
        return found
    gaps = [(ours[seed] - theirs[seed]).dropna() for seed in seeds]
    index = gaps[0].index
    for gap in gaps[1:]:
        index = index.intersection(gap.index, sort=False)
    codes = cluster_codes(gaps[0].loc[index])
    if len(np.unique(codes)) < 2:
        return replace(found, errors=())
    spread = crossed_error(np.stack([gap.loc[index].to_numpy(dtype=float) for gap in gaps]), codes)
    if spread.error < 1e-9:
        return replace(found, errors=())
    return replace(found, errors=(*found.errors, (spread.error, spread.df)))


def improved(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The probability of improvement (Agarwal et al. 2021, Eq. 2, on one set) and its 95% limits.

    P = mean over pairs of seeds of 1[a > b] + 1[a = b] / 2, Mann and Whitney's U / (m n). The
    limits are Newcombe's score interval (2006, method 5) and not the bootstrap over seeds, which
    has no width where every seed of one lies above every seed of the other. nan below two seeds.
    """
    if min(len(ours), len(theirs)) < 2:
        return math.nan, math.nan, math.nan
    m, n = len(ours), len(theirs)
    found = float(stats.mannwhitneyu(ours, theirs).statistic) / (m * n)
    z, other = float(stats.norm.ppf(0.5 + LEVEL / 2)), (m + n) / 2 - 1

    def outside(p: float) -> float:
        spread = p * (1 - p) * (1 + other * ((1 - p) / (2 - p) + p / (1 + p))) / (m * n)
        return abs(p - found) - z * math.sqrt(spread)

    near = 1e-9  # at 0 and 1 the spread is 0 too
    low = float(optimize.brentq(outside, 0.0, found - near)) if found > 0 else 0.0
    high = float(optimize.brentq(outside, found + near, 1.0)) if found < 1 else 1.0
    return found, low, high


def adjust(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences as one family: Bonferroni over those that have a test."""
    tests = max(1, sum(one.tested for one in differences))
    return [replace(one, tests=tests) for one in differences]


def between(differences: Sequence[Difference], one: str, other: str) -> Difference | None:
    """The difference of this pair as one - other, whichever way round it was tested."""
    for found in differences:
        if (found.first, found.second) == (one, other):
            return found
        if (found.first, found.second) == (other, one):
            p, low, high = found.better
            return replace(
                found,
                first=one,
                second=other,
                mean=-found.mean,
                low=-found.high,
                high=-found.low,
                better=(1 - p, 1 - high, 1 - low),
            )
    return None


def pooled(errors: Sequence[Errors]) -> Errors:
    """Of several differences' errors the root mean square, each with the fewest degrees of freedom;
    () for none."""
    kinds = zip(*(one for one in errors if one), strict=False)
    return tuple(
        (math.sqrt(sum(error**2 for error, _ in kind) / len(kind)), min(df for _, df in kind))
        for kind in kinds
    )


def power(effect: float, errors: Errors, level: float = LEVEL) -> float:
    """How often the t tests, two-sided at 1 - level, find a true difference of `effect`, by the
    test with the least power; nan where there is none. errors: see `Difference`, in the effect's
    unit."""
    return min((_power(effect / error, df, level) for error, df in errors), default=math.nan)


def detectable(errors: Errors, level: float = LEVEL, wanted: float = POWER) -> float:
    """The smallest true difference that the t tests, two-sided at 1 - level, find with this power,
    in the errors' unit; nan where there is none."""
    found = []
    for error, df in errors:
        most = 10.0 + 4.0 * float(stats.t.ppf(0.5 + level / 2, df))

        def missing(shift: float, df: float = df) -> float:
            return _power(shift, df, level) - wanted

        found.append(error * float(optimize.brentq(missing, 0.0, most)))
    return max(found, default=math.nan)


def _power(shift: float, df: float, level: float) -> float:
    critical = float(stats.t.ppf(0.5 + level / 2, df))
    # the other tail: scipy has nan for some of the cases where it is below 1e-15
    other = np.nan_to_num(stats.nct.cdf(-critical, df, shift))
    return float(stats.nct.sf(critical, df, shift) + other)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two checkpoints on the same prompts: how many only the first won, only the second, both,
    neither; the exact two-sided p.

    It speaks of these two checkpoints, over prompts; nothing of what another seed of either
    objective would do.
    """

    only_first: int
    only_second: int
    both: int
    neither: int
    p: float


def mcnemar(first: Sequence[EvalRecord], second: Sequence[EvalRecord]) -> McNemar:
    """McNemar's exact test on "the answer beats the reference" (R > 0; a tie is none).

    Of several answers to a prompt the first alone counts: the test is of one yes or no per prompt.
    UserError when the prompts differ.
    """
    first, second = first_answers(first), first_answers(second)
    if no_references(first) or no_references(second):
        raise UserError(f"{no_references(first) or no_references(second)}, nor McNemar's test")
    lost = {record.example_id for record in [*first, *second] if record.excluded}
    ours, theirs = (
        {
            record.example_id: record.verdict > 0
            for record in records
            if record.verdict is not None and record.example_id not in lost
        }
        for records in (first, second)
    )
    if ours.keys() != theirs.keys():
        strangers = sorted(ours.keys() ^ theirs.keys())
        raise UserError(
            f"{len(strangers)} prompts (such as {strangers[0]!r}) were answered by one of the two"
            " only; evaluate both on one set"
        )
    table = np.zeros((2, 2), dtype=int)
    for key, won in ours.items():
        table[int(not won), int(not theirs[key])] += 1
    only_first, only_second = int(table[0, 1]), int(table[1, 0])
    differing = only_first + only_second
    p = float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, int(table[0, 0]), int(table[1, 1]), p)
