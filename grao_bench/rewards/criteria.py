"""How rewards split by criterion, also those that are made of others."""

from __future__ import annotations

from grao_bench.core.interfaces import ItemisedSource, RewardSource
from grao_bench.core.records import Criteria


def criteria_of(source: RewardSource) -> Criteria | None:
    """How a source's number splits; None where it does not say."""
    return source.criteria if isinstance(source, ItemisedSource) else None


def split_of(source: RewardSource, name: str) -> Criteria:
    """How the reward of a part called `name` splits, by the names that its parts have in the whole.
    What does not split is one criterion, and a kind of its own: a sign can't be split, whatever
    becomes of the scores that it is of."""
    found = None if source.pairwise else criteria_of(source)
    if found is None:
        return Criteria("reward", {f"{name}/reward": name})
    return Criteria(
        "reward",
        {f"{name}/{key}": kind for key, kind in found.kinds.items()},
        {f"{name}/{key}": weight for key, weight in found.weights.items()},
    )
