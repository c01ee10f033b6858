"""Scores against a six-prompt example worked by hand, and the identity between RAS and nag_mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from grao_bench.core.errors import UserError
from grao_bench.core.records import EvalRecord, repetition_of
from grao_bench.reporting.gather.scores import (
    answer_error,
    length_controlled,
    length_difference,
    per_answer,
    per_prompt,
    reward_statistics,
    scores,
)

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


def test_without_references_only_what_needs_none_is_scored():
    """Rewards 1, 1, 0.5 -> 2.5/3; the base's records change nothing."""
    rewards = (1.0, 1.0, 0.5)
    post = [replace(one, verdict=None, reward=reward) for one, reward in zip(evaluation((0, 0, 0)), rewards, strict=True)]
    found = scores(post, post)
    assert found["reward"] == pytest.approx(2.5 / 3)
    assert found["length"] == pytest.approx(11)
    assert set(found) == {"reward", "length", "truncated", "distinct_1", "distinct_2", "repetition"}


def test_where_some_prompts_have_a_reference_the_scores_are_over_those():
    post = [replace(one, verdict=None) if i > 3 else one for i, one in enumerate(evaluation(POST))]
    pre = [replace(one, verdict=None) if i > 3 else one for i, one in enumerate(evaluation(PRE))]
    assert scores(post, pre) == scores(evaluation(POST[:4]), evaluation(PRE[:4]))


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


def test_repetition_by_hand():
    # a b a b a b: 2 of 6 words differ, ab ba of 5 pairs; 4-grams abab baba abab
    assert repetition_of("A b a B, a b.") == {"distinct_1": 0.3333, "distinct_2": 0.4, "repetition": 0.3333}
    assert repetition_of("one two three") == {"distinct_1": 1.0, "distinct_2": 1.0, "repetition": 0.0}
    assert repetition_of("") == {"distinct_1": 1.0, "distinct_2": 1.0, "repetition": 0.0}


def test_repetition_comes_from_the_fields_or_else_from_the_text_and_is_absent_without_both():
    stored = replace(EvalRecord("p0", 1.0, 1.0, 3, True), distinct_1=0.5, distinct_2=0.25, repetition=0.75)
    text = EvalRecord("p1", 1.0, 1.0, 3, True, answer="a a", reference="b")
    assert scores([stored])["repetition"] == 75.0
    assert scores([stored, text])["distinct_1"] == 50.0
    assert not {"distinct_1", "distinct_2", "repetition"} & scores([stored, EvalRecord("p2", 1.0, 1.0, 3, True)]).keys()


def test_reward_statistics_by_hand():
    records = [EvalRecord(f"p{i}", 0.0, float(value), 1, True) for i, value in enumerate((1, 2, 3, 4, 10))]
    found = reward_statistics(records)
    assert found == {"mean": 4.0, "variance": 12.5, "min": 1.0, "q1": 2.0, "median": 3.0, "q3": 4.0, "max": 10.0}


def test_lengths_differ_in_tokens_where_known_else_in_words():
    tokens = [replace(EvalRecord("p0", 1.0, 1.0, 7, True, answer="a b c", reference="a"), reference_tokens=10)]
    words = [EvalRecord("p1", 1.0, 1.0, 7, True, answer="a b c", reference="a")]
    assert length_difference(tokens).tolist() == [-3]
    assert length_difference(words).tolist() == [2]
    assert length_difference([*tokens, *words]).tolist() == [2, 2]
    assert length_difference([*tokens, EvalRecord("p2", 1.0, 1.0, 7, True)]) is None
    assert scores(tokens)["reference_length"] == 10


def simulated(seed, n=800, effect=1.5, even=0.4):
    """Wins that depend on length: logit p = logit(even) + effect * tanh(difference / its sd); answers are mostly longer."""
    random = np.random.default_rng(seed)
    difference = random.normal(12, 8, n)
    p = special.expit(special.logit(even) + effect * np.tanh(difference / difference.std()))
    return (random.random(n) < p).astype(float), difference


def test_length_controlled_is_sklearns_ridge_regression_at_no_difference():
    win, difference = simulated(0)
    x = np.tanh(difference / difference.std())[:, None]
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, win).predict_proba([[0.0]])[0, 1]
    assert length_controlled(win, difference).mean() == pytest.approx(theirs, abs=1e-6)


def test_length_controlled_finds_the_rate_at_equal_length_and_its_spread_is_that_of_refits():
    columns = [length_controlled(*simulated(seed)) for seed in range(150)]
    rates = np.array([column.mean() for column in columns])
    assert rates.mean() == pytest.approx(0.4, abs=0.02), "the ridge on phi leaves about a point of the effect"
    assert np.mean([simulated(seed)[0].mean() for seed in range(20)]) > 0.6, "without control length wins"
    errors = np.array([column.std(ddof=1) / len(column) ** 0.5 for column in columns])
    assert errors.mean() == pytest.approx(rates.std(ddof=1), rel=0.15)


