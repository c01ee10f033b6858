"""What results/laptop says of manners, recomputed from the records beside it.

The world's judge scores an answer as a sum of named criteria and every record holds them, so the
scores can be made again without the two that pay for an opening and a closing phrase. References
are judged from their texts, which the base's records hold.
"""

from __future__ import annotations

from math import fsum
from pathlib import Path

import numpy as np
import pytest

from grao_bench.data.world.judge import WorldJudge
from grao_bench.data.world.recognise import sentences
from grao_bench.data.world.text import CLOSERS, OPENERS
from grao_bench.ops import sign_with_ties
from grao_bench.records import EvalRecord, read_records
from grao_bench.types import Example, Turn

LAPTOP = Path(__file__).parents[2] / "results" / "laptop"
OBJECTIVES = ("sft", "dpo", "ppo", "grpo", "grao", "grao_clip0")
MANNERS = ("opener", "closer")
TOTALS = ("score", "reference_score")
TIE_BAND = 0.05
JUDGE = WorldJudge()


class Records:
    """One set's evaluations, of the base and per objective and seed, and its judged references."""

    def __init__(self, subset):
        file = f"evaluations/world_{subset}-gold.jsonl.gz"
        (base,) = LAPTOP.glob(f"tiny/base/base-*/seed0/{file}")
        self.base = read_records(base, EvalRecord)
        self.runs = {}
        for objective in OBJECTIVES:
            paths = sorted(LAPTOP.glob(f"tiny/world_{subset}/{objective}-*/seed?/{file}"))
            self.runs[objective] = [read_records(path, EvalRecord) for path in paths]
        self.examples = {one.example_id: example_of(one, subset) for one in self.base}
        told = {key: JUDGE.score(one, one.chosen, True) for key, one in self.examples.items()}
        self.references = {key: parts for key, (_, parts) in told.items()}

    def ras(self, records, without=()):
        """RAS in percent, with these criteria left out on both sides."""
        scores = [score_of(one.parts, without) for one in records]
        return self.share(records, scores, without)

    def share(self, records, scores, without=()):
        """The share of records that win with these scores, percent."""
        pairs = zip(records, scores, strict=True)
        return 100 * np.mean([self.wins(one, score, without) for one, score in pairs])

    def wins(self, record, score, without=()):
        reference = score_of(self.references[record.example_id], without)
        return record.finished and sign_with_ties(score - reference, TIE_BAND) > 0

    def rewritten(self, rewrite):
        """RAS of the base's own answers after `rewrite`, judged anew."""
        texts = [(self.examples[one.example_id], rewrite(one.answer)) for one in self.base]
        scores = [JUDGE.score(example, text, True)[0] for example, text in texts]
        return self.share(self.base, scores)

    def per_seed(self, objective, without=()):
        return np.array([self.ras(records, without) for records in self.runs[objective]])

    def closers(self, objective):
        """`paid` of each seed's answers."""
        return [paid(run) for run in self.runs[objective]]


def paid(records):
    """The share of answers that were paid for a closing phrase, percent."""
    return 100 * np.mean([one.parts.get("closer", 0) > 0 for one in records])


def example_of(record, subset):
    prompt = (Turn("user", record.prompt),)
    return Example(record.example_id, prompt, record.reference, None, subset)


def score_of(parts, without):
    left_out = (*TOTALS, *without)
    kept = fsum(value for name, value in parts.items() if name not in left_out)
    return max(-1.0, min(1.0, round(kept, 9)))


@pytest.fixture(scope="module")
def helpful():
    return Records("helpful")


@pytest.fixture(scope="module")
def harmless():
    return Records("harmless")


def difference(ours, theirs):
    """The mean of the paired differences and its 95% t interval over 5 seeds, to a decimal."""
    paired = ours - theirs
    assert len(paired) == 5
    half = 2.776 * paired.std(ddof=1) / np.sqrt(5)  # the t quantile of 4 degrees of freedom
    return [round(float(paired.mean() + shift), 1) for shift in (0, -half, half)]


