"""How good a scorer of pairs is: accuracy, calibration, length bias and agreement, by hand; and the bag-of-words baseline."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.rewards.bag_of_words import fit_bag_of_words
from grao_bench.rewards.pair_metrics import (
    accuracy,
    agreement,
    calibration_error,
    correlation,
    length_balanced,
    length_bias,
    measures,
    pair_accuracy,
    paired_difference,
    prefers_longer,
    wilson,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_accuracy_counts_a_tie_half():
    assert accuracy(np.array([1.0, -2.0, 0.0, 3.0])) == 2.5 / 4
    assert math.isnan(accuracy(np.array([])))


def test_calibration_by_hand():
    """Ten bins of width 0.05 from 0.5. 0.62 right and 0.63 wrong share a bin: |1 - 1.25| = 0.25; 0.9 right three times of four: |3 - 3.6|
    = 0.6; all over 6 pairs."""
    margins = np.array([logit(0.62), -logit(0.63), logit(0.9001), logit(0.9001), logit(0.9001), -logit(0.9001)])
    assert calibration_error(margins) == pytest.approx((0.25 + 0.6004) / 6, abs=1e-6)
    # in one bin the errors offset each other
    assert calibration_error(margins, bins=1) == pytest.approx(abs(4 - 1.25 - 4 * 0.9001) / 6, abs=1e-6)


def test_calibration_at_the_ends():
    """Always sure and right: 0. Always sure and right half the time: 0.5. No margin at all: 0.5 said, half counted: 0."""
    assert calibration_error(np.full(4, 50.0)) == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.array([50.0, -50.0])) == pytest.approx(0.5, abs=1e-9)
    assert calibration_error(np.zeros(3)) == 0.0
    assert math.isnan(calibration_error(np.array([])))


def test_a_calibrated_model_has_almost_no_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20000)
    margins = np.log(p / (1 - p)) * np.where(rng.random(20000) < p, 1, -1)
    assert calibration_error(margins) < 0.01
    assert calibration_error(5 * margins) > 0.1


def test_length_bias_by_hand():
    margins, longer_by = np.array([2.0, 1.0, -1.0, -3.0, 1.0]), np.array([10.0, 4.0, -2.0, -6.0, 0.0])
    found = length_bias(margins, longer_by)
    assert found["length_correlation"] == pytest.approx(stats.pearsonr(margins, longer_by).statistic)
    slope = stats.linregress(longer_by, margins).slope
    assert found["length_slope"] == pytest.approx(100 * slope)
    assert {key: found[key] for key in ("accuracy_chosen_shorter", "accuracy_chosen_longer", "pairs_chosen_shorter")} == {
        "accuracy_chosen_shorter": 0.0,
        "accuracy_chosen_longer": 1.0,
        "pairs_chosen_shorter": 2,
    }
    assert math.isnan(length_bias(margins, np.ones(5))["length_correlation"])


def test_agreement_is_over_the_pairs_that_the_judge_tells_apart():
    """Signs ++, +-, -+ and a margin of 0; the judge's tie does not count: (1 + 0 + 0 + 0.5) / 4."""
    assert agreement(np.array([1.0, 2.0, -1.0, 0.0, 5.0]), [0.3, -0.1, 0.2, 0.4, 0.0]) == 1.5 / 4
    assert math.isnan(agreement(np.array([1.0]), [0.0]))


def zeros_and_ones(ones: int, zeros: int) -> np.ndarray:
    return np.array([1.0] * ones + [0.0] * zeros)


@pytest.mark.parametrize(("ones", "zeros"), [(12, 38), (0, 20), (20, 0), (300, 150)])
def test_wilsons_interval(ones, zeros):
    found = wilson(zeros_and_ones(ones, zeros))
    expected = proportion_confint(ones, ones + zeros, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((ones / (ones + zeros), *expected))


def test_newcombes_interval_of_a_paired_difference():
    """His own example (Newcombe 1998): of 50 pairs 36 right by both, 12 by the first alone, 2 by
    the second alone; 0.2 [0.0569, 0.3404]. No pair apart is a difference of 0, with doubt."""
    one = np.concatenate([np.ones(36), np.ones(12), np.zeros(2)])
    other = np.concatenate([np.ones(36), np.zeros(12), np.ones(2)])
    found = paired_difference(one, other)
    expected = (0.2, 0.0569, 0.3404)
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=5e-5)
    same = paired_difference(one, one)
    assert same.value == 0
    assert -0.1 < same.low == -same.high < 0


