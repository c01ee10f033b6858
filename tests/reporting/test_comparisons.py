"""Tests of difference: by hand, against scipy and statsmodels' other forms, and by simulation of their error rates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from grao_bench.core.errors import UserError
from grao_bench.reporting.gather.comparisons import (
    Difference,
    adjust,
    between,
    crossed_pair,
    detectable,
    improved,
    mcnemar,
    paired,
    pooled,
    power,
)

from .records import evaluation


def by_seed(*values):
    return {seed: float(value) for seed, value in enumerate(values)}


def test_paired_t_by_hand():
    found = paired("a", "b", by_seed(61, 62, 66), by_seed(60, 60, 63))  # differences 1 2 3: mean 2, sd 1
    assert (found.mean, found.sd, found.seeds) == (2, 1, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3))
    assert found.adjusted == pytest.approx((found.low, found.high))
    assert found.p == pytest.approx(0.074180, abs=1e-5)  # t = 2 sqrt(3) = 3.4641 on 2 degrees of freedom
    assert found.p_adjusted == found.p
    assert (found.stars, found.verdict()) == ("", "not shown to differ")


def test_seeds_are_paired_by_their_number_and_only_common_ones_count():
    found = paired("a", "b", {2: 66.0, 0: 61.0, 1: 62.0, 7: 0.0}, {0: 60.0, 1: 60.0, 2: 63.0, 8: 99.0})
    assert (found.mean, found.sd, found.seeds) == (2, 1, 3)
    assert paired("a", "b", {0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("ours", "theirs", "mean"), [(by_seed(5.0), by_seed(3.0), 2), (by_seed(5, 6, 7), by_seed(3, 4, 5), 2)])
def test_one_seed_or_equal_differences_are_no_test(ours, theirs, mean):
    found = paired("a", "b", ours, theirs)
    assert found.mean == mean
    assert math.isnan(found.p)
    assert math.isnan(found.p_adjusted)
    assert math.isnan(found.level_p())
    assert (found.stars, found.verdict()) == ("", "not tested")


def with_p(p, df=4.0):
    """A difference of 1 whose test has this p."""
    return Difference("a", "b", 1.0, math.nan, math.nan, math.nan, 5, ((1.0 / float(stats.t.isf(p / 2, df)), df),))


def test_bonferroni_by_hand_leaves_out_what_was_not_tested():
    none = paired("a", "b", by_seed(5.0), by_seed(3.0))
    found = adjust([with_p(0.03), none, with_p(0.0002), with_p(0.4), with_p(0.01)])
    assert [round(each.p_adjusted, 4) for each in found if each.tested] == [0.12, 0.0008, 1.0, 0.04]  # 4 tests
    assert [each.stars for each in found] == ["", "", "***", "", "*"]
    assert math.isnan(found[1].p_adjusted)
    assert adjust([none]) == [none]


def test_adjusted_p_is_statsmodels_and_power_too():
    p = np.random.default_rng(0).random(12) ** 3
    found = adjust([with_p(float(value)) for value in p])
    assert [one.p_adjusted for one in found] == pytest.approx(multipletests(p, method="bonferroni")[1])
    for seeds in (2, 3, 5, 12):
        for tests in (1, 9):
            alone, level = ((1.0 / math.sqrt(seeds), seeds - 1.0),), 1 - 0.05 / tests
            least = detectable(alone, level)
            assert power(least, alone, level) == pytest.approx(0.8)
            theirs = TTestPower().power(least, seeds, 0.05 / tests)
            assert (seeds, tests) == (3, 9) or theirs == pytest.approx(0.8)  # theirs goes astray there


@pytest.mark.parametrize("tests", [1, 2, 9, 55])
def test_the_adjusted_interval_leaves_0_out_exactly_where_the_adjusted_p_is_under_5_percent(tests):
    """On both sides of the border too, and with two errors of which the wider counts."""
    random = np.random.default_rng(tests)
    mixed = [(0.05 / tests * factor, df) for factor in (0.5, 0.999, 1.001, 2) for df in (1.0, 4.0, 40.0)]
    ones = [with_p(min(p, 0.99), df) for p, df in mixed]
    ones += [replace(one, errors=(*one.errors, (float(random.uniform(0, 0.5)), 30.0))) for one in ones]
    for one in (replace(one, tests=tests) for one in ones):
        low, high = one.adjusted
        assert (low > 0 or high < 0) == (one.p_adjusted < 0.05) == (one.verdict() == "ahead")


@pytest.mark.parametrize("tests", [1, 9])
def test_level_is_statsmodels_tost_and_its_interval_lies_within_the_margin(tests):
    random = np.random.default_rng(5)
    for spread in (0.3, 1.0, 2.0, 4.0):
        a, b = random.normal(50, 1, 5), random.normal(50.5, spread, 5)
        found = replace(paired("a", "b", by_seed(*a), by_seed(*b)), tests=tests)
        theirs = ttost_paired(a, b, -3.0, 3.0)[0]
        assert found.level_p(3.0) == pytest.approx(min(1.0, tests * theirs), rel=1e-6)
        ((error, df),) = found.errors
        half = stats.t.isf(0.05 / tests, df) * error
        assert (found.level_p(3.0) < 0.05) == (found.mean - half > -3 and found.mean + half < 3)


def test_the_words_for_a_difference():
    def said(mean, error):
        return Difference("a", "b", mean, math.nan, math.nan, math.nan, 9, ((error, 8.0),)).verdict(3.0)

    assert said(5.0, 1.0) == "ahead"  # t(0.975, 8) = 2.31
    assert said(-5.0, 1.0) == "behind"
    assert said(0.5, 1.0) == "level"  # 2.5 > t(0.95, 8) = 1.86
    assert said(1.5, 1.0) == "not shown to differ"  # 1.5: neither
    assert said(2.9, 0.01) == "ahead"  # within the margin, and shown to differ all the same


def test_more_prompts_or_draws_do_not_hide_what_seeds_say_nor_the_other_way_round():
    """By hand: 2 seeds, 2 prompts. Differences 1, 3 and 3, 5: by seed 2, 4, by prompt 2, 4, nothing crossed."""
    ours = {0: pd.Series([1.0, 3.0]), 1: pd.Series([3.0, 5.0])}
    theirs = {seed: pd.Series([0.0, 0.0]) for seed in (0, 1)}
    found = crossed_pair("a", "b", ours, theirs)
    assert (found.mean, found.sd) == (3, pytest.approx(math.sqrt(2)))
    seeds, both = found.errors
    assert seeds == (pytest.approx(1.0), 1.0)
    # V = 1 (seeds) + 1 (prompts) - 0; Satterthwaite: 2^2 / (1 / 1 + 1 / 1) = 2
    assert both == (pytest.approx(math.sqrt(2)), pytest.approx(2.0))
    half = max(12.7062, 4.302653 * math.sqrt(2))
    assert found.adjusted == pytest.approx((3 - half, 3 + half), rel=1e-5)


def test_a_pair_without_common_prompts_or_variation_is_no_test():
    values = {seed: pd.Series([1.0, 2.0], index=["p", "q"]) for seed in (0, 1)}
    strangers = {seed: pd.Series([1.0, 2.0], index=["r", "s"]) for seed in (0, 1)}
    assert not crossed_pair("a", "b", values, values).tested
    assert not crossed_pair("a", "b", values, strangers).tested
    assert crossed_pair("a", "b", values, {7: values[0]}) is None


def test_a_difference_reads_either_way_round():
    one = replace(paired("a", "b", by_seed(61, 62, 66), by_seed(60, 60, 63)), tests=3)
    turned, straight = between([one], "b", "a"), between([one], "a", "b")
    assert (turned.mean, turned.low, turned.high, turned.p_adjusted) == (-2, -straight.high, -straight.low, straight.p_adjusted)
    assert turned.adjusted == pytest.approx((-straight.adjusted[1], -straight.adjusted[0]))
    assert turned.better[0] == 1 - straight.better[0]
    assert between([one], "a", "x") is None
    assert pooled([one.errors, ((2.0, 1.0),)]) == ((pytest.approx(math.sqrt((1 / 3 + 4) / 2)), 1.0),)


def test_the_probability_of_improvement_by_hand():
    p, low, high = improved([3.0, 5.0], [1.0, 3.0, 4.0])  # 3 beats 1, ties 3; 5 beats all: 4.5 of 6
    assert p == pytest.approx(0.75)
    assert 0 < low < p < high < 1
    low_five, high_five = [1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]
    apart = improved(high_five, low_five)
    assert (apart[0], apart[2]) == (1.0, 1.0)
    assert 0.5 < apart[1] < 0.9, "5 seeds that lie apart are no certainty"
    assert improved(low_five, high_five) == pytest.approx((0.0, 0.0, 1 - apart[1]))
    assert all(math.isnan(value) for value in improved([1.0], [2.0, 3.0]))


def test_the_probability_of_improvements_interval_covers():
    """5 seeds against 5, normal, 120 tables each: wider than it need be near 1."""
    random = np.random.default_rng(2)
    for shift in (0.0, 1.0, 2.0):
        truth = stats.norm.cdf(shift / math.sqrt(2))
        found = [improved(list(random.normal(shift, 1, 5)), list(random.normal(0, 1, 5))) for _ in range(120)]
        assert 0.88 < np.mean([low <= truth <= high for _, low, high in found]) <= 1.0


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_smallest_detectable_difference_has_power_80(seeds):
    """By drawing 20,000 sets of seed differences with that mean, at the level of 9 tests."""
    sd, level = 2.5, 1 - 0.05 / 9
    least = detectable(((sd / math.sqrt(seeds), seeds - 1.0),), level)
    draws = np.random.default_rng(seeds).normal(least, sd, (20_000, seeds))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(seeds))
    assert np.mean(np.abs(t) > stats.t.ppf(0.5 + level / 2, seeds - 1)) == pytest.approx(0.8, abs=0.01)
    assert math.isnan(detectable(()))


def test_the_paired_interval_covers_95_percent_of_500_simulated_tables():
    """Seeds share their prompts: 5 seeds of two objectives on 200 common prompts, with an effect of the seed on each."""
    random = np.random.default_rng(0)
    ease, truth, tables = random.normal(0, 1, 200), 6.0, 500
    effects = random.normal(0, 2.0, (tables, 5, 2)) + np.array([truth, 0.0])
    # the share of wins of a run: binomial noise around what the seed made of the model
    shared = random.normal(0, ease.std() / math.sqrt(200) * 25, (tables, 5, 1))
    scores = 50 + effects + shared + random.normal(0, 100 * 0.5 / math.sqrt(200), (tables, 5, 2))
    found = [paired("a", "b", by_seed(*table[:, 0]), by_seed(*table[:, 1])) for table in scores]
    assert 0.92 < np.mean([one.low < truth < one.high for one in found]) < 0.98


def simulated_family(random, methods=4, seeds=5, clusters=20, size=3):
    """Equal methods' scores per prompt: seeds, clusters, prompts and what is left all vary."""
    codes = np.repeat(np.arange(clusters), size)
    index = pd.MultiIndex.from_arrays([codes, np.arange(len(codes))], names=["cluster", "example_id"])
    found = {}
    for name in range(methods):
        own = random.normal(0, 5, (seeds, 1)) + random.normal(0, 8, clusters)[codes]
        values = 50 + own + random.normal(0, 20, (seeds, len(codes)))
        found[str(name)] = {seed: pd.Series(values[seed], index=index) for seed in range(seeds)}
    return found


