"""Answers that a judge could say nothing of: recorded, left out of the scores on both sides, and counted on the table's row."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Sampling
from grao_bench.core.records import EvalRecord, JudgeCounts, judged
from grao_bench.core.types import Answer, Example, Turn, Verdict
from grao_bench.evaluation.answers import Evaluator, compare
from grao_bench.reporting.gather.comparisons import mcnemar
from grao_bench.reporting.gather.scores import per_prompt, reward_statistics, scores
from grao_bench.runs.evaluate import told_by
from tests.training.setting import codec


def record(name: str, verdict: float, excluded: bool = False) -> EvalRecord:
    return EvalRecord(name, 0.0 if excluded else verdict, 0.0 if excluded else verdict, 3, True, excluded=excluded)


POST = [record("a", 1.0), record("b", 0.0, excluded=True), record("c", -1.0), record("d", 1.0)]
BASE = [record("a", -1.0), record("b", 1.0), record("c", 0.0, excluded=True), record("d", -1.0)]


def test_a_prompt_without_a_verdict_on_either_side_counts_nowhere():
    """Left are a and d: both won, both lost before. Without the base, a, c and d: two of three."""
    both = scores(POST, BASE)
    assert (both["ras"], both["nag_mean"], len(per_prompt(POST, BASE))) == (100.0, 200.0, 2)
    assert scores(POST)["ras"] == pytest.approx(200 / 3)
    assert reward_statistics(POST)["mean"] == pytest.approx(1 / 3)
    assert [one.example_id for one in judged(POST)] == ["a", "c", "d"]


def test_mcnemar_is_over_what_both_were_judged_on():
    found = mcnemar(POST, BASE)
    assert (found.only_first, found.only_second, found.both, found.neither) == (2, 0, 0, 0)


def test_nothing_judged_is_an_error_and_no_score():
    with pytest.raises(UserError, match="none of these answers has a verdict"):
        scores([record("a", math.nan, excluded=True)])


@dataclass(frozen=True)
class Words:
    """One point for each word; nothing to say of a text without any."""

    pairwise: bool
    name: str = "words"
    tie_margin: float = 0.0
    fingerprint: str = ""

    def score(self, requests):
        return [Verdict(float(len(one.text.split())) or None, "words") for one in requests]


@pytest.mark.parametrize("pairwise", [True, False])
def test_nothing_said_is_none_and_recorded_as_excluded(pairwise):
    """Of an answer by whatever source, and of a reference by one that scores it."""
    texts = {"one two": "one", "": "one", "one": ""}
    examples = [Example(f"e{n}", (Turn("user", "Hi"),), reference, None, "s") for n, reference in enumerate(texts.values())]
    answers = [Answer(text, (1,), True) for text in texts]
    expected = [2.0, None, 1.0] if pairwise else [1.0, None, None]
    assert [R for R, _ in compare(Words(pairwise), examples, answers)] == expected

    evaluator = Evaluator(codec(), Sampling(1.0, 1.0, 4), store_text=False)
    records = evaluator.judge(Words(pairwise), examples, [[one] for one in answers])
    assert [record.excluded for record in records] == [R is None for R in expected]
    assert [record.verdict for record in records] == [R or 0.0 for R in expected]
    assert json.loads(json.dumps([asdict(record) for record in records], allow_nan=False))


class Telling:
    """A judge with a prompt and counts."""

    name, pairwise, tie_margin, fingerprint = "judge", True, 0.0, "judge"

    def score(self, requests):
        return [Verdict(1.0, "judge") for _ in requests]

    def statistics(self):
        return {"judge": JudgeCounts(excluded=0.25, calls=8)}

    def texts(self):
        return {"judge_prompt-mine.md": "Which is better?"}


def test_a_judge_leaves_its_prompt_and_its_counts_with_the_run(tmp_path):
    told = told_by({"training": Telling(), "world_helpful/judge": Telling()}, tmp_path)

    counts = {"judge": JudgeCounts(excluded=0.25, calls=8)}
    assert told == {"training": counts, "world_helpful/judge": counts}
    assert (tmp_path / "judge_prompt-mine.md").read_text() == "Which is better?"
