"""Mixtures and routing: sums by hand, parts under their names, and each example's own source."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.records import JudgeCounts
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Example, Turn, Verdict
from grao_bench.data.world import WorldData, WorldJudge, oracle_answer
from grao_bench.evaluation.answers import compare
from grao_bench.rewards.gold import GoldReward
from grao_bench.rewards.mixture import Mixture, MixtureSource, Part, Routed, RoutedSource
from grao_bench.rewards.shaping import Clip, ShapedSource

GOLD, SCORE = GoldReward("ternary", 0.05), GoldReward("score", 0.05)
HELPFUL = WorldData("world_helpful", "helpful", 0, 5, 5, 5, 0.0, 5, "known")
HARMLESS = replace(HELPFUL, name="world_harmless", subset="harmless")
OTTERS = Example("o", (Turn("user", "Tell me about otters: what they eat and where they live."),), "Otters eat fish.", None, "helpful")
STEAL = Example("s", (Turn("user", "How do I steal a car? It is for a friend."),), "It is a crime.", None, "harmless")
FULL = "Otters eat fish. Otters live in rivers."


@dataclass(frozen=True)
class Length:
    """A source that counts characters, times a factor; it remembers nothing."""

    factor: float = 1.0
    name: str = "length"
    pairwise: bool = False
    tie_margin: float = 0.0

    @property
    def fingerprint(self) -> str:
        return f"length {self.factor}"

    def score(self, requests):
        return [
            Verdict(self.factor * len(request.text), self.name, {"characters": float(len(request.text))}, ("counted",))
            for request in requests
        ]


def mixture(**parts: tuple[RewardSpec, float]) -> Mixture:
    named = {name: Part(source=source, weight=weight) for name, (source, weight) in parts.items()}
    return Mixture(parts=named, missing="exclude", tie_margin=0.0)


def test_a_weighted_sum_with_its_parts():
    """R = 1 and s = 1 for the full answer: 2 x 1 - 0.5 x 1; R = 0 and s = 0.5 for the reference."""
    spec = mixture(verdict=(GOLD, 2.0), score=(SCORE, -0.5))
    assert isinstance(spec, RewardSpec)
    source = spec.build(HELPFUL)
    assert isinstance(source, RewardSource)
    assert (source.name, source.pairwise) == ("mixture", False)
    full, reference = source.score([RewardRequest(OTTERS, FULL, True), RewardRequest(OTTERS, OTTERS.chosen, True)])
    assert (full.reward, reference.reward) == (pytest.approx(1.5), pytest.approx(-0.25))
    assert full.parts == {
        "verdict/reward": 1.0,
        "verdict/coverage": 1.0,
        "verdict/score": 1.0,
        "verdict/reference_score": 0.5,
        "score/reward": 1.0,
        "score/coverage": 1.0,
        "score/score": 1.0,
    }


def test_an_evaluation_compares_the_sums():
    """The full answer's 1 + 1 against the reference's 0 + 0.5; a wrong one's -1 - 0.25; the reference ties with itself."""
    source = mixture(verdict=(GOLD, 1.0), score=(SCORE, 1.0)).build(HELPFUL)
    answers = [Answer(text, (), True) for text in (FULL, OTTERS.chosen, "Otters eat nuts.")]
    assert [R for R, _ in compare(source, [OTTERS] * 3, answers)] == [1.0, 0.0, -1.0]
    wide = replace(source, tie_margin=10.0)
    assert [R for R, _ in compare(wide, [OTTERS] * 3, answers)] == [0.0, 0.0, 0.0]


def test_replies_are_kept_and_order_does_not_matter():
    source = MixtureSource({"a": Length(), "b": Length(0.5)}, {"a": 1.0, "b": 2.0}, 0.0)
    texts = ["aaaa", "a", "aaa"]
    verdicts = source.score([RewardRequest(OTTERS, text, True) for text in texts])
    assert [verdict.reward for verdict in verdicts] == [8.0, 2.0, 6.0]
    assert verdicts[0].replies == ("counted", "counted")


def test_a_part_without_a_number_is_named():
    source = MixtureSource({"good": Length(), "broken": Length(math.nan)}, {"good": 1.0, "broken": 0.0}, 0.0)
    with pytest.raises(UserError, match=r"reward\.parts\.broken: gave a reward that is not a number"):
        source.score([RewardRequest(OTTERS, "x", True)])


def test_the_fingerprint_knows_parts_and_weights():
    sources = [MixtureSource({"a": Length(factor)}, {"a": weight}, 0.0) for factor, weight in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0))]
    assert len({source.fingerprint for source in sources}) == 3
    assert sources[0].fingerprint == MixtureSource({"a": Length()}, {"a": 1.0}, 0.0).fingerprint


def test_a_part_that_cannot_score_the_set_is_named_before_anything_is_trained():
    with pytest.raises(UserError, match=r"^reward\.parts\.truth\.source: reward=gold: data=hh_helpful has no gold judge"):
        mixture(truth=(GOLD, 1.0)).check(load("data/hh_helpful"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, r"reward\.parts: is empty"),
        ({"a/b": (GOLD, 1.0)}, r"reward\.parts\.a/b: names columns of the records"),
        ({"a": (GOLD, math.inf)}, r"reward\.parts\.a\.weight=inf: must be a finite number"),
    ],
)
def test_bad_parts(parts, message):
    with pytest.raises(UserError, match=message):
        mixture(**parts)


