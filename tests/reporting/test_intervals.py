"""Intervals by hand, against scipy, and against the binomial standard error."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from grao_bench.reporting.intervals import from_error, intervals, over_prompts, over_seeds


def test_t_interval_of_three_seeds_by_hand():
    found = over_seeds([60.0, 62.0, 67.0])  # mean 63, deviations -3 -1 4, sd sqrt(26/2) = 3.6056; t(0.975, 2) = 4.3027
    assert found.mean == pytest.approx(63)
    assert found.sd == pytest.approx(math.sqrt(13))
    assert found.high - found.mean == pytest.approx(4.302653 * math.sqrt(13) / math.sqrt(3), abs=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert (found.n, found.kind) == (3, "seeds")


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_t_interval_is_scipys(n):
    values = np.random.default_rng(n).normal(50, 3, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    found = over_seeds(values.tolist())
    assert (found.low, found.high) == pytest.approx((low, high))


def test_equal_seeds_have_an_interval_of_no_width():
    found = over_seeds([40.0, 40.0, 40.0])
    assert (found.low, found.high, found.sd) == (40, 40, 0)


def test_bootstrap_is_deterministic_and_has_the_binomial_standard_error():
    frame = pd.DataFrame({"ras": 100.0 * (np.arange(1000) < 300)})
    found = over_prompts(frame, np.random.default_rng(0))["ras"]
    again = over_prompts(frame, np.random.default_rng(0))["ras"]
    other = over_prompts(frame, np.random.default_rng(1))["ras"]
    assert found == again
    assert found != other
    error = 100 * math.sqrt(0.3 * 0.7 / 1000)
    assert found.sd == pytest.approx(error, rel=0.06)
    assert (found.low, found.high) == pytest.approx((30 - 1.96 * error, 30 + 1.96 * error), abs=0.3)
    assert (found.mean, found.n, found.kind) == (30, 1000, "prompts only")


def test_one_seed_is_over_prompts_and_several_are_over_seeds():
    frames = [pd.DataFrame({"ras": [100.0] * k + [0.0] * (10 - k)}) for k in (4, 6)]
    assert intervals(frames[:1])["ras"].kind == "prompts only"
    both = intervals(frames)["ras"]
    assert (both.kind, both.mean, both.n) == ("seeds", 50, 2)


def test_a_score_that_one_seed_lacks_is_left_out():
    frames = [pd.DataFrame({"ras": [1.0, 2.0], "nag_mean": [1.0, 2.0]}), pd.DataFrame({"ras": [1.0, 2.0]})]
    assert set(intervals(frames)) == {"ras"}


def covered(intervals, truth):
    return np.mean([one.low < truth < one.high for one in intervals])


@pytest.mark.parametrize("seeds", [3, 5])
def test_t_intervals_cover_95_percent_of_2000_simulated_tables(seeds):
    """Each table: seeds whose true RAS vary around 60 (sd 3), each measured on 300 prompts."""
    random = np.random.default_rng(seeds)
    true = np.clip(random.normal(0.6, 0.03, (2000, seeds)), 0, 1)
    means = 100 * random.binomial(300, true) / 300
    assert 0.93 < covered([over_seeds(table.tolist()) for table in means], 60.0) < 0.97


def test_the_bootstrap_over_prompts_covers_the_runs_own_rate_and_not_the_objectives():
    """2,000 single-seed tables of 200 prompts: right about the run that was measured, wrong about another seed."""
    random = np.random.default_rng(0)
    true = random.normal(0.5, 0.06, 2000)
    wins = 100.0 * (random.random((200, 2000)) < true)
    found = []
    for start in range(0, 2000, 250):
        frame = pd.DataFrame(wins[:, start : start + 250])
        found += over_prompts(frame, np.random.default_rng(start), resamples=600).values()
    own = np.mean([one.low <= 100 * rate <= one.high for one, rate in zip(found, true, strict=True)])
    assert 0.93 < own < 0.97
    assert covered(found, 50.0) < 0.85


def test_interval_from_a_recorded_standard_error():
    found = from_error(2.0, 0.5, 128)
    assert (found.low, found.high) == pytest.approx((2 - 1.959964 * 0.5, 2 + 1.959964 * 0.5))
    assert (found.sd, found.n, found.kind) == (0.5, 128, "prompts only")
