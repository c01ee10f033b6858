"""Intervals by hand, against scipy, and against the binomial standard error."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from grao_bench.reporting.intervals import intervals, over_prompts, over_seeds


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
