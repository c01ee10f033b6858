"""Shaping: each shape's formula by hand, their order, and what a shaped source says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec
from grao_bench.core.specs import conf_dir, load, rebuild
from grao_bench.core.types import Answer, Example, Turn, Verdict
from grao_bench.evaluation.answers import compare
from grao_bench.rewards.gold import GoldReward
from grao_bench.rewards.shaping import (
    Clip,
    LengthPenalty,
    RepetitionPenalty,
    Shaped,
    SoftOverlong,
    UnfinishedScore,
    Whiten,
    repeated,
)

ANY = load("data/world_helpful")
EXAMPLE, OTHER = (Example(name, (Turn("user", "Hi"),), "2", None, "s") for name in ("e1", "e2"))


@dataclass(frozen=True)
class Written:
    """A source and its spec: the answer's text is its score; R is its sign against the reference's where it is pairwise."""

    pairwise: bool = False
    name: str = "written"
    fingerprint: str = "written"
    tie_margin: float = 0.0

    def needs_reference(self, data: DataSpec) -> bool:
        return self.pairwise

    def check(self, data: DataSpec | None) -> None: ...

    def build(self, data: DataSpec | None) -> Written:
        return self

    def score(self, requests):
        values = [float(request.text) for request in requests]
        if self.pairwise:
            values = [math.copysign(1.0, value - 2) if value != 2 else 0.0 for value in values]
        return [Verdict(value, self.name, {"said": value}) for value in values]


def shaped(*names: str, source: Any = None, **changed: object) -> Shaped:
    """The shapes of conf/reward/shaped.yaml, of which these are on."""
    values = yaml.safe_load((conf_dir() / "reward" / "shaped.yaml").read_text())
    values = {key: rebuild(value, "shaped.yaml") for key, value in values.items() if key not in ("defaults", "_target_")}
    return Shaped(**(values | {"source": source or Written(), "shaping": list(names)} | changed))


def request(text: str = "1", tokens: int | None = None, finished: bool = True, example: Example = EXAMPLE) -> RewardRequest:
    return RewardRequest(example, text, finished, tokens)


def rewards(spec: Shaped, *requests: RewardRequest) -> list[float]:
    return [verdict.reward for verdict in spec.build(ANY).score(requests)]


def test_a_length_penalty_per_token_over_the_target():
    spec = shaped("length", length=LengthPenalty(target=10, per_token=0.25))
    assert rewards(spec, request(tokens=1), request(tokens=10), request(tokens=11), request(tokens=14)) == [1.0, 1.0, 0.75, 0.0]


def test_soft_overlong_is_dapos_equation_13():
    """L_max 100, L_cache 20: 0 up to 80 tokens, -(|o| - 80) / 20 up to 100, -1 beyond."""
    spec = shaped("soft_overlong", soft_overlong=SoftOverlong(longest=100, cache=20))
    lengths = (1, 80, 81, 90, 100, 101, 500)
    assert rewards(spec, *(request("0", tokens=n) for n in lengths)) == pytest.approx([0, 0, -0.05, -0.5, -1, -1, -1])


def test_a_shape_that_counts_tokens_needs_them():
    for name in ("length", "soft_overlong"):
        with pytest.raises(UserError, match=rf"reward\.shaping={name}: needs answers with their token counts, and e1 came without"):
            rewards(shaped(name), request())


def test_an_unfinished_answer_gets_a_stated_score():
    spec = shaped("unfinished", unfinished=UnfinishedScore(score=-3.0))
    assert rewards(spec, request("5"), request("5", finished=False)) == [5.0, -3.0]


def test_a_dropped_answer_gets_the_mean_of_its_groups_finished_ones():
    """Group e1: finished 1 and 4, so 2.5; e2 has finished none: 0, like its others, so nothing there has an advantage."""
    asked = [request("1"), request("9", finished=False), request("4"), request("7", finished=False, example=OTHER)]
    found = rewards(shaped("drop_unfinished"), *asked)
    assert found == [1.0, 2.5, 4.0, 0.0]
    told = shaped("drop_unfinished").build(ANY).score(asked)
    assert [verdict.left_out for verdict in told] == [False, True, False, True]


def test_a_dropped_answer_is_set_aside_from_what_follows():
    """1, 3 and a dropped 90: whitened they are -1 and 1, and the dropped one has their mean."""
    asked = [request("1"), request("90", finished=False), request("3")]
    verdicts = shaped("drop_unfinished", "whiten").build(ANY).score(asked)
    assert [verdict.reward for verdict in verdicts] == [-1.0, 0.0, 1.0]
    assert [verdict.left_out for verdict in verdicts] == [False, True, False]
    assert verdicts[1].parts["drop_unfinished/reward"] == -90.0


def test_repeated_ngrams_cost():
    """ "a b a b a": bigrams ab ba ab ba, two of four came before; trigrams aba bab aba, one of three."""
    assert repeated("a b a b a", 2) == 0.5
    assert repeated("A, b! a B a.", 3) == pytest.approx(1 / 3)
    assert repeated("a b", 3) == 0.0
    assert repeated("", 1) == 0.0
    spec = shaped("repetition", repetition=RepetitionPenalty(ngram=1, scale=2.0))
    # "1 1 1 1" has 3 of 4 words again; float() reads one number
    assert rewards(spec, request("1")) == [1.0]
    assert spec.repetition.shape([1.0], [request("1 1 1 1")]) == [-0.5]


def test_clipping():
    spec = shaped("clip", clip=Clip(low=-1.0, high=2.0))
    assert rewards(spec, *(request(text) for text in ("-7", "-1", "0.5", "2", "9"))) == [-1.0, -1.0, 0.5, 2.0, 2.0]


def test_whitening():
    """1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5. Equal rewards become 0."""
    found = rewards(shaped("whiten"), *(request(text) for text in "1236"))
    assert found == pytest.approx([value / math.sqrt(3.5) for value in (-2, -1, 0, 3)])
    assert rewards(shaped("whiten"), *[request("0.1")] * 8) == [0.0] * 8
    assert Whiten().shape([], []) == []


def test_shapes_are_applied_in_the_order_given():
    """5 - 4 = 1, clipped to 1; clipped to 2 first, 2 - 4 = -2."""
    fields = {"length": LengthPenalty(target=0, per_token=1.0), "clip": Clip(low=-9.0, high=2.0)}
    assert rewards(shaped("length", "clip", **fields), request("5", tokens=4)) == [1.0]
    assert rewards(shaped("clip", "length", **fields), request("5", tokens=4)) == [-2.0]


def test_parts_say_what_each_shape_did():
    spec = shaped("length", "clip", length=LengthPenalty(target=0, per_token=1.0), clip=Clip(low=-0.5, high=0.5))
    (verdict,) = spec.build(ANY).score([request("5", tokens=2)])
    assert verdict.reward == 0.5
    assert verdict.parts == {"said": 5.0, "unshaped/reward": 5.0, "length/reward": -2.0, "clip/reward": -2.5}


def test_a_shaped_source_is_pointwise_and_compares_by_its_numbers():
    """R(o, y) = 1 for both answers; the long one pays 1.5 and loses against the reference, whose R is 0."""
    spec = shaped("length", source=Written(pairwise=True), length=LengthPenalty(target=4, per_token=0.5))
    assert isinstance(spec, RewardSpec)
    source = spec.build(ANY)
    assert isinstance(source, RewardSource)
    assert (source.pairwise, source.name) == (False, "written_length")
    verdicts = source.score([request("3", tokens=4), request("3", tokens=7), request("2", tokens=1)])
    assert [verdict.reward for verdict in verdicts] == [1.0, -0.5, 0.0]
    clipped = shaped("clip", source=Written(pairwise=True)).build(ANY)
    answers = [Answer(text, (), True) for text in ("3", "2", "1")]
    assert [R for R, _ in compare(clipped, [EXAMPLE] * 3, answers)] == [1.0, 0.0, -1.0]


def test_nothing_asked_for_is_the_source_itself():
    source = Written(pairwise=True)
    assert shaped(source=source).build(ANY) is source


def test_the_fingerprint_knows_the_shapes_that_are_on():
    one = shaped("clip").build(ANY).fingerprint
    assert one == shaped("clip", length=LengthPenalty(target=1, per_token=9.0)).build(ANY).fingerprint
    assert one != shaped("clip", clip=Clip(low=0.0, high=9.0)).build(ANY).fingerprint
    assert one != shaped("whiten").build(ANY).fingerprint


def test_what_is_not_a_number_is_not_shaped():
    with pytest.raises(UserError, match="reward source written: gave nan for e1"):
        rewards(shaped("clip"), request("nan"))


def test_the_sources_own_check_is_asked():
    with pytest.raises(UserError, match="has no gold judge"):
        shaped("clip", source=GoldReward("score", 0.0)).check(load("data/hh_helpful"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LengthPenalty(target=-1, per_token=0.1), r"reward\.length\.target=-1: must be at least 0"),
        (lambda: LengthPenalty(target=1, per_token=-0.1), r"reward\.length\.per_token=-0\.1: must be at least 0"),
        (lambda: SoftOverlong(longest=10, cache=11), r"reward\.soft_overlong\.cache=11: must be above 0 and at most longest=10"),
        (lambda: RepetitionPenalty(ngram=0, scale=1.0), r"reward\.repetition\.ngram=0: must be at least 1"),
        (lambda: Clip(low=1.0, high=1.0), r"reward\.clip\.low=1\.0: must be below clip\.high=1\.0"),
        (lambda: shaped("clip", "clip"), r"reward\.shaping=\['clip', 'clip'\]: must be a list of different shapes"),
        (lambda: replace(shaped("clip"), tie_margin=-1.0), r"reward\.tie_margin=-1\.0: must be at least 0"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_an_unknown_shape_is_refused():
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(UserError, match=r"reward\.shaping=lenght: must be one of length, unfinished, drop_unfinished"):
            shaped("lenght")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
