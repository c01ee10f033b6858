"""Is a difference real? Objectives are compared seed by seed; two given checkpoints, prompt by prompt, which is another question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import optimize, stats

from grao_bench.errors import UserError
from grao_bench.records import EvalRecord, no_references
from grao_bench.reporting.intervals import LEVEL

POWER = 0.8
LIMITS = (0.05, 0.01, 0.001)
"""One star for each of these that the adjusted p lies under."""


@dataclass(frozen=True, slots=True)
class Difference:
    """first - second over the seeds that both have: mean, 95% t interval, sd of the paired differences, two-sided p.

    `p_holm` is p adjusted by Holm over the family that it was tested in (p itself outside one). nan where there is no test: fewer
    than two common seeds, or differences that are all the same, of which a t test can say nothing.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    sd: float
    seeds: int
    p: float
    p_holm: float

    @property
    def stars(self) -> str:
        """ "*", "**" or "***" for an adjusted p under 0.05, 0.01, 0.001."""
        return "*" * sum(self.p_holm < limit for limit in LIMITS)


def paired(first: str, second: str, ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The seed-paired t test of two objectives, from a score per seed; None when they share no seed."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    a, b = np.array([ours[seed] for seed in seeds]), np.array([theirs[seed] for seed in seeds])
    mean, nan = float((a - b).mean()), math.nan
    if len(seeds) == 1:
        return Difference(first, second, mean, nan, nan, nan, 1, nan, nan)
    sd = float((a - b).std(ddof=1))
    if sd <= 1e-9 * max(1.0, float(np.abs(a).max()), float(np.abs(b).max())):
        return Difference(first, second, mean, mean, mean, 0.0, len(seeds), nan, nan)
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(LEVEL)
    return Difference(first, second, mean, float(low), float(high), sd, len(seeds), float(test.pvalue), float(test.pvalue))


def all_pairs(values: Mapping[str, Mapping[int, float]]) -> list[Difference]:
    """Every pair of objectives (name -> score per seed), one Holm family: adjusted over all the tests that could be made."""
    found = [paired(a, b, values[a], values[b]) for a, b in combinations(values, 2)]
    return holm([one for one in found if one is not None])


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with p adjusted by Holm (1979) over those that have one: sorted, times m, m - 1, ...; never falling."""
    ranked = sorted((i for i, one in enumerate(differences) if not math.isnan(one.p)), key=lambda i: differences[i].p)
    adjusted, largest = list(differences), 0.0
    for rank, i in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * differences[i].p))
        adjusted[i] = replace(differences[i], p_holm=largest)
    return adjusted


def between(differences: Sequence[Difference], one: str, other: str) -> Difference | None:
    """The difference of this pair as one - other, whichever way round it was tested."""
    for found in differences:
        if (found.first, found.second) == (one, other):
            return found
        if (found.first, found.second) == (other, one):
            return replace(found, first=one, second=other, mean=-found.mean, low=-found.high, high=-found.low)
    return None


def pooled_sd(differences: Sequence[Difference]) -> float:
    """The root mean square of the paired differences' sd; nan when none was tested."""
    squares = [one.sd**2 for one in differences if not math.isnan(one.p)]
    return math.sqrt(sum(squares) / len(squares)) if squares else math.nan


def detectable(sd: float, seeds: int, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest true difference that a t test paired over `seeds` finds with this power, two-sided at 1 - level, before any Holm.

    sd: that of the paired seed differences, in the score's unit, which is the answer's too. nan below two seeds.
    """
    if seeds < 2 or math.isnan(sd):
        return math.nan
    df = seeds - 1
    critical = float(stats.t.ppf(0.5 + level / 2, df))

    def missing(effect: float) -> float:
        shift = effect * math.sqrt(seeds)  # noncentrality of t when the mean is `effect` sd
        # the other tail: scipy has nan for some of the cases where it is below 1e-15
        return float(stats.nct.sf(critical, df, shift) + np.nan_to_num(stats.nct.cdf(-critical, df, shift))) - power

    return sd * float(optimize.brentq(missing, 0.0, 100.0))


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two checkpoints on the same prompts: how many only the first won, only the second, both, neither; the exact two-sided p.

    It speaks of these two checkpoints, over prompts; nothing of what another seed of either objective would do.
    """

    only_first: int
    only_second: int
    both: int
    neither: int
    p: float


def mcnemar(first: Sequence[EvalRecord], second: Sequence[EvalRecord]) -> McNemar:
    """McNemar's exact test on "the answer beats the reference" (R > 0; a tie is none). UserError when the prompts differ."""
    if no_references(first) or no_references(second):
        raise UserError(f"{no_references(first) or no_references(second)}, nor McNemar's test")
    lost = {record.example_id for record in [*first, *second] if record.excluded}
    ours, theirs = (
        {record.example_id: record.verdict > 0 for record in records if record.verdict is not None and record.example_id not in lost}
        for records in (first, second)
    )
    if ours.keys() != theirs.keys():
        strangers = sorted(ours.keys() ^ theirs.keys())
        raise UserError(
            f"{len(strangers)} prompts (such as {strangers[0]!r}) were answered by one of the two only; evaluate both on one set"
        )
    table = np.zeros((2, 2), dtype=int)
    for key, won in ours.items():
        table[int(not won), int(not theirs[key])] += 1
    only_first, only_second = int(table[0, 1]), int(table[1, 0])
    differing = only_first + only_second
    p = float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, int(table[0, 0]), int(table[1, 1]), p)