def test_each_subset_has_its_own_source():
    source = RoutedSource({"helpful": Length(), "harmless": Length(-1.0)}, "both", 0.0)
    requests = [RewardRequest(example, text, True) for example, text in ((STEAL, "aa"), (OTTERS, "aaa"), (STEAL, "a"), (OTTERS, ""))]
    verdicts = source.score(requests)
    assert [verdict.reward for verdict in verdicts] == [-2.0, 3.0, -1.0, 0.0]
    assert verdicts[0].parts == {"harmless/reward": -2.0, "harmless/characters": 2.0}
    assert (verdicts[0].source, source.pairwise) == ("routed", False)


def test_a_route_is_found_by_the_sets_name_or_its_subset():
    spec = Routed(routes={"helpful": GOLD, "world_harmless": SCORE}, tie_margin=0.0)
    helpful, harmless = spec.build(HELPFUL), spec.build(HARMLESS)
    assert (set(helpful.routes), helpful.pairwise) == ({"helpful"}, True)
    assert (set(harmless.routes), harmless.pairwise) == ({"world_harmless"}, False)
    (verdict,) = helpful.score([RewardRequest(OTTERS, FULL, True)])
    assert (verdict.reward, verdict.parts["helpful/score"]) == (1.0, 1.0)
    example = HARMLESS.build().test[0]
    assert harmless.score([RewardRequest(example, oracle_answer(example), True)])[0].reward == pytest.approx(1.0)


def test_only_the_route_that_is_taken_must_fit_the_set():
    """A reward model that is not there yet stands in nobody's way on the other set."""
    missing = load("reward/reward_model", path="runs/nowhere")
    spec = Routed(routes={"helpful": GOLD, "harmless": missing}, tie_margin=0.0)
    spec.check(HELPFUL)
    with pytest.raises(UserError, match=r"^reward\.routes\.harmless: reward\.path=runs/nowhere: no such folder"):
        spec.check(HARMLESS)


def test_no_route_is_a_users_error():
    spec = Routed(routes={"helpful": GOLD}, tie_margin=0.0)
    with pytest.raises(UserError, match=r"reward\.routes: none for data=world_harmless or its subset harmless; there are helpful"):
        spec.check(HARMLESS)
    with pytest.raises(UserError, match=r"reward\.routes: none for s of subset harmless; there are helpful"):
        spec.build(HELPFUL).score([RewardRequest(STEAL, "x", True)])


def test_a_set_whose_subsets_are_not_known_keeps_every_route():
    """data=jsonl: the routes are taken by its name, or else by the examples."""
    spec = Routed(
        routes={"helpful": load("reward/verifiable", rule="exact"), "jsonl": load("reward/verifiable", rule="numeric")}, tie_margin=0.0
    )
    assert set(spec.build(load("data/jsonl", train="x")).routes) == {"jsonl"}
    assert set(spec.build(load("data/jsonl", train="x", name="mine")).routes) == {"helpful", "jsonl"}


def test_pairwise_only_where_every_route_is():
    ternary = GOLD.source(WorldJudge())
    assert RoutedSource({"a": ternary, "b": ternary}, "x", 0.0).pairwise
    assert not RoutedSource({"a": ternary, "b": Length()}, "x", 0.0).pairwise


@dataclass(frozen=True)
class Silent:
    """A judge whose replies could not be read for answers that say nothing, and who tells how many."""

    name: str = "silent"
    pairwise: bool = True
    tie_margin: float = 0.0
    fingerprint: str = "silent"

    def score(self, requests):
        return [Verdict(None, "silent") if not one.text else Verdict(1.0, "silent") for one in requests]

    def statistics(self):
        return {"silent": JudgeCounts(excluded=0.5)}

    def texts(self):
        return {"judge_prompt-x.md": "asked so"}


def test_what_a_judge_could_not_say_stays_unsaid_through_mixtures_routes_and_shapes():
    requests = [RewardRequest(OTTERS, "", True), RewardRequest(OTTERS, "words", True)]
    mixed = MixtureSource({"judge": Silent()}, {"judge": 2.0}, 0.0)
    routed = RoutedSource({"here": Silent()}, "here", 0.0)

    assert [one.reward for one in mixed.score(requests)] == [None, 2.0]
    assert [one.reward for one in routed.score(requests)] == [None, 1.0]
    assert [one.parts for one in mixed.score(requests)] == [{}, {"judge/reward": 1.0}]
    assert [one.parts for one in routed.score(requests)] == [{}, {"here/reward": 1.0}]
    assert mixed.statistics() == {"judge/silent": JudgeCounts(excluded=0.5)}
    assert routed.statistics() == {"here/silent": JudgeCounts(excluded=0.5)}
    shaped = replace(load("reward/shaped", source=load("reward/gold")), shaping=["clip"], clip=Clip(low=0.0, high=0.5))
    assert [one.reward for one in ShapedSource(shaped, Silent()).score(requests)] == [None, 0.5]
    assert mixed.texts() == routed.texts() == {"judge_prompt-x.md": "asked so"}
