"""How good a scorer of pairs is on held-out pairs: accuracy, calibration, length bias, agreement. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

CALIBRATION_BINS = 10


def accuracy(margins: Float[np.ndarray, "N"]) -> float:
    """The share of pairs whose chosen answer scores higher; a margin of exactly 0 counts half. NaN without pairs."""
    return float(((margins > 0) + 0.5 * (margins == 0)).mean()) if len(margins) else float("nan")


def calibration_error(margins: Float[np.ndarray, "N"], bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, Eq. 3) of sigmoid(|margin|), the Bradley-Terry probability that
    the higher-scored answer is the chosen one: sum over equal-width bins of [0.5, 1] of (pairs in it / N) |accuracy - mean confidence|.

    0 is calibrated; a model that is always sure and right in 60% of pairs has 0.4. NaN without pairs.
    """
    if not len(margins):
        return float("nan")
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    right = (margins > 0) + 0.5 * (margins == 0)
    places = np.minimum((2 * (confidence - 0.5) * bins).astype(int), bins - 1)
    gaps = [abs((right[places == place] - confidence[places == place]).sum()) for place in range(bins)]
    return float(sum(gaps) / len(margins))


def length_bias(margins: Float[np.ndarray, "N"], longer_by: Float[np.ndarray, "N"]) -> dict[str, float]:
    """How far the margins follow the length of the chosen answer minus the rejected one's, `longer_by`:

    length_correlation         Pearson's r of margin and difference; NaN where one of them never varies
    accuracy_chosen_shorter    accuracy on the pairs whose chosen answer is the shorter one, where a bias to length costs; and
    accuracy_chosen_longer     on those where it is the longer one; NaN without such pairs
    pairs_chosen_shorter       how many there are
    """
    varies = len(margins) > 1 and margins.std() > 0 and longer_by.std() > 0
    return {
        "length_correlation": float(np.corrcoef(margins, longer_by)[0, 1]) if varies else float("nan"),
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