def test_the_paired_interval_covers_what_it_says():
    """Two rules that are right together more often than by chance, 0.6 and 0.55: 95% of 1000
    intervals over 200 pairs hold 0.05."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        luck = rng.random(200)
        one = (luck < 0.6).astype(float)
        other = (np.where(rng.random(200) < 0.5, luck, rng.random(200)) < 0.55).astype(float)
        found = paired_difference(one, other)
        held += found.low <= 0.05 <= found.high
    assert 0.93 <= held / 1000 <= 0.97


def test_a_model_that_is_a_rule_of_length_is_seen_to_be_one():
    """Margins that are the length difference: right as often as the rule, no better by any doubt,
    and following it everywhere; 0.5 where both directions weigh alike."""
    longer_by = np.array([5.0] * 60 + [-3.0] * 40)
    found = pair_accuracy("test", longer_by, longer_by, prefers_longer(longer_by))
    assert (found.accuracy.value, found.length_rule.value, found.prefers_longer) == (0.6, 0.6, True)
    assert found.over_length_rule.low <= 0 <= found.over_length_rule.high
    assert found.follows_length.value == 1.0
    assert found.length_correlation is not None
    assert found.length_correlation.value == pytest.approx(1.0)
    assert found.length_balanced is not None
    assert found.length_balanced.value == 0.5
    assert (found.bag_of_words, found.over_bag_of_words) == (None, None)


def test_a_model_that_reads_is_better_than_both_rules():
    """Right in 90 of 100, the rule "shorter" in 60 and the words in 70; it prefers the shorter one
    in 60 of 100 too, as people do here, but for its 10 mistakes."""
    longer_by = np.array([-2.0] * 60 + [4.0] * 40)
    margins = np.concatenate([np.ones(55), -np.ones(5), np.ones(35), -np.ones(5)])
    words = zeros_and_ones(70, 30) - 0.5
    found = pair_accuracy("dev", margins, longer_by, prefers_longer(longer_by), words)
    assert not found.prefers_longer
    assert found.over_length_rule.value == pytest.approx(0.3)
    assert found.over_length_rule.low > 0.15
    assert found.bag_of_words is not None
    assert found.over_bag_of_words is not None
    assert found.bag_of_words.value == pytest.approx(0.7)
    assert found.over_bag_of_words.value == pytest.approx(0.2)
    assert found.follows_length.value == pytest.approx((55 + 5) / 100)
    assert found.length_balanced is not None
    assert found.length_balanced.value == pytest.approx((55 / 60 + 35 / 40) / 2)
    assert length_balanced(margins[:60], longer_by[:60]) is None


def test_fishers_interval_of_a_correlation():
    """By his formula: tanh(atanh r -+ 1.96 / sqrt(n - 3)); none where nothing varies."""
    rng = np.random.default_rng(1)
    longer_by = rng.normal(size=103)
    margins = 0.5 * longer_by + rng.normal(size=103)
    found = correlation(margins, longer_by)
    assert found is not None
    r = np.corrcoef(margins, longer_by)[0, 1]
    low, high = np.tanh(np.arctanh(r) + np.array([-1, 1]) * stats.norm.ppf(0.975) / 10)
    assert (found.value, found.low, found.high) == pytest.approx((r, low, high))
    assert correlation(margins, np.ones(103)) is None


def test_all_measures_by_name():
    margins, longer_by = np.array([1.0, -1.0]), np.array([3.0, 2.0])
    found = measures(margins, longer_by, None)
    assert found["ece_bins"] == 10
    assert (found["accuracy"], found["accuracy_of_longer_is_better"]) == (0.5, 1.0)
    assert "agreement_with_gold" not in found
    assert measures(margins, longer_by, [1.0, 1.0])["agreement_with_gold"] == 0.5


def pairs(count: int, seed: int, telling: bool = True) -> list[Example]:
    """Answers of random words; the chosen one has "good" among them, the rejected one "bad", in four of five pairs."""
    rng = random.Random(seed)

    def text(word: str) -> str:
        words = [*rng.choices(("red", "green", "blue", "one", "two"), k=5), word]
        rng.shuffle(words)
        return " ".join(words)

    def pair(row: int) -> Example:
        chosen, rejected = ("good", "bad") if telling and rng.random() < 0.8 else ("plain", "plain")
        return Example(f"e{row}", (Turn("user", "Hi"),), text(chosen), text(rejected), "s")

    return [pair(row) for row in range(count)]


def test_the_baseline_finds_the_words_that_tell():
    """Four of five pairs are told, half of the others by chance: 0.9."""
    found = fit_bag_of_words(pairs(300, 0), pairs(100, 1))
    assert accuracy(found.margins(pairs(500, 2))) == pytest.approx(0.9, abs=0.05)
    weights = dict(zip(found.vectorizer.get_feature_names_out(), found.weights, strict=True))
    assert weights["good"] > 5 * abs(weights["red"])
    assert weights["bad"] < -5 * abs(weights["red"])


def test_the_baseline_sees_no_side():
    """Swapped pairs have the opposite margins: no intercept knows which answer came first."""
    found = fit_bag_of_words(pairs(100, 0), pairs(50, 1))
    held_out = pairs(20, 3)
    swapped = [Example(e.id, e.prompt, e.rejected, e.chosen, e.subset) for e in held_out]
    assert found.margins(swapped) == pytest.approx(-found.margins(held_out))


def test_the_baseline_learns_nothing_where_there_is_nothing():
    found = fit_bag_of_words(pairs(300, 0, telling=False), pairs(100, 1, telling=False))
    assert accuracy(found.margins(pairs(500, 2, telling=False))) == pytest.approx(0.5, abs=0.07)


def test_the_same_pairs_give_the_same_weights():
    one, other = (fit_bag_of_words(pairs(100, 0), pairs(50, 1)) for _ in range(2))
    assert np.array_equal(one.weights, other.weights)
    assert one.C == other.C


def test_too_few_words_are_a_users_error():
    with pytest.raises(UserError, match="baseline=true: no word is in 3 answers of the 1 training pairs"):
        fit_bag_of_words(pairs(1, 0), [])
