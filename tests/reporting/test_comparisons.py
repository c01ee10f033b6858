"""Tests of difference: by hand, against scipy and statsmodels' other forms, and by simulation of their error rates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from grao_bench.errors import UserError
from grao_bench.reporting.comparisons import all_pairs, between, detectable, holm, mcnemar, paired, pooled_sd

from .records import evaluation


def by_seed(*values):
    return {seed: float(value) for seed, value in enumerate(values)}


def test_paired_t_by_hand():
    found = paired("a", "b", by_seed(61, 62, 66), by_seed(60, 60, 63))  # differences 1 2 3: mean 2, sd 1
    assert (found.mean, found.sd, found.seeds) == (2, 1, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3))
    assert found.p == pytest.approx(0.074180, abs=1e-5)  # t = 2 sqrt(3) = 3.4641 on 2 degrees of freedom
    assert found.p_holm == found.p
    assert found.stars == ""


def test_seeds_are_paired_by_their_number_and_only_common_ones_count():
    found = paired("a", "b", {2: 66.0, 0: 61.0, 1: 62.0, 7: 0.0}, {0: 60.0, 1: 60.0, 2: 63.0, 8: 99.0})
    assert (found.mean, found.sd, found.seeds) == (2, 1, 3)
    assert paired("a", "b", {0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("ours", "theirs", "mean"), [(by_seed(5.0), by_seed(3.0), 2), (by_seed(5, 6, 7), by_seed(3, 4, 5), 2)])
def test_one_seed_or_equal_differences_are_no_test(ours, theirs, mean):
    found = paired("a", "b", ours, theirs)
    assert found.mean == mean
    assert math.isnan(found.p)
    assert math.isnan(found.p_holm)
    assert found.stars == ""


def test_holm_by_hand_leaves_out_what_was_not_tested():
    one = paired("a", "b", by_seed(61, 62, 66), by_seed(60, 60, 63))
    none = paired("a", "b", by_seed(5.0), by_seed(3.0))
    found = holm([replace(one, p=0.03), none, replace(one, p=0.0002), replace(one, p=0.04), replace(one, p=0.01)])
    assert [round(each.p_holm, 4) for each in found if each is not none] == [0.06, 0.0008, 0.06, 0.03]  # 2 x 0.03, 4 x, max, 3 x
    assert [each.stars for each in found] == ["", "", "***", "", "*"]
    assert math.isnan(found[1].p_holm)
    assert holm([none]) == [none]


def test_holm_and_power_are_statsmodels():
    p = np.random.default_rng(0).random(12) ** 3
    one = paired("a", "b", by_seed(61, 62, 66), by_seed(60, 60, 63))
    assert [found.p_holm for found in holm([replace(one, p=float(value)) for value in p])] == pytest.approx(
        multipletests(p, method="holm")[1]
    )
    for seeds in (2, 3, 5, 12):
        assert detectable(1.0, seeds) == pytest.approx(TTestPower().solve_power(nobs=seeds, alpha=0.05, power=0.8), rel=1e-5)


def test_all_pairs_are_one_family_and_read_either_way_round():
    values = {name: by_seed(*(np.random.default_rng(i).normal(50 + i, 1, 5))) for i, name in enumerate("abcd")}
    found = all_pairs(values)
    assert len(found) == 6
    turned = between(found, "d", "a")
    straight = between(found, "a", "d")
    assert (turned.mean, turned.low, turned.high, turned.p_holm) == (-straight.mean, -straight.high, -straight.low, straight.p_holm)
    theirs = stats.ttest_rel([values["a"][k] for k in range(5)], [values["d"][k] for k in range(5)])
    assert straight.p == pytest.approx(theirs.pvalue)
    assert between(found, "a", "x") is None
    assert pooled_sd(found) == pytest.approx(math.sqrt(sum(one.sd**2 for one in found) / 6))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_smallest_detectable_difference_has_power_80(seeds):
    """By the noncentral t, and by drawing 20,000 sets of seed differences with that mean."""
    sd = 2.5
    least = detectable(sd, seeds)
    critical, shift = stats.t.ppf(0.975, seeds - 1), least / sd * math.sqrt(seeds)
    power = stats.nct.sf(critical, seeds - 1, shift) + np.nan_to_num(stats.nct.cdf(-critical, seeds - 1, shift))
    assert power == pytest.approx(0.8, abs=1e-4)
    draws = np.random.default_rng(seeds).normal(least, sd, (20_000, seeds))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(seeds))
    assert np.mean(np.abs(t) > critical) == pytest.approx(0.8, abs=0.01)
    assert math.isnan(detectable(sd, 1))


def test_the_paired_interval_covers_95_percent_of_2000_simulated_tables():
    """Seeds share their prompts: 5 seeds of two objectives on 200 common prompts, with an effect of the seed on each."""
    random = np.random.default_rng(0)
    ease, truth, tables = random.normal(0, 1, 200), 6.0, 2000
    effects = random.normal(0, 2.0, (tables, 5, 2)) + np.array([truth, 0.0])
    # the share of wins of a run: binomial noise around what the seed made of the model
    shared = random.normal(0, ease.std() / math.sqrt(200) * 25, (tables, 5, 1))
    scores = 50 + effects + shared + random.normal(0, 100 * 0.5 / math.sqrt(200), (tables, 5, 2))
    found = [paired("a", "b", by_seed(*table[:, 0]), by_seed(*table[:, 1])) for table in scores]
    assert 0.93 < np.mean([one.low < truth < one.high for one in found]) < 0.97


def test_equal_objectives_seldom_get_a_star():
    """Four equal methods, five seeds: any star at all in at most about 5% of 300 tables, where single tests would give one in 20%."""
    random = np.random.default_rng(1)
    tables = [all_pairs({name: by_seed(*random.normal(50, 3, 5)) for name in "abcd"}) for _ in range(300)]
    assert np.mean([any(one.stars for one in table) for table in tables]) < 0.085
    assert np.mean([any(one.p < 0.05 for one in table) for table in tables]) > 0.12


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
