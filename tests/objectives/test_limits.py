"""A hyper-parameter that means nothing is refused where the objective is made, by its key."""

from __future__ import annotations

import math

import jaxtyping
import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.values import check_types
from grao_bench.objectives import load_objective

NOT_NEGATIVE = "must be at least 0"
ABOVE_ZERO = "must be above 0"
FRACTION = "must lie between 0 and 1"
BELOW_HALF = "must be at least 0 and below 0.5"
ROLLOUTS = "{name} learns from sampled answers; use at least 1"

REFUSED = [
    ("dpo", "beta", -0.1, ABOVE_ZERO),
    ("dpo", "beta", 0.0, ABOVE_ZERO),
    ("dpo", "beta", math.nan, ABOVE_ZERO),
    ("dpo", "beta", math.inf, ABOVE_ZERO),
    ("cdpo", "label_smoothing", -0.01, BELOW_HALF),
    ("cdpo", "label_smoothing", 0.5, BELOW_HALF),
    ("ipo", "beta", 0.0, ABOVE_ZERO),
    ("grpo", "rollouts", 0, ROLLOUTS),
    ("grpo", "clip_low", -0.2, NOT_NEGATIVE),
    ("grpo", "clip_high", -0.2, NOT_NEGATIVE),
    ("grpo", "kl", -0.02, NOT_NEGATIVE),
    ("dr_grpo", "max_tokens", 0, ABOVE_ZERO),
    ("ppo", "rollouts", 0, ROLLOUTS),
    ("ppo", "kl", -0.02, NOT_NEGATIVE),
    ("ppo", "gamma", 1.01, FRACTION),
    ("ppo", "gamma", -0.01, FRACTION),
    ("ppo", "lam", 1.01, FRACTION),
    ("ppo", "lam", -0.01, FRACTION),
    ("ppo", "clip", -0.2, NOT_NEGATIVE),
    ("ppo", "value_clip", -0.2, NOT_NEGATIVE),
    ("ppo", "value_coef", -0.5, NOT_NEGATIVE),
    ("ppo", "value_only_steps", -1, NOT_NEGATIVE),
    *[
        (name, field, -1 if field == "rollouts" else -0.5, ROLLOUTS if field == "rollouts" else NOT_NEGATIVE)
        for name in ("grao", "grao_clip0", "grao_no_exploration_at_all")
        for field in ("rollouts", "alpha", "beta", "lam")
    ],
]


@pytest.mark.parametrize(("name", "field", "value", "rule"), REFUSED)
def test_a_number_that_means_nothing_names_its_key(name, field, value, rule):
    with pytest.raises(UserError) as raised:
        load_objective(name, **{field: value})
    assert str(raised.value) == f"objective.{field}={value}: {rule.format(name=name)}"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dpo", {"label_smoothing": 0.0}),
        ("dpo", {"label_smoothing": 0.499}),
        ("grpo", {"rollouts": 1, "clip_low": 0.0, "clip_high": 0.0, "kl": 0.0}),
        ("ppo", {"rollouts": 1, "kl": 0.0, "gamma": 0.0, "lam": 0.0, "clip": 0.0, "value_clip": 0.0, "value_coef": 0.0}),
        ("ppo", {"gamma": 1.0, "lam": 1.0, "value_only_steps": 0}),
        ("grao", {"rollouts": 1, "alpha": 0.0, "beta": 0.0, "lam": 0.0}),
    ],
)
def test_the_ends_of_every_range_are_legal(name, fields):
    objective = load_objective(name, **fields)
    assert {field: getattr(objective, field) for field in fields} == fields


def test_a_constant_length_needs_its_constant():
    with pytest.raises(UserError) as raised:
        load_objective("dr_grpo", max_tokens=None)
    expected = "objective.max_tokens=None: reduction=constant_length divides by it; set it to budget.max_answer_tokens"
    assert str(raised.value) == expected
    assert load_objective("dr_grpo", max_tokens=1).max_tokens == 1


@pytest.fixture
def as_installed():
    """Without the signature checks that the tests run under, which a user's installation has not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("name", "field"), [("dpo", "beta"), ("grpo", "kl"), ("dr_grpo", "max_tokens"), ("grao", "rollouts")])
@pytest.mark.usefixtures("as_installed")
def test_what_is_no_number_is_left_to_the_types_check(name, field):
    with pytest.raises(UserError, match=rf"^objective\.{field}='much': expected "):
        check_types(load_objective(name, **{field: "much"}), "objective")


@pytest.mark.parametrize("reduction", ["answer_mean", "token_mean"])
def test_a_constant_that_nothing_reads_is_refused(reduction):
    with pytest.raises(UserError) as raised:
        load_objective("grpo", reduction=reduction, max_tokens=64)
    assert str(raised.value) == f"objective.max_tokens=64: reduction={reduction} doesn't read it; set it to null"
