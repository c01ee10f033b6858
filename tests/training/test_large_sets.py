"""A set of HH's full size: read within bounds, and encoded as far as a run reads it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.runs import fit
from grao_bench.runs.fit import to_train_on, within_length

from .setting import budget, codec, policy

ROOT = Path(__file__).parents[2]
SFT = load("objective/sft")


def examples(count: int) -> tuple[Example, ...]:
    """Every third has an answer that is too long for three tokens."""
    answers = ("red", "red two", "red two one green")
    return tuple(Example(f"e{n}", (Turn("user", "say red"),), answers[n % 3]) for n in range(count))


def test_of_a_large_set_only_what_is_read_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "LARGE", 100)
    config, rule = policy(SFT).model.config, budget(max_answer_tokens=3, long_references="drop")
    read = rule.steps * rule.prompts(SFT.needs)
    large, own = examples(101), codec()
    kept, lengths = to_train_on(large, own, config, rule, SFT.needs, seed=0)
    assert len(kept) == len(set(kept)) == lengths.examples == read
    assert all(len((one.chosen or "").split()) < 3 for one in kept)
    assert 0 < lengths.answers_over_limit < 34, "it looked no further than it had to"
    assert to_train_on(large, own, config, rule, SFT.needs, seed=0)[0] == kept
    other = to_train_on(large, own, config, rule, SFT.needs, seed=1)[0]
    assert set(other) != set(kept)
    # which is decided by the ids and not by their order
    assert set(to_train_on(large[::-1], own, config, rule, SFT.needs, seed=0)[0]) == set(kept)

    # no more than LARGE: all, as they stand
    whole = to_train_on(large[:100], own, config, rule, SFT.needs, seed=0)
    assert whole == within_length(large[:100], own, config, rule, SFT.needs)
    assert [one.id for one in whole[0]] == [f"e{n}" for n in range(100) if n % 3 != 2]


READ = """
import resource, sys, time
from grao_bench.core.specs import load
start = time.process_time()
data = load("data/files", train=sys.argv[1]).build()
print(len(data.train) + len(data.dev) + len(data.test), time.process_time() - start)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_set_of_hhs_full_size_is_read_in_a_minute_and_two_gigabytes(tmp_path: Path) -> None:
    """160,000 pairs as dialogues of one to four turns, 340 MB."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(9000)]

    def text(mean: int) -> str:
        return " ".join(rng.choices(words, k=max(3, int(rng.expovariate(1 / mean)))))

    with (tmp_path / "train.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(160_000):
            earlier = range(rng.randint(0, 3))
            turns = [f"\n\nHuman: {text(18)}\n\nAssistant: {text(40)}" for _ in earlier]
            prompt = "".join(turns) + f"\n\nHuman: {text(15)}\n\nAssistant: "
            row = {"chosen": prompt + text(50), "rejected": prompt + text(50)}
            file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-c", READ, str(tmp_path / "train.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count, seconds, megabytes = map(float, done.stdout.split())
    assert count > 159_990
    assert seconds < 60
    assert megabytes < 2000
