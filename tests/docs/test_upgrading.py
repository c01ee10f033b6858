"""UPGRADING.md: old keys name their successors, and it lists each of them."""

from __future__ import annotations

import re

import pytest

from grao_bench.cli.command_line import RENAMED, composed
from grao_bench.core.errors import UserError
from grao_bench.core.values import HASH_VERSION

from .pages import PAGES

PAGE = PAGES["UPGRADING.md"]
ROOTS = {"training": ("train_reward", []), "reward": ("train", ["reward=reward_model"])}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_key_names_its_successor(old):
    new = RENAMED[old]
    root, chosen = ROOTS[old.partition(".")[0]]
    with pytest.raises(UserError) as told:
        composed(root, [*chosen, f"{old}=1"])
    assert str(told.value) == f"{old}: is called {new} now"
    composed(root, [*chosen, f"{new}=1"])
    assert re.search(rf"^\| `{old}`.* \| `{new}` \|$", PAGE, re.MULTILINE)


def test_so_does_one_of_the_judge():
    chosen = "reward@evaluation.reward=reward_model"
    with pytest.raises(UserError, match=r"is called evaluation\.reward\.tokens_per_forward now$"):
        composed("train", [chosen, "evaluation.reward.batch_size=4"])


def test_the_table_of_hash_versions_ends_with_todays():
    versions = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert versions == [str(number) for number in range(HASH_VERSION + 1)]
