"""Length balance: of hand-made pairs, which ones go and which stay, and what can't be learned after."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.training.length_balance import STRATA, length_balanced, longer_by


def pair(name: str, chosen: int, rejected: int) -> Example:
    """A pair of answers of so many characters."""
    return Example(name, (Turn("user", "Hi"),), "x" * chosen, "y" * rejected, "s")


def test_the_longer_answer_is_chosen_in_half_whatever_the_difference():
    """Differences 1 to 10, each in a tenth of its own: of 6 longer and 2 shorter ones two of each
    stay. The equally long pair stays too, and all are in their order."""
    pairs = [pair("equal", 7, 7)]
    for size in range(1, 11):
        pairs += [pair(f"longer {size} {n}", 5 + size, 5) for n in range(6)]
        pairs += [pair(f"shorter {size} {n}", 5, 5 + size) for n in range(2)]
    found = length_balanced(pairs, seed=0)
    counts = Counter(longer_by(found).tolist())
    assert counts == {float(size): 2 for size in [*range(-10, 0), *range(1, 11)]} | {0.0: 1}
    places = [pairs.index(one) for one in found]
    assert places == sorted(places)


def test_who_is_left_out_is_drawn_by_seed():
    pairs = [pair(f"longer {n}", 9, 5) for n in range(40)] + [pair("shorter", 5, 9)]
    drawn = [[one.id for one in length_balanced(pairs, seed)] for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(ids) for ids in drawn}) > 1
    assert all(len(ids) == 2 and "shorter" in ids for ids in drawn)


def test_no_rule_of_length_is_better_than_chance():
    """Pairs of which the longer answer is chosen the more often the more the lengths differ, as in
    real ones: 50% to 95%. Afterwards it is 50% overall and in every tenth, either way."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 400, 2000)
    wins = random.random(2000) < 0.5 + 0.45 * sizes / 400
    each = [(size, 0) if won else (0, size) for size, won in zip(sizes, wins, strict=True)]
    pairs = [pair(str(n), *(int(length) for length in both)) for n, both in enumerate(each)]
    assert (longer_by(pairs) > 0).mean() > 0.65
    found = longer_by(length_balanced(pairs, seed=3))
    assert (found > 0).mean() == 0.5
    assert np.corrcoef(np.sign(found), np.abs(found))[0, 1] == pytest.approx(0, abs=0.02)
    order = np.argsort(np.abs(found), kind="stable")
    for part in np.array_split(np.sign(found)[order], STRATA):
        assert abs(part.mean()) < 0.3


def test_pairs_of_one_kind_are_a_users_error():
    """And pairs that are all equally long are as they were."""
    with pytest.raises(UserError, match=r"^length_balance=true: in no tenth of the 20 pairs"):
        length_balanced([pair(str(n), 9, 5) for n in range(20)], seed=0)
    same = [pair(str(n), 4, 4) for n in range(3)]
    assert length_balanced(same, seed=0) == same
