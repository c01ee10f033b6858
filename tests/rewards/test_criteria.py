"""How rewards that are made of others split: by hand, and as sums that come out."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest

from grao_bench.core.interfaces import ItemisedSource, RewardRequest
from grao_bench.core.records import Criteria
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn, Verdict
from grao_bench.rewards.criteria import criteria_of
from grao_bench.rewards.gold import GoldReward
from grao_bench.rewards.mixture import MixtureSource, RoutedSource
from grao_bench.rewards.shaping import LengthPenalty, ShapedSource

from .test_shaping import Written, shaped

EXAMPLE = Example("e", (Turn("user", "Hi"),), "b", None, "s")
SCORES = {"a": {"facts": 0.5, "tone": 0.25}, "b": {"facts": 0.25}}


class Itemised:
    """A judge whose criteria are written down, and which knows right from wrong."""

    criterion_kinds: ClassVar[dict[str, str]] = {"facts": "content", "tone": "manners"}

    def score(self, example: Example, text: str, finished: bool) -> tuple[float, dict[str, float]]:
        return math.fsum(SCORES[text].values()), SCORES[text]

    def correct(self, example: Example, text: str, finished: bool) -> bool:
        return text == "a"


VERDICT, SCORE = (GoldReward(mode, 0.05).source(Itemised()) for mode in ("ternary", "score"))


def ask(source: Any, text: str = "a") -> Verdict:
    return source.score([RewardRequest(EXAMPLE, text, True, 7)])[0]


def total(source: Any, text: str = "a") -> float:
    criteria, parts = criteria_of(source), ask(source, text).parts
    assert criteria is not None
    return sum(criteria.weights.get(name, 1.0) * parts.get(name, 0.0) for name in criteria.kinds)


def test_a_mixture_splits_what_splits_and_keeps_a_sign_whole():
    parts = {"score": SCORE, "sign": VERDICT, "plain": Numbered()}
    source = MixtureSource(parts, {"score": 2.0, "sign": 0.5, "plain": -1.0}, 0.0)
    assert isinstance(source, ItemisedSource)
    found = source.criteria
    assert found == Criteria(
        "reward",
        {
            "score/facts": "content",
            "score/tone": "manners",
            "sign/reward": "sign",
            "plain/reward": "plain",
        },
        {"score/facts": 2.0, "score/tone": 2.0, "sign/reward": 0.5, "plain/reward": -1.0},
    )
    # 2 x 0.75 + 0.5 x 1 - 3
    assert ask(source).reward == pytest.approx(total(source)) == pytest.approx(-1.0)
    assert (ask(source).correct, ask(source, "b").correct) == (True, False)


class Numbered:
    name, pairwise, fingerprint, tie_margin = "numbered", False, "", 0.0

    def score(self, requests: Any) -> list[Verdict]:
        return [Verdict(3.0, self.name) for _ in requests]


def test_one_route_splits_as_its_source_does():
    source = RoutedSource({"helpful": VERDICT}, "helpful", 0.0)
    kinds = {"helpful/facts": "content", "helpful/tone": "manners"}
    assert source.criteria == Criteria("helpful/score", kinds)
    verdict = ask(source)
    assert verdict.parts["helpful/score"] == pytest.approx(total(source)) == pytest.approx(0.75)
    assert verdict.reference_parts == {"helpful/facts": 0.25, "helpful/score": 0.25}
    assert verdict.correct
    assert RoutedSource({"x": Numbered()}, "x", 0.0).criteria is None
    both = RoutedSource({"x": Numbered(), "s": SCORE}, "else", 0.0)
    assert both.criteria == Criteria("reward", {"x/reward": "x", "s/facts": "content", "s/tone": "manners"})
    assert ask(both).reward == pytest.approx(total(both))


def test_shapes_are_form_and_the_shaped_reward_is_the_sum():
    """Seven tokens, two over five, each -0.25."""
    spec = shaped("length", "clip", length=LengthPenalty(target=5, per_token=0.25))
    source = ShapedSource(spec, SCORE)
    assert source.criteria.kinds == {
        "facts": "content",
        "tone": "manners",
        "length/reward": "form",
        "clip/reward": "clip",
    }
    assert ask(source).reward == pytest.approx(total(source)) == pytest.approx(0.25)
    assert ask(source).correct
    sign = ShapedSource(spec, Written(pairwise=True))
    assert list(sign.criteria.kinds) == ["unshaped/reward", "length/reward", "clip/reward"]


def test_a_rule_is_content():
    source = load("reward/verifiable", rule="numeric").build(load("data/world_helpful"))
    assert source.criteria == Criteria("reward", {"correct": "content"})


def test_a_source_that_says_nothing_of_it_has_none():
    assert criteria_of(Numbered()) is None
