"""A learning rate by model, set and objective."""

from __future__ import annotations

import pytest

from grao_bench.cli.rates import rate_of, untuned

TABLE = {
    "default": 1.0,
    "grpo": 2.0,
    "dapo": 3.0,
    "parents": {"dapo": "grpo", "gspo": "grpo", "twice": "gspo", "a": "b", "b": "a"},
    "helpful": {"grpo": 4.0, "gspo": 5.0},
}


@pytest.mark.parametrize(
    ("data", "objective", "rate"),
    [
        ("helpful", "grpo", 4.0),
        ("harmless", "grpo", 2.0),
        ("helpful", "gspo", 5.0),
        ("harmless", "gspo", 2.0),
        ("helpful", "dapo", 4.0),  # its parent's on the set comes before its own on any
        ("harmless", "dapo", 3.0),
        ("helpful", "twice", 5.0),
        ("helpful", "other", 1.0),
        ("helpful", "a", 1.0),
        ("grpo", "other", 1.0),  # a set of an objective's name is no set
    ],
)
def test_the_sets_line_then_its_parents_then_any_sets(data, objective, rate):
    assert rate_of(TABLE, data, objective).value == rate


def test_what_has_no_line_of_its_own_is_said_to_be_untuned():
    assert untuned(TABLE, "helpful", "grpo") == ""
    assert untuned(TABLE, "helpful", "dapo") == ("optimizer.lr=4: untuned for objective=dapo on data=helpful; grpo's rate")
    assert untuned(TABLE, "helpful", "mine").endswith("the table's default")
