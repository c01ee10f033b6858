"""Intervals by hand, against scipy, and against the binomial standard error."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from grao_bench.reporting.gather.intervals import (
    BOUNDS,
    crossed,
    crossed_error,
    from_error,
    intervals,
    limits,
    over_prompts,
    over_seeds,
    two_groups,
)


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
    frame = pd.DataFrame({"ras": 100.0 * (np.arange(1000) < 300)})  # each prompt a cluster of its own
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


def clustered(values, codes):
    """A frame of `per_prompt`: one column "ras", indexed by cluster and prompt."""
    index = pd.MultiIndex.from_arrays([codes, np.arange(len(codes))], names=["cluster", "example_id"])
    return pd.DataFrame({"ras": np.asarray(values, dtype=float)}, index=index)


def test_a_bounded_score_by_hand_and_never_outside():
    # p = 0.75, error 25 / sqrt(3) points; logit 0.75 = 1.0986, half = 4.3027 * 0.14434 / 0.1875 = 3.3123
    found = over_seeds([50.0, 75.0, 100.0], (0.0, 100.0))
    assert (found.low, found.high) == pytest.approx((9.86, 98.80), abs=0.01)
    random = np.random.default_rng(0)
    for seeds in (2, 3, 5):
        for _ in range(200):
            values = np.clip(random.normal(random.choice([1, 50, 99]), random.choice([0.5, 5, 40]), seeds), 0, 100).tolist()
            one = over_seeds(values, (0.0, 100.0))
            assert 0 <= one.low <= one.mean + 1e-9
            assert one.mean - 1e-9 <= one.high <= 100
    # in the middle, with a small error, it is the plain t interval
    assert limits(50.0, 0.5, 9.0, (0.0, 100.0)) == pytest.approx(limits(50.0, 0.5, 9.0), abs=0.01)
    assert {BOUNDS["ras"], BOUNDS["win"], BOUNDS["ras_lc"]} == {(0.0, 100.0)}


def test_at_a_bound_the_interval_is_clopper_and_pearsons_over_clusters():
    frame = clustered([0.0] * 20, np.repeat(np.arange(10), 2))
    found = over_prompts(frame, np.random.default_rng(0))["ras"]
    theirs = stats.binomtest(0, 10).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((0.0, 100 * theirs.high))
    full = over_prompts(100 - frame, np.random.default_rng(0))["ras"]
    assert (full.low, full.high) == pytest.approx((100 * (1 - theirs.high), 100.0))


def test_the_cluster_bootstrap_has_the_cluster_robust_error_of_statsmodels():
    random = np.random.default_rng(3)
    codes = np.repeat(np.arange(46), random.integers(5, 40, 46))
    values = 100.0 * (random.random(len(codes)) < np.clip(random.normal(0.4, 0.2, 46), 0, 1)[codes])
    found = over_prompts(clustered(values, codes), np.random.default_rng(0))["ras"]
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": codes})
    assert found.sd == pytest.approx(float(fit.bse[0]), rel=0.06)
    assert (found.clusters, found.n, found.kind) == (46, len(codes), "prompts only")
    singly = values.std(ddof=1) / math.sqrt(len(values))
    assert found.design == pytest.approx((float(fit.bse[0]) / singly) ** 2, rel=0.01)
    assert found.design > 2


def test_the_crossed_error_by_hand_and_as_an_analysis_of_variance():
    # seeds 2, 4 and clusters 2, 4, additive: V = 1 + 1 - 0, Satterthwaite's df 4 / (1 + 1)
    found = crossed_error(np.array([[1.0, 3.0], [3.0, 5.0]]), np.array([0, 1]))
    assert (found.error, found.df) == pytest.approx((math.sqrt(2), 2.0))
    y = np.random.default_rng(0).normal(0, 1, (4, 6)) + np.arange(4)[:, None] + np.arange(6)
    rows, columns = y.mean(1), y.mean(0)
    ms_rows, ms_columns = 6 * rows.var(ddof=1), 4 * columns.var(ddof=1)
    rest = y - rows[:, None] - columns + y.mean()
    ms_rest = (rest**2).sum() / (3 * 5)
    found = crossed_error(y, np.arange(6))
    assert found.error**2 == pytest.approx((ms_rows + ms_columns - ms_rest) / 24)
    df = (ms_rows + ms_columns - ms_rest) ** 2 / (ms_rows**2 / 3 + ms_columns**2 / 5 + ms_rest**2 / 15)
    assert found.df == pytest.approx(max(df, 3))
    with pytest.raises(ValueError, match="two of each"):
        crossed_error(y[:1], np.arange(6))


def test_crossed_is_never_narrower_than_over_seeds_and_one_seed_has_none():
    random = np.random.default_rng(4)
    codes = np.repeat(np.arange(12), 4)
    for _ in range(50):
        frames = [clustered(np.clip(random.normal(50, 20, 48), 0, 100), codes) for _ in range(3)]
        wide, seeds = crossed(frames)["ras"], intervals(frames)["ras"]
        assert wide.low <= seeds.low
        assert seeds.high <= wide.high
        assert (wide.kind, wide.n, wide.clusters, wide.mean) == ("seeds and prompts", 3, 12, seeds.mean)
    assert crossed(frames[:1]) == {}
    assert crossed([one.iloc[:4] for one in frames]) == {}, "one cluster"


SPREADS = {"seeds": (6, 3, 2, 10), "prompts": (0.5, 12, 3, 30), "both": (3, 12, 4, 30)}
"""Standard deviations of seeds, clusters, seeds x clusters, and of what is left per prompt."""


def crossed_coverage(spread, seeds, tables, clusters=40, seed=0):
    """How often the interval over seeds and prompts, and that over seeds, hold the true mean 50."""
    random = np.random.default_rng(seed)
    held = np.zeros(2)
    for _ in range(tables):
        codes = np.repeat(np.arange(clusters), random.integers(2, 12, clusters))
        parts = [random.normal(0, sd, shape) for sd, shape in zip(spread[:3], ((seeds, 1), clusters, (seeds, clusters)), strict=True)]
        y = 50 + parts[0] + parts[1][codes] + parts[2][:, codes] + random.normal(0, spread[3], (seeds, len(codes)))
        y += random.normal(0, spread[3], len(codes))  # of the prompt itself
        frames = [clustered(values, codes).rename(columns={"ras": "score"}) for values in y]
        for i, one in enumerate((crossed(frames)["score"], intervals(frames)["score"])):
            held[i] += one.low < 50 < one.high
    return held / tables


@pytest.mark.parametrize("name", list(SPREADS))
def test_the_crossed_interval_covers_whichever_varies(name):
    both, alone = crossed_coverage(SPREADS[name], 5, 50)
    assert both > 0.87
    assert name == "seeds" or alone < 0.8, "conditional on the prompts, and so labelled"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("name", list(SPREADS))
def test_the_crossed_interval_covers_95_percent(name, seeds):
    assert 0.93 < crossed_coverage(SPREADS[name], seeds, 1000, seed=seeds)[0] < 0.995


@pytest.mark.parametrize("clusters", [12, 40])
def test_the_cluster_bootstrap_covers_95_percent_where_single_prompts_would_not(clusters):
    random = np.random.default_rng(clusters)
    held = np.zeros(2)
    for table in range(100):
        codes = np.repeat(np.arange(clusters), 8)
        wins = 100.0 * (random.random(len(codes)) < random.beta(2, 3, clusters)[codes])
        frame = clustered(wins, codes)
        for i, one in enumerate((frame, frame.droplevel("cluster"))):
            found = over_prompts(one, np.random.default_rng(table), resamples=300)["ras"]
            held[i] += found.low < 40 < found.high
    assert held[0] / 100 > 0.9
    assert held[1] / 100 < 0.88


def test_three_seeds_in_two_groups_are_covered_in_76_percent():
    """Each seed lies about one of two levels, half and half; the mean is between them."""
    random = np.random.default_rng(0)
    tables = np.where(random.random((1500, 3)) < 0.5, 40.0, 60.0) + random.normal(0, 0.5, (1500, 3))
    assert covered([over_seeds(table.tolist()) for table in tables], 50.0) == pytest.approx(0.76, abs=0.02)


def test_two_groups_are_seen_and_one_is_not():
    assert two_groups([7.0, 83.0, 67.0, 89.0, 6.0]) == ([6, 7], [67, 83, 89])  # the closers of PPO's seeds
    assert two_groups([25.9, 39.3, 39.1, 40.1, 26.3]) == ([25.9, 26.3], [39.1, 39.3, 40.1])
    assert two_groups([47.0, 44.0, 51.0, 49.0, 46.0]) is None
    assert two_groups([40.0, 40.1, 41.0, 41.1, 41.2]) is None, "one point is no matter"
    assert two_groups([20.0, 80.0, 81.0, 82.0, 83.0]) is None, "one seed is no group"
    assert two_groups([20.0, 80.0, 81.0]) is None
    random = np.random.default_rng(0)
    wrong = np.mean([two_groups((50 + 10 * random.normal(size=5)).tolist()) is not None for _ in range(2000)])
    assert wrong < 0.07
