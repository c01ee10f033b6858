"""What a hyper-parameter may be, said where the objective is made, so that a number that means nothing never trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from grao_bench.core.errors import UserError


class Rule(NamedTuple):
    """A condition on a number, and how a message says it."""

    holds: Callable[[float], bool]
    says: str


NOT_NEGATIVE = Rule(lambda x: x >= 0, "must be at least 0")
ABOVE_ZERO = Rule(lambda x: x > 0, "must be above 0")
FRACTION = Rule(lambda x: 0 <= x <= 1, "must lie between 0 and 1")
BELOW_HALF = Rule(lambda x: 0 <= x < 0.5, "must be at least 0 and below 0.5")


def require(spec: Any, **rules: Rule) -> None:
    """UserError naming objective.<field> for the first of these fields that breaks its rule or isn't finite.

    What is no number is left to `check_types`, which says so.
    """
    for field, rule in rules.items():
        value = getattr(spec, field)
        if isinstance(value, int | float) and not (math.isfinite(value) and rule.holds(value)):
            raise UserError(f"objective.{field}={value}: {rule.says}")


def require_rollouts(spec: Any) -> None:
    """UserError where an objective that learns from sampled answers asks for none."""
    require(spec, rollouts=Rule(lambda n: n >= 1, f"{spec.name} learns from sampled answers; use at least 1"))
