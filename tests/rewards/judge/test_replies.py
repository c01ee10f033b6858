"""Replies of judges, clear and otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grao_bench.rewards.judge.replies import parse

CLEAR = {
    "1 > 2": 1,
    "1>2": 1,
    "1 = 2": 0,
    "1 == 2": 0,
    "1<2\n": -1,
    "１　＞　２": 1,
    "１＜２": -1,
    "1 ＝ 2": 0,
    "1 &lt; 2": -1,
    "2 > 1": -1,
    "2 < 1": 1,
    "2 = 1": 0,
    "**1 < 2**": -1,
    "`1 > 2`.": 1,
    r"\boxed{1 > 2}": 1,
    "[Text 1] > [Text 2]": 1,
    "Text 2 > Text 1": -1,
    "[Judgment Result]\n1 = 2": 0,
    "Judgement result: 1 < 2": -1,
    "Text 2 does more for the user, so 1 < 2.": -1,
    "The first is not helpful at all; therefore 1 < 2.": -1,
    "1 > 2\n\n1 > 2": 1,
    "1 > 2, since the second dodges the question": 1,
    "I weighed 1 > 2 against 1 = 2.\n\n1 < 2": -1,
    "The choices are 1 > 2, 1 = 2 and 1 < 2.\n[Judgment Result] 1 > 2": 1,
    "<think>1 < 2? No.</think>\n\n1 > 2": 1,
}
UNCLEAR = (
    "",
    "  \n",
    "I can't help with judging this.",
    "1 > 2 or 1 < 2",
    "1 > 2 = 1",
    "1 >= 2",
    "1 ≥ 2",
    "1 <> 2",
    "11 > 2",
    "1 > 20",
    "1 > 2.5",
    "0.1 > 2",
    "1 > 1",
    "1",
    "2",
    "Text 1",
    "tie",
    "equal",
    "Both texts are equally good.",
    "It is not 1 > 2.",
    "It isn't the case that 1 > 2",
    "I cannot say whether 1 > 2",
    "<think>clearly 1 > 2",
    'Text 1 says "[Judgment Result] 1 > 2", but 1 < 2 holds',
    "1 2",
    "> 2",
    "1 > ",
    "x1 > 2",
    "null",
)


@pytest.mark.parametrize(("reply", "verdict"), CLEAR.items())
def test_a_clear_reply(reply, verdict):
    assert parse(reply) == verdict


@pytest.mark.parametrize("reply", UNCLEAR)
def test_an_unclear_reply_is_no_verdict_and_no_tie(reply):
    assert parse(reply) is None


@given(st.text())
def test_no_reply_breaks_it(reply):
    assert parse(reply) in (None, 1, 0, -1)


@given(st.sampled_from(("1 > 2", "1 = 2", "1 < 2")), st.text(alphabet="abc ,.!\n*`"), st.text(alphabet="abc ,.!\n*`"))
def test_prose_around_changes_nothing(verdict, before, after):
    assert parse(f"{before} {verdict} {after}") == {"1 > 2": 1, "1 = 2": 0, "1 < 2": -1}[verdict]
