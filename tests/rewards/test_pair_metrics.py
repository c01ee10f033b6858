"""How good a scorer of pairs is: accuracy, calibration, length bias and agreement, by hand; and the bag-of-words baseline."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from grao_bench.errors import UserError
from grao_bench.rewards.bag_of_words import fit_bag_of_words
from grao_bench.rewards.pair_metrics import accuracy, agreement, calibration_error, length_bias, measures
from grao_bench.types import Example, Turn


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