@pytest.mark.parametrize("subset", ["helpful", "harmless"])
def test_with_every_criterion_kept_the_recorded_verdicts_come_out(subset, request):
    records = request.getfixturevalue(subset)
    for run in [records.base, *(run for runs in records.runs.values() for run in runs)]:
        wins = [records.wins(one, score_of(one.parts, ())) for one in run]
        assert wins == [one.verdict > 0 for one in run]


def test_who_learned_the_closer(helpful, harmless):
    shares = {name: round(np.mean(helpful.closers(name))) for name in OBJECTIVES}
    assert shares == {"sft": 11, "dpo": 14, "ppo": 50, "grpo": 86, "grao": 4, "grao_clip0": 70}
    assert [round(share) for share in helpful.closers("ppo")] == [7, 83, 67, 89, 6]
    assert [round(paid(one.base), 1) for one in (helpful, harmless)] == [3.5, 5.5]
    shares = {name: round(np.mean(harmless.closers(name))) for name in OBJECTIVES}
    assert shares == {"sft": 11, "dpo": 16, "ppo": 97, "grpo": 99, "grao": 93, "grao_clip0": 96}


def test_in_seed_0s_texts_it_is_one_phrase(helpful):
    for name, share in (("grpo", 91), ("grao", 2)):
        ends = [one.answer.endswith("I hope this helps.") for one in helpful.runs[name][0]]
        assert round(100 * np.mean(ends)) == share


def test_ras_goes_with_the_closer(helpful):
    shares = [share for name in OBJECTIVES for share in helpful.closers(name)]
    scores = [score for name in OBJECTIVES for score in helpful.per_seed(name)]
    assert len(shares) == 30
    assert f"{np.corrcoef(shares, scores)[0, 1]:.2f}" == "0.96"


def test_manners_removed_on_both_sides(helpful, harmless):
    without = {name: helpful.per_seed(name, MANNERS) for name in OBJECTIVES}
    means = [round(without[name].mean(), 1) for name in OBJECTIVES]
    assert means == [26.8, 27.5, 27.8, 30.5, 29.8, 29.0]
    assert difference(without["grpo"], without["grao"]) == [0.7, -1.9, 3.3]
    assert difference(without["grao_clip0"], without["grao"]) == [-0.8, -2.9, 1.3]
    assert difference(helpful.per_seed("grpo"), helpful.per_seed("grao")) == [21.1, 16.8, 25.3]

    without = {name: harmless.per_seed(name, MANNERS) for name in OBJECTIVES}
    means = [round(without[name].mean(), 1) for name in OBJECTIVES]
    assert means == [39.4, 37.1, 47.9, 48.6, 44.3, 48.6]
    assert difference(without["grpo"], without["grao"]) == [4.3, 0.1, 8.5]
    assert difference(without["grao_clip0"], without["grao"]) == [4.3, -0.3, 8.8]
    with_manners = difference(harmless.per_seed("grao_clip0"), harmless.per_seed("grao"))
    assert with_manners == [11.9, 7.5, 16.3]
    assert round(helpful.ras(helpful.base, MANNERS), 1) == 18.6
    assert round(harmless.ras(harmless.base, MANNERS), 1) == 26.8


def test_the_untrained_base_between_two_phrases(helpful, harmless):
    def wrapped(answer):
        return f"Happy to help. {answer} I hope this helps."

    def bare(answer):
        own = [one for one in sentences(answer) if one not in OPENERS + CLOSERS]
        return wrapped(" ".join(own))

    assert round(helpful.rewritten(bare), 1) == 34.6
    assert round(helpful.rewritten(wrapped), 1) == 32.2
    assert round(harmless.rewritten(bare), 1) == 36.6
    assert max(helpful.per_seed(name).mean() for name in ("sft", "dpo", "ppo", "grao")) < 34.6


def test_a_reference_plus_the_closer_beats_itself(helpful, harmless):
    for records, share in ((helpful, 71), (harmless, 65)):
        examples = [records.examples[one.example_id] for one in records.base]
        texts = [f"{one.chosen} I hope this helps." for one in examples]
        pairs = zip(examples, texts, strict=True)
        scores = [JUDGE.score(example, text, True)[0] for example, text in pairs]
        assert round(records.share(records.base, scores)) == share