@pytest.mark.parametrize("win", [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.5]])
def test_nothing_to_control_for_leaves_the_wins_as_they_are(win):
    equal = np.array(win)
    assert length_controlled(equal, np.zeros(3)).tolist() == win
    if len(set(win)) == 1:
        assert length_controlled(equal, np.array([1.0, 2.0, 3.0])).tolist() == win


def test_length_that_separates_wins_from_losses_stays_finite():
    column = length_controlled(np.array([0.0] * 20 + [1.0] * 20), np.concatenate([np.full(20, -5.0), np.full(20, 5.0)]))
    assert column.mean() == pytest.approx(0.5, abs=1e-6)


def test_stored_lengths_give_the_controlled_ras_its_column():
    win, difference = simulated(1, n=60)
    records = [
        replace(EvalRecord(f"p{i}", 1.0 if w else -1.0, 0.0, 100 + round(d), True), reference_tokens=100)
        for i, (w, d) in enumerate(zip(win, difference, strict=True))
    ]
    expected = 100 * length_controlled(win, np.round(difference)).mean()
    assert scores(records)["ras_lc"] == pytest.approx(expected)
    assert "ras_lc" not in scores(evaluation(POST))


def answers(verdicts: Mapping[str, Sequence[float]], **more: Any) -> list[EvalRecord]:
    """A record for each prompt's draws, of 10, 11, ... tokens."""
    return [
        EvalRecord(name, float(R), float(R), 10 + draw, True, draw=draw, **more)
        for name, row in verdicts.items()
        for draw, R in enumerate(row)
    ]


def test_a_prompts_score_is_the_mean_over_its_answers():
    """p0: one win of two, p1: none; the base wins half of p0's and ties p1's."""
    post = answers({"p0": (1, -1), "p1": (0, -1)})
    pre = answers({"p0": (-1, 1), "p1": (0, 0)})
    frame = per_prompt(post, pre)
    assert frame["ras"].tolist() == [50, 0]
    assert frame["nag_mean"].tolist() == [0, -50]  # 0 - 0 and -1/2 - 0
    # by the base's answer of the same draw: +1 -1 and 0 -1
    assert frame["nag_net"].tolist() == [0, -50]
    assert frame["nag_win"].tolist() == [50, 0]
    assert frame["length"].tolist() == [10.5, 10.5]
    assert per_prompt(post[::2], pre)["nag_mean"].tolist() == [100, 0]  # one answer against two
    one = per_prompt(post, pre[::2])
    assert one["nag_mean"].tolist() == [100, -50]
    assert one["nag_net"].tolist() == [100, 0]  # the second draw has nothing beside it


def test_the_error_of_drawing_a_few_answers_by_hand():
    """p0's wins are 100 and 0, variance 5000, over 2 answers; p1's 0 and 0: sqrt(2500) / 2."""
    frame = per_answer(answers({"p0": (1, -1), "p1": (-1, -1)}))
    assert answer_error(frame)["ras"] == pytest.approx(25.0)
    assert math.isnan(answer_error(per_answer(answers({"p0": (1,), "p1": (1, -1)})))["ras"])


def test_an_answer_without_a_verdict_takes_its_twin_with_it_and_no_more():
    """p0's first answer is lost in the run and so in the base; p1 is lost whole in the base."""
    post, pre = (answers({"p0": (-1, 1), "p1": (1, 1), "p2": (0, 0)}) for _ in range(2))
    post[0] = replace(post[0], excluded=True)
    pre = [replace(one, excluded=one.example_id == "p1") for one in pre]
    frame = per_prompt(post, pre)
    assert frame.index.get_level_values("example_id").tolist() == ["p0", "p2"]
    assert frame["win"].tolist() == [100, 0]


def test_the_frames_name_each_prompts_cluster():
    post = [*answers({"p0": (1, 0)}, cluster="otters"), *answers({"p1": (0, 0)})]
    assert per_prompt(post).index.tolist() == [("otters", "p0"), ("p1", "p1")]
    assert per_answer(post).index.tolist()[1] == ("otters", "p0", 1)


def test_right_answers_are_counted_where_all_say_so():
    post = answers({"p0": (1, 1), "p1": (1, 1)}, correct=True)
    post[3] = replace(post[3], correct=False)
    assert scores(post)["correct"] == 75
    assert "correct" not in scores([*post, *answers({"p2": (0,)})])


def test_copies_of_every_answer_leave_the_length_controlled_rate_as_it_is():
    rng = np.random.default_rng(0)
    once = [
        replace(one, num_tokens=int(rng.integers(5, 40)), reference_tokens=20) for one in evaluation(rng.choice([-1.0, 1.0], 60).tolist())
    ]
    thrice = [replace(one, draw=draw) for one in once for draw in range(3)]
    ours, theirs = per_prompt(once)["ras_lc"], per_prompt(thrice)["ras_lc"]
    assert theirs.to_numpy() == pytest.approx(ours.to_numpy(), rel=1e-9)
    assert ours.mean() != pytest.approx(scores(once)["ras"], abs=0.05)
