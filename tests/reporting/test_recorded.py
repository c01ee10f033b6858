"""What an evaluation writes down about lengths and repetition outlives the texts, and older record files can still be read."""

from __future__ import annotations

import json

from grao_bench.core.interfaces import Sampling
from grao_bench.core.record_files import read_records, write_lines
from grao_bench.core.records import EvalRecord
from grao_bench.core.types import Example, Turn, Verdict
from grao_bench.evaluation.answers import Evaluator
from grao_bench.rollouts.scripted import ScriptedEngine
from grao_bench.text.tokens import TextCodec

from ..small import word_tokenizer


class Draw:
    """A pairwise source that finds every answer as good as its reference."""

    name, pairwise, fingerprint, tie_margin = "draw", True, "", 0.0

    def score(self, requests):
        return [Verdict(0.0, "draw") for _ in requests]


def recorded(store_text, reward=None, cluster=None):
    codec = TextCodec(word_tokenizer(), "hh", 32)
    reference = "green blue green blue one two three"
    prompt = (Turn("user", "red one"),)
    example = Example("e0", prompt, reference, None, "helpful", cluster=cluster)
    engine = ScriptedEngine(codec, {"*": ["good bad good bad good bad"]})
    evaluator = Evaluator(codec, Sampling(0.0, 1.0, 8), store_text)
    (record,) = evaluator.judge(reward or Draw(), [example], evaluator.draw(engine, [example], 0))
    return record


def test_lengths_and_repetition_are_recorded_without_the_texts(tmp_path):
    bare = recorded(store_text=False)
    assert (bare.prompt, bare.reference, bare.answer) == ("", "", "")
    assert (bare.num_tokens, bare.reference_tokens) == (7, 8)  # six words, seven words, an end token each
    assert (bare.distinct_1, bare.distinct_2, bare.repetition) == (0.3333, 0.4, 0.3333)
    assert recorded(store_text=True).repetition == bare.repetition
    write_lines(tmp_path / "new.jsonl", [bare])
    assert read_records(tmp_path / "new.jsonl", EvalRecord) == [bare]


def test_record_files_from_before_are_read(tmp_path):
    old = {"example_id": "e0", "verdict": 1.0, "reward": 1.0, "num_tokens": 3, "finished": True, "parts": {}, "answer": "a"}
    (tmp_path / "old.jsonl").write_text(json.dumps(old) + "\n")
    (record,) = read_records(tmp_path / "old.jsonl", EvalRecord)
    assert (record.answer, record.reference_tokens, record.distinct_1) == ("a", None, None)
    known = (record.draw, record.cluster, record.correct, record.reference_parts)
    assert known == (0, None, None, None)


class Rule(Draw):
    """Pointwise: right where the text has a "good", with the number of its words as a part."""

    pairwise = False

    def score(self, requests):
        counts = [len(request.text.split()) for request in requests]
        return [
            Verdict(float(n), self.name, {"words": float(n)}, correct="good" in request.text)
            for n, request in zip(counts, requests, strict=True)
        ]


def test_cluster_correctness_and_the_references_parts_are_recorded():
    record = recorded(store_text=False, reward=Rule(), cluster="red things")
    assert (record.cluster, record.correct, record.draw) == ("red things", True, 0)
    assert (record.parts, record.reference_parts) == ({"words": 6.0}, {"words": 7.0})
    assert recorded(store_text=False).reference_parts is None  # who judges pairs alone