def test_equal_objectives_seldom_get_a_star_and_all_intervals_hold_together():
    """One method against three equal ones, whose seeds and prompts vary: a star in any pair in at most about 5% of 60 tables,
    where tests over seeds alone, unadjusted, give one in 20%."""
    random = np.random.default_rng(1)
    stars, alone = [], []
    for _ in range(60):
        values = simulated_family(random)
        made = adjust([crossed_pair("0", name, values["0"], values[name]) for name in "123"])
        stars.append(any(one.stars for one in made))
        alone.append(any(one.low > 0 or one.high < 0 for one in made))
    assert np.mean(stars) < 0.13
    assert np.mean(alone) > 0.13


def test_mcnemar_by_hand_is_the_exact_binomial_test():
    # prompt      0   1   2   3   4   5   6   7   8  9
    first = [1, 1, 1, 1, 1, 1, 1, 0, 1, -1]
    second = [0, 0, -1, -1, 0, 0, -1, 1, 1, 0]
    found = mcnemar(evaluation(first), evaluation(second))
    assert (found.only_first, found.only_second, found.both, found.neither) == (7, 1, 1, 1)
    assert found.p == pytest.approx(2 * (1 + 8) / 256)
    assert found.p == pytest.approx(statsmodels_mcnemar([[1, 7], [1, 1]], exact=True).pvalue)
    assert mcnemar(evaluation(first), evaluation(first)).p == 1.0


def test_mcnemar_joins_by_id_and_refuses_other_prompts():
    turned = evaluation([1, -1, -1, -1])[::-1]
    assert mcnemar(evaluation([1, -1, -1, -1]), turned).both == 1
    with pytest.raises(UserError, match=r"'p2'.*one of the two only"):
        mcnemar(evaluation([1, 1, 1]), evaluation([1, 1]))
