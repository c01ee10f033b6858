"""Differences between two methods, and their tests."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special, stats

from .numbers import Expected, Numbers, key_of
from .scores import crossed, limits


def differences(numbers: Numbers, row: dict, name: str) -> Expected:
    """Paired by seed and prompt; the family is the lines of one model and score."""
    score, key = row["score"], key_of(name)
    sides = []
    for label in (row["first"], row["second"]):
        runs = numbers.folder.labelled(key, row["model"], label)
        frames = numbers.frames(runs, key)
        sides.append({run.seed: one[score] for run, one in zip(runs, frames, strict=True)})
    seeds = sorted(sides[0].keys() & sides[1].keys())
    gaps = [(sides[0][seed] - sides[1][seed]).rename(score) for seed in seeds]
    # of each side's own mean: a prompt that one of the two lacks is in its mean alone
    means = np.array([sides[0][seed].mean() - sides[1][seed].mean() for seed in seeds])
    found: Expected = {"mean": means.mean(), "seeds": len(seeds)}
    if len(seeds) < 2:
        return found
    sd = float(means.std(ddof=1))
    ends = limits(found["mean"], sd / math.sqrt(len(seeds)), len(seeds) - 1)
    found |= {"sd": sd, "low": ends[0], "high": ends[1]}
    told = crossed(score, [gap.to_frame() for gap in gaps])
    errors = [(sd / math.sqrt(len(seeds)), len(seeds) - 1), (told["error"], told["df"])]
    found |= tested(found["mean"], errors, int(row["tests"]), float(row["margin"]))
    for column, values in (("errors", [e for e, _ in errors]), ("df", [df for _, df in errors])):
        said = [float(one) for one in str(row[column]).split()]
        assert np.allclose(said, values, rtol=1e-3), (column, said, values)
    assert row["verdict"] == word(found, float(row["margin"])), row
    found |= improved(*([float(one.mean()) for one in side.values()] for side in sides))
    return found


def tested(mean: float, errors: list, tests: int, margin: float) -> Expected:
    """By each error, the widest counts; Bonferroni; two one-sided tests for the margin."""
    p = max(2 * stats.t.sf(abs(mean) / error, df) for error, df in errors)
    half = max(stats.t.isf(0.025 / tests, df) * error for error, df in errors)
    level = max(stats.t.sf((margin - abs(mean)) / error, df) for error, df in errors)
    return {
        "p": p,
        "p_adjusted": min(1, tests * p),
        "tests": tests,
        "margin": margin,
        "adjusted_low": mean - half,
        "adjusted_high": mean + half,
        "p_level": min(1, tests * level),
        "detectable": detectable(errors, tests),
    }


def power(difference: float, errors: list, tests: int) -> float:
    """Of the weakest of the t tests, two-sided at 5% over the number of tests."""
    found = []
    for error, df in errors:
        bar, shift = stats.t.isf(0.025 / tests, df), difference / error
        tails = special.nctdtr(df, shift, -bar), 1 - special.nctdtr(df, shift, bar)
        found.append(float(np.nan_to_num(tails).sum()))
    return min(found)


def detectable(errors: list, tests: int) -> float:
    """The difference that is found with power 80%."""
    most = max(error * (10 + 4 * stats.t.isf(0.025 / tests, df)) for error, df in errors)
    return float(optimize.brentq(lambda d: power(d, errors, tests) - 0.8, 0, most, xtol=1e-9))


def word(found: Expected, margin: float) -> str:
    if found["p_adjusted"] < 0.05:
        return "ahead" if found["mean"] > 0 else "behind"
    return "level" if found["p_level"] < 0.05 else "not shown to differ"


def improved(ours: list[float], theirs: list[float]) -> Expected:
    """P(first better) by counting pairs; Newcombe's limits (2006, method 5), where the distance to
    it is 1.96 of the standard errors that a limit itself implies."""
    p = float(np.mean([(a > b) + (a == b) / 2 for a in ours for b in theirs]))
    m, n = len(ours), len(theirs)
    other, z = (m + n) / 2 - 1, stats.norm.isf(0.025)

    def beyond(q):
        spread = q * (1 - q) * (1 + other * ((1 - q) / (2 - q) + q / (1 + q)))
        return (q - p) ** 2 - z**2 * spread / (m * n)

    near = 1e-9
    low = optimize.brentq(beyond, 0, min(p, 1 - near)) if p > 0 else 0.0
    high = optimize.brentq(beyond, max(p, near), 1) if p < 1 else 1.0
    return {"better": p, "better_low": low, "better_high": high}
