"""Trying a reward on a few answers before it is needed, without what costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.ops import is_reward


@runtime_checkable
class Tried(Protocol):
    """A reward source that costs something to ask, or is made of others that may."""

    def try_out(self, requests: Sequence[RewardRequest]) -> None:
        """Find out, as far as that is free, whether it can score; UserError where it can't."""
        ...


def try_source(source: RewardSource, requests: Sequence[RewardRequest]) -> None:
    """UserError where a source does not give a number, or None, for each of these answers."""
    if isinstance(source, Tried):
        source.try_out(requests)
        return
    verdicts = source.score(requests)
    if len(verdicts) != len(requests):
        what = f"gave {len(verdicts)} verdicts for {len(requests)} answers"
        raise UserError(f"reward source {source.name}: {what}; it must give one for each, in order")
    for verdict in verdicts:
        if verdict.reward is not None and not is_reward(verdict.reward):
            what = f"gave {verdict.reward} for an answer"
            raise UserError(f"reward source {source.name}: {what}; it must give a finite number")
