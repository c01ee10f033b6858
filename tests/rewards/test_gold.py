"""The gold reward: ternary verdicts and scores, with the embedded world's judge and with scores written by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset, RewardRequest
from grao_bench.core.records import Criteria
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec
from grao_bench.core.types import Example, Turn
from grao_bench.data.world import WorldData, WorldJudge, oracle_answer
from grao_bench.rewards.gold import GoldReward, Mode

ROOT = Path(__file__).resolve().parents[2]
OTTERS = Example(
    "world_helpful-test-00000",
    (Turn("user", "Tell me about otters: what they eat and where they live."),),
    "Otters eat fish.",
    None,
    "helpful",
)
FULL = "Otters eat fish. Otters live in rivers."


@dataclass
class WrittenScores:
    """A judge whose scores are written down, and which remembers what it was asked."""

    scores: dict[str, float]
    asked: list[str] = field(default_factory=list)

    def score(self, example: Example, text: str, finished: bool) -> tuple[float, dict[str, float]]:
        self.asked.append(text)
        return self.scores[text], {"written": self.scores[text]}


def request(text: str, finished: bool = True, example: Example = OTTERS) -> RewardRequest:
    return RewardRequest(example, text, finished)


def test_ternary_wins_ties_and_loses_against_the_reference() -> None:
    source = GoldReward("ternary", 0.05).source(WorldJudge())
    verdicts = source.score([request(FULL), request("The food of otters is fish."), request("Otters eat nuts."), request("")])
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, -1.0, -1.0]
    assert (source.name, source.pairwise, source.tie_margin) == ("gold", True, 0.05)
    assert verdicts[0].source == "gold"
    assert verdicts[0].parts == {"coverage": 1.0, "score": 1.0, "reference_score": 0.5}


def test_the_references_own_parts_are_told_and_it_is_judged_once() -> None:
    judge = WrittenScores({"Otters eat fish.": 0.25, "a": 0.5, "b": 0.0})
    verdicts = GoldReward("ternary", 0.05).source(judge).score([request("a"), request("b")])
    told = [verdict.reference_parts for verdict in verdicts]
    assert told == [{"written": 0.25, "score": 0.25}] * 2
    assert judge.asked.count("Otters eat fish.") == 1


class Checking(WrittenScores):
    """One that also says right or wrong, and what its criterion is of."""

    criterion_kinds: ClassVar[dict[str, str]] = {"written": "content"}

    def correct(self, example: Example, text: str, finished: bool) -> bool:
        return finished and self.scores[text] == 1.0


@pytest.mark.parametrize("mode", ["ternary", "score"])
def test_what_a_judge_says_beside_its_score_is_passed_on(mode: Mode) -> None:
    judge = Checking({"Otters eat fish.": 0.25, "a": 1.0, "b": 0.5})
    source = GoldReward(mode, 0.05).source(judge)
    asked = [request("a"), request("a", finished=False), request("b")]
    assert [verdict.correct for verdict in source.score(asked)] == [True, False, False]
    assert source.criteria == Criteria("score", {"written": "content"})
    plain = GoldReward(mode, 0.05).source(WrittenScores({"Otters eat fish.": 0.0, "a": 1.0}))
    assert (plain.criteria, plain.score([request("a")])[0].correct) == (None, None)


def test_an_unfinished_answer_loses_whatever_it_says() -> None:
    (verdict,) = GoldReward("ternary", 0.05).source(WorldJudge()).score([request(FULL, finished=False)])
    assert verdict.reward == -1.0
    assert verdict.parts["score"] == pytest.approx(1.0 - 0.20)
    assert verdict.parts["unfinished"] == -0.20


def test_the_reference_ties_with_itself() -> None:
    for band in (0.0, 0.05):
        (verdict,) = GoldReward("ternary", band).source(WorldJudge()).score([request(OTTERS.chosen)])
        assert verdict.reward == 0.0


@pytest.mark.parametrize(
    ("score", "reward"), [(0.30, 0.0), (0.34, 0.0), (0.35, 1.0), (0.36, 1.0), (0.26, 0.0), (0.25, -1.0), (0.24, -1.0), (0.3499999, 0.0)]
)
def test_tie_band_edges(score: float, reward: float) -> None:
    # 0.35 - 0.30 is 0.04999... in floats, and 0.30 - 0.25 too: the band's edge is decided as written
    example = Example("e", (), "y", None, "s")
    source = GoldReward("ternary", 0.05).source(WrittenScores({"y": 0.30, "o": score}))
    assert source.score([request("o", example=example)])[0].reward == reward


def test_without_a_band_the_smallest_difference_decides() -> None:
    example = Example("e", (), "y", None, "s")
    source = GoldReward("ternary", 0.0).source(WrittenScores({"y": 0.30, "same": 0.30, "more": 0.301, "less": 0.299}))
    assert [verdict.reward for verdict in source.score([request(text, example=example) for text in ("same", "more", "less")])] == [
        0.0,
        1.0,
        -1.0,
    ]


def test_each_reference_is_scored_once() -> None:
    examples = [Example(name, (), "y", None, "s") for name in "ab"]
    judge = WrittenScores({"y": 0.3, "o": 0.9})
    source = GoldReward("ternary", 0.05).source(judge)
    for _ in range(3):
        source.score([request("o", example=example) for example in examples])
    assert judge.asked.count("y") == 2
    assert judge.asked.count("o") == 6


def test_an_example_of_the_same_id_with_another_reference_is_another_example() -> None:
    judge = WrittenScores({"low": 0.0, "high": 0.9, "o": 0.5})
    source = GoldReward("ternary", 0.05).source(judge)
    verdicts = source.score([request("o", example=Example("e", (), chosen, None, "s")) for chosen in ("low", "high")])
    assert [verdict.reward for verdict in verdicts] == [1.0, -1.0]


def test_score_mode_gives_the_judges_number() -> None:
    source = GoldReward("score", 0.05).source(WorldJudge())
    verdicts = source.score([request(FULL), request(FULL, finished=False), request(OTTERS.chosen)])
    assert [verdict.reward for verdict in verdicts] == pytest.approx([1.0, 0.8, 0.5])
    assert (source.name, source.pairwise, source.tie_margin) == ("gold_score", False, 0.05)
    assert verdicts[1].parts == {"coverage": 1.0, "unfinished": -0.20, "score": 0.8}


def test_the_set_offers_its_own_judge() -> None:
    world = WorldData("world_helpful", "helpful", 0, 5, 5, 5, 0.0, 5, "known")
    reward = GoldReward("ternary", 0.05)
    assert isinstance(reward, RewardSpec)
    reward.check(world)
    example = world.build().test[0]
    verdicts = reward.build(world).score(
        [request(text, example=example) for text in (oracle_answer(example), example.chosen, example.rejected)]
    )
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, -1.0]


@dataclass(frozen=True)
class Judgeless:
    """A data set without a gold judge."""

    name: str = "hh_helpful"
    provides: ClassVar[frozenset[str]] = frozenset({"chosen"})

    def build(self) -> Dataset:
        return Dataset(self.name, "helpful", (), (), (), {})

    def corpus(self) -> list[str]:
        return []

    def siblings(self) -> tuple[DataSpec, ...]:
        return (self,)


def test_a_set_without_a_judge_is_refused_before_training() -> None:
    for refuse in (GoldReward("score", 0.05).check, GoldReward("ternary", 0.05).build):
        with pytest.raises(UserError, match=r"reward=gold: data=hh_helpful has no gold judge, .*use reward=reward_model"):
            refuse(Judgeless())


def test_no_requests_give_no_verdicts() -> None:
    assert GoldReward("ternary", 0.05).source(WorldJudge()).score([]) == []


def test_bad_fields_are_a_users_error() -> None:
    with pytest.raises(UserError, match=r"reward\.tie_band=-1\.0: must not be negative"):
        GoldReward("score", -1.0)


@pytest.mark.parametrize(("name", "mode"), [("gold", "ternary"), ("gold_score", "score")])
def test_the_yaml_spells_every_field(name: str, mode: str) -> None:
    values = yaml.safe_load((ROOT / f"conf/reward/{name}.yaml").read_text())
    assert values.pop("_target_") == "grao_bench.rewards.gold.GoldReward"
    assert list(values) == [item.name for item in fields(GoldReward)]
    assert GoldReward(**values) == GoldReward(mode, 0.05)
