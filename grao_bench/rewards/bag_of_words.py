"""The baseline that a reward model has to beat: logistic regression on word counts (scikit-learn), as a Bradley-Terry model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example
from grao_bench.rewards.pair_metrics import accuracy

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse L2 penalties that are tried; the dev pairs choose."""


@dataclass(frozen=True)
class BagOfWords:
    """r(answer) = w . log(1 + counts of its words and word pairs); the prompt is not read. `C` is the penalty that dev chose."""

    vectorizer: Any
    weights: Float[np.ndarray, "words"]
    C: float

    def margins(self, pairs: Sequence[Example]) -> Float[np.ndarray, "N"]:
        """r(chosen) - r(rejected) of each pair."""
        margins: np.ndarray = differences(self.vectorizer, pairs) @ self.weights
        return margins


def fit_bag_of_words(train: Sequence[Example], dev: Sequence[Example]) -> BagOfWords:
    """The baseline, fitted on the training pairs; words in fewer than 3 answers are not counted. Deterministic.

    Each pair stands in the data twice, as it is and swapped, without an intercept: the logistic loss is then Bradley-Terry's.
    UserError without scikit-learn, or where no word is frequent enough.
    """
    try:
        from sklearn.feature_extraction.text import CountVectorizer  # type: ignore[import-untyped,unused-ignore]
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise UserError("baseline=true: needs scikit-learn; pip install scikit-learn, or use baseline=false") from None
    vectorizer = CountVectorizer(ngram_range=(1, 2), min_df=3, token_pattern=r"(?u)\b\w+\b")
    try:
        vectorizer.fit([text for example in train for text in (example.reference, example.rejected or "")])
    except ValueError:
        raise UserError(f"baseline=true: no word is in 3 answers of the {len(train)} training pairs; use baseline=false") from None
    x = differences(vectorizer, train)
    both, labels = _stacked(x), np.repeat([1, 0], len(train))
    fitted = []
    for C in STRENGTHS:
        model = LogisticRegression(C=C, fit_intercept=False, max_iter=1000, solver="lbfgs").fit(both, labels)
        fitted.append(BagOfWords(vectorizer, model.coef_[0], C))
    # the first of equals: the strongest penalty
    return max(fitted, key=lambda one: accuracy(one.margins(dev))) if dev else fitted[len(fitted) // 2]


def differences(vectorizer: Any, pairs: Sequence[Example]) -> Any:
    """log(1 + counts) of the chosen minus of the rejected answers, a sparse [N, words]."""
    chosen, rejected = (vectorizer.transform(texts) for texts in ([e.reference for e in pairs], [e.rejected or "" for e in pairs]))
    return chosen.astype(float).log1p() - rejected.astype(float).log1p()


def _stacked(x: Any) -> Any:
    from scipy.sparse import vstack

    return vstack([x, -x])
