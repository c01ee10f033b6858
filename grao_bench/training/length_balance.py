"""Training pairs of a reward model from which the length of an answer can't be learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example

STRATA = 10


def longer_by(pairs: Sequence[Example]) -> Float[np.ndarray, "N"]:
    """By how many characters each pair's chosen answer is longer than its rejected one."""
    lengths = [len(pair.reference) - len(pair.rejected or "") for pair in pairs]
    return np.array(lengths, dtype=float)


def length_balanced(pairs: Sequence[Example], seed: int) -> list[Example]:
    """Some of the pairs, in their order, of which the longer answer is the chosen one in exactly
    half, whatever the answers differ by.

    The pairs are cut into STRATA parts of about equal size by how much their lengths differ, either
    way; pairs of one difference are in one part. Of each part as many are drawn from the more
    frequent kind (chosen is longer, chosen is shorter) as there are of the other; pairs whose
    answers are equally long all stay. So the best Bradley-Terry score that reads nothing but the
    length is a constant in each part. Subsampled, not weighted, so that batches, loss and steps are
    what they are without it. UserError where no pair is left that differs in length.
    """
    differ = longer_by(pairs)
    size = np.abs(differ)
    unequal = size > 0
    if not unequal.any():
        return list(pairs)
    inner = np.linspace(0, 1, STRATA + 1)[1:-1]
    part = np.digitize(size, np.quantile(size[unequal], inner))
    random = np.random.default_rng(seed)
    keep = ~unequal
    for number in range(STRATA):
        sides = (differ > 0, differ < 0)
        longer, shorter = (np.flatnonzero((part == number) & side) for side in sides)
        count = min(len(longer), len(shorter))
        for rows in (longer, shorter):
            keep[random.choice(rows, count, replace=False)] = True
    if not (keep & unequal).any():
        what = f"in no tenth of the {len(pairs)} pairs, by length difference, do both kinds stand"
        raise UserError(f"length_balance=true: {what}; use length_balance=false")
    return [pair for pair, kept in zip(pairs, keep, strict=True) if kept]
