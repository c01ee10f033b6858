"""Several answers to a prompt: the first is what it is alone, and each has a record of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Sampling
from grao_bench.core.types import Example, Turn, Verdict
from grao_bench.evaluation.answers import Evaluator
from grao_bench.rollouts.shared_prefix import SharedPrefixEngine
from grao_bench.runs.check import check
from grao_bench.text.tokens import TextCodec

from ..cells import cell, small
from ..small import synced, tiny_llama, word_tokenizer

EXAMPLES = [Example(f"e{n}", (Turn("user", text),), "good", None, "s") for n, text in enumerate(("red one", "blue two three", "green"))]


@dataclass
class Counting:
    """Scores a text by its length, and remembers what it was asked."""

    asked: list[str] = field(default_factory=list)
    name: str = "counting"
    pairwise: bool = False
    fingerprint: str = ""
    tie_margin: float = 0.0

    def score(self, requests: Any) -> list[Verdict]:
        self.asked += [one.text for one in requests]
        return [Verdict(float(len(one.text)), self.name) for one in requests]


def evaluator(answers: int) -> Evaluator:
    return Evaluator(TextCodec(word_tokenizer(), "hh", 32), Sampling(1.0, 1.0, 6), True, answers)


def engine() -> Any:
    return synced(SharedPrefixEngine(evaluator(1).codec, 5), tiny_llama())


def test_the_first_of_four_is_the_one_that_is_drawn_alone():
    four, alone = (evaluator(n).draw(engine(), EXAMPLES, 7) for n in (4, 1))
    assert [len(row) for row in four] == [4, 4, 4]
    assert [row[0].tokens for row in four] == [row[0].tokens for row in alone]
    assert len({answer.tokens for row in four for answer in row}) > 4


def test_each_answer_has_a_record_and_a_reference_is_scored_once():
    judge, asked = Counting(), evaluator(4)
    drawn = asked.draw(engine(), EXAMPLES, 7)
    records = asked.judge(judge, EXAMPLES, drawn)
    assert [(one.example_id, one.draw) for one in records] == [(f"e{n}", draw) for n in range(3) for draw in range(4)]
    assert [one.answer for one in records] == [answer.text for row in drawn for answer in row]
    assert len(judge.asked) == 12 + 3


def test_greedy_answers_are_one_and_none_is_refused(tmp_path):
    asked = cell("grpo", tmp_path, evaluation=small("evaluation/standard", answers_per_prompt=4))
    greedy = replace(asked, evaluation=replace(asked.evaluation, temperature=0.0))
    assert (asked.answers_per_prompt, greedy.answers_per_prompt) == (4, 1)
    with pytest.raises(UserError, match=r"evaluation\.answers_per_prompt=0: must be at least 1"):
        check(replace(asked, evaluation=replace(asked.evaluation, answers_per_prompt=0)))
