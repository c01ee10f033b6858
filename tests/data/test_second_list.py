"""The second list of exploits: tried once after the freeze, and what it scored stays as it fell.

The committed scores are held, not the limits: the data card says where the list breaks them.
"""

import csv

import pytest

from tests.data.second_list import POLICIES
from tests.data.second_list.score import SCORES, SETS, scored

NAMES = [policy.__name__ for policy in POLICIES]


def committed(name: str) -> dict[str, tuple[str, str, str]]:
    with SCORES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == name]
    told = {row["policy"]: (row["ras"], row["ties"], row["reward"]) for row in rows}
    assert len(told) == len(rows)
    return told


def again(name: str, policies=POLICIES) -> dict[str, tuple[str, str, str]]:
    found = scored(name, policies)
    return {who: (f"{one.ras:.1f}", f"{one.ties:.1f}", f"{one.reward:.4f}") for who, one in found}


def test_every_policy_of_the_list_has_a_score_on_both_sets():
    assert len(NAMES) == len(set(NAMES)) >= 20
    for name in SETS:
        assert list(committed(name)) == ["base", "sft", *NAMES]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_list_scores_what_it_scored(name):
    assert again(name) == committed(name)
