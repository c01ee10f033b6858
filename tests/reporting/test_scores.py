"""Scores against a six-prompt example worked by hand, and the identity between RAS and nag_mean."""

from __future__ import annotations

from itertools import product

import pytest

from grao_bench.errors import UserError
from grao_bench.records import EvalRecord
from grao_bench.reporting.scores import per_prompt, scores

from .records import evaluation

# prompt        p0  p1  p2  p3  p4  p5
POST = (1.0, 1.0, 1.0, 0.0, 0.0, -1.0)
PRE = (-1.0, 1.0, 0.0, 0.0, 1.0, 0.0)
# post - pre     2   0   1   0  -1  -1      sum 1, signs +2 -2, better 2 of 6


@pytest.mark.parametrize(("ties", "ras"), [("loss", 3 / 6), ("win", 5 / 6), ("half", 4 / 6)])
def test_ras_in_its_three_readings(ties, ras):
    assert scores(evaluation(POST), ties=ties)["ras"] == pytest.approx(100 * ras)


@pytest.mark.parametrize("ties", ["loss", "win", "half"])
def test_nags_by_hand_whatever_the_reading_of_ties(ties):
    found = scores(evaluation(POST), evaluation(PRE), ties)
    assert found["nag_mean"] == pytest.approx(100 * 1 / 6)
    assert found["nag_net"] == pytest.approx(0.0)
    assert found["nag_win"] == pytest.approx(100 * 2 / 6)


def test_shares_reward_length_and_truncation():
    records = evaluation(POST, finished=[True, True, False, True, True, True])
    found = scores(records)
    assert (found["win"], found["tie"], found["loss"]) == pytest.approx((50, 100 / 3, 50 / 3))
    assert found["reward"] == pytest.approx(2 / 6)
    assert found["length"] == pytest.approx(12.5)
    assert found["truncated"] == pytest.approx(100 / 6)
    assert "nag_mean" not in found


def test_half_verdicts_of_a_judge_asked_in_both_orders():
    found = scores(evaluation([0.5, -0.5, 0.0, 1.0]), evaluation([-1.0, 0.0, 0.0, 1.0]))
    assert (found["win"], found["tie"], found["loss"]) == (50, 25, 25)
    assert found["nag_mean"] == pytest.approx(100 * (1.5 - 0.5) / 4)
    assert found["nag_net"] == pytest.approx(0)


def test_without_ties_nag_mean_is_twice_the_gain_in_ras():
    for post, pre in product(product((-1.0, 1.0), repeat=3), repeat=2):
        found = scores(evaluation(post), evaluation(pre))
        assert found["nag_mean"] == pytest.approx(2 * (found["ras"] - scores(evaluation(pre))["ras"]))


def test_the_base_is_joined_by_id_not_by_place():
    shuffled = [evaluation(PRE)[i] for i in (3, 0, 5, 1, 4, 2)]
    assert per_prompt(evaluation(POST), shuffled)["nag_mean"].tolist() == [200, 0, 100, 0, -100, -100]


def test_other_prompts_than_the_base_are_refused():
    with pytest.raises(UserError, match=r"'p5'.*only one of the run and its base"):
        scores(evaluation(POST), evaluation(PRE[:5]))


def test_a_prompt_answered_twice_is_refused():
    twice = [EvalRecord("p0", 1.0, 1.0, 3, True), EvalRecord("p0", -1.0, -1.0, 3, True)]
    with pytest.raises(UserError, match=r"'p0'.*twice"):
        scores(twice)
