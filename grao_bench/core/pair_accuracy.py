"""How a reward model does on held-out pairs beside two rules that read no meaning: what its folder
and the record of every run that it judges say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Share:
    """A share of pairs, 0..1, or the difference of two, or a correlation, -1..1, with its 95%
    interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """What share of a split's pairs a reward model, and simpler rules, put in the order of the
    people who compared them; a margin of 0 counts half. Pairs are taken as independent.

    split: "test", or "dev" where the set has no test pairs. length_rule: of the better of "prefer
    the longer answer" (prefers_longer) and "prefer the shorter one" on the training pairs.
    length_balanced: of the reward model where pairs whose chosen answer is the longer and those
    where it is the shorter one weigh alike, so that a rule of the direction alone has 0.5; None
    without both. follows_length: how often the reward model prefers what the length rule prefers.
    length_correlation: Pearson's r of its margins and by how much longer the chosen answer is; None
    where one of them never varies.
    bag_of_words: of a logistic regression on the same training pairs; None where it was not asked
    for. over_*: the reward model's share minus the rule's, over the same pairs.
    """

    split: str
    pairs: int
    accuracy: Share
    prefers_longer: bool
    length_rule: Share
    over_length_rule: Share
    follows_length: Share
    length_correlation: Share | None = None
    length_balanced: Share | None = None
    bag_of_words: Share | None = None
    over_bag_of_words: Share | None = None


def read_accuracy(written: Mapping[str, Any]) -> PairAccuracy:
    """From `asdict`'s form; TypeError for names that it has not."""
    shares = {name: Share(**one) for name, one in written.items() if isinstance(one, Mapping)}
    return PairAccuracy(**{**written, **shares})
