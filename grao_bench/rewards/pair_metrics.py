"""How good a scorer of pairs is on held-out pairs: accuracy, calibration, length bias, agreement. Numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from grao_bench.core.pair_accuracy import PairAccuracy, Share

CALIBRATION_BINS = 10
LEVEL = 0.95


def accuracy(margins: Float[np.ndarray, "N"]) -> float:
    """The share of pairs whose chosen answer scores higher; a margin of exactly 0 counts half. NaN without pairs."""
    return float(right(margins).mean()) if len(margins) else float("nan")


def calibration_error(margins: Float[np.ndarray, "N"], bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, Eq. 3) of sigmoid(|margin|), the Bradley-Terry probability that
    the higher-scored answer is the chosen one: sum over equal-width bins of [0.5, 1] of (pairs in it / N) |accuracy - mean confidence|.

    0 is calibrated; a model that is always sure and right in 60% of pairs has 0.4. NaN without pairs.
    """
    if not len(margins):
        return float("nan")
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    hits = right(margins)
    places = np.minimum((2 * (confidence - 0.5) * bins).astype(int), bins - 1)
    gaps = [abs((hits[places == place] - confidence[places == place]).sum()) for place in range(bins)]
    return float(sum(gaps) / len(margins))


def length_bias(margins: Float[np.ndarray, "N"], longer_by: Float[np.ndarray, "N"]) -> dict[str, float]:
    """How far the margins follow the length of the chosen answer minus the rejected one's, `longer_by`:

    length_correlation         Pearson's r of margin and difference; NaN where one of them never varies
    length_slope               of the least-squares line: margin per 100 units of length
    accuracy_chosen_shorter    accuracy on the pairs whose chosen answer is the shorter one, where a bias to length costs; and
    accuracy_chosen_longer     on those where it is the longer one; NaN without such pairs
    pairs_chosen_shorter       how many there are
    """
    varies = len(margins) > 1 and margins.std() > 0 and longer_by.std() > 0
    correlation = float(np.corrcoef(margins, longer_by)[0, 1]) if varies else float("nan")
    slope = 100 * correlation * float(margins.std() / longer_by.std()) if varies else float("nan")
    return {
        "length_correlation": correlation,
        "length_slope": slope,
        "accuracy_chosen_shorter": accuracy(margins[longer_by < 0]),
        "accuracy_chosen_longer": accuracy(margins[longer_by > 0]),
        "pairs_chosen_shorter": float((longer_by < 0).sum()),
    }


def agreement(margins: Float[np.ndarray, "N"], gold: Sequence[float]) -> float:
    """The share of pairs that a judge tells apart (its margin `gold` is not 0) on which the sign of the margin is the judge's; NaN
    without such pairs. Where the labels are noisy this and not accuracy is what the scorer is worth."""
    judge = np.asarray(gold, dtype=float)
    told = judge != 0
    return accuracy((margins * np.sign(judge))[told])


def measures(margins: Float[np.ndarray, "N"], longer_by: Float[np.ndarray, "N"], gold: Sequence[float] | None) -> dict[str, float]:
    """All of the above by name; `agreement_with_gold` only where there is a gold judge."""
    found: dict[str, float] = {
        "pairs": float(len(margins)),
        "accuracy": accuracy(margins),
        "margin_mean": float(margins.mean()),
        "ece": calibration_error(margins),
        "ece_bins": float(CALIBRATION_BINS),
        "accuracy_of_longer_is_better": accuracy(longer_by),
        **length_bias(margins, longer_by),
    }
    return found if gold is None else found | {"agreement_with_gold": agreement(margins, gold)}


def right(margins: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """1 for each pair whose chosen answer scores higher, 0.5 for a margin of 0, else 0."""
    found: np.ndarray = (margins > 0) + 0.5 * (margins == 0)
    return found


def wilson(hits: Float[np.ndarray, "N"]) -> Share:
    """The mean of 0s and 1s (halves for ties) with its score interval (Wilson 1927)."""
    n, p = len(hits), float(hits.mean())
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Share(p, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def paired_difference(one: Float[np.ndarray, "N"], other: Float[np.ndarray, "N"]) -> Share:
    """mean(one) - mean(other) over the same pairs, with Newcombe's interval: both Wilson intervals'
    distances squared and added, less what the two have in common (Newcombe 1998, Statistics in
    Medicine 17:2635, method 8)."""
    a, b = wilson(one), wilson(other)
    varies = one.std() > 0 and other.std() > 0
    phi = float(np.corrcoef(one, other)[0, 1]) if varies else 0.0
    below = _added(a.value - a.low, b.high - b.value, phi)
    above = _added(a.high - a.value, b.value - b.low, phi)
    difference = a.value - b.value
    return Share(difference, difference - below, difference + above)


def length_balanced(
    margins: Float[np.ndarray, "N"],
    longer_by: Float[np.ndarray, "N"],
) -> Share | None:
    """The mean of the accuracies on pairs whose chosen answer is the longer and on those where it
    is the shorter one, its interval added as in `paired_difference`; None without both."""
    if not ((longer_by > 0).any() and (longer_by < 0).any()):
        return None
    longer, shorter = (wilson(right(margins[side])) for side in (longer_by > 0, longer_by < 0))
    below = _added(longer.value - longer.low, shorter.value - shorter.low, 0.0)
    above = _added(longer.high - longer.value, shorter.high - shorter.value, 0.0)
    mean = (longer.value + shorter.value) / 2
    return Share(mean, mean - below / 2, mean + above / 2)


def correlation(
    margins: Float[np.ndarray, "N"],
    longer_by: Float[np.ndarray, "N"],
) -> Share | None:
    """Pearson's r with Fisher's interval; None for fewer than 4 pairs, or where one of them never
    varies."""
    if len(margins) < 4 or margins.std() == 0 or longer_by.std() == 0:
        return None
    found = stats.pearsonr(margins, longer_by)
    low, high = found.confidence_interval(LEVEL)
    return Share(float(found.statistic), float(low), float(high))


def _added(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def prefers_longer(trained_on: Float[np.ndarray, "N"]) -> bool:
    """Of the two rules of length the one that is right more often on the training pairs, by how
    much longer their chosen answer is than the rejected one; of equals, the longer."""
    return accuracy(trained_on) >= 0.5


def pair_accuracy(
    split: str,
    margins: Float[np.ndarray, "N"],
    longer_by: Float[np.ndarray, "N"],
    longer: bool,
    baseline: Float[np.ndarray, "N"] | None = None,
) -> PairAccuracy:
    """Of a reward model's margins beside the length rule's (longer: which of the two) and, where
    it was fitted, the bag of words'."""
    rule = longer_by if longer else -longer_by
    ours, by_rule = right(margins), right(rule)
    words = None if baseline is None else right(baseline)
    return PairAccuracy(
        split=split,
        pairs=len(margins),
        accuracy=wilson(ours),
        prefers_longer=longer,
        length_rule=wilson(by_rule),
        over_length_rule=paired_difference(ours, by_rule),
        follows_length=wilson(right(margins * np.sign(rule))),
        length_correlation=correlation(margins, longer_by),
        length_balanced=length_balanced(margins, longer_by),
        bag_of_words=None if words is None else wilson(words),
        over_bag_of_words=None if words is None else paired_difference(ours, words),
    )
