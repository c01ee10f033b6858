"""Requests whose right verdicts are known, and a judge that asks a server of the tests."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from grao_bench.core.interfaces import Dataset, RewardRequest
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.rewards.judge.judge import JudgeSource

from .fault_server import MODEL

KEY_VARIABLE = "GRAO_BENCH_TEST_JUDGE_KEY"


@dataclass(frozen=True)
class AnyData:
    """A set of which a judge needs nothing."""

    name: str = "mine"
    provides: ClassVar[frozenset[str]] = frozenset({"chosen"})

    def build(self) -> Dataset:
        return Dataset(self.name, "helpful", (), (), (), {})

    def corpus(self) -> list[str]:
        return []

    def siblings(self) -> tuple[DataSpec, ...]:
        return (self,)


def judge(url: str, cache: Path, **changed: Any) -> JudgeSource:
    """The preset with short waits. A call is waited for 5 s, which no reply of a busy machine takes."""
    quick = {"concurrency": 16, "call_timeout": 5.0, "total_timeout": 60.0, "backoff": 0.01, "orders": "model_first", "max_cost": None}
    asked = {"model": MODEL, "base_url": url, "api_key_env": KEY_VARIABLE, "cache": str(cache)}
    source = load("reward/judge_helpful", **(quick | asked | changed)).build(AnyData())
    assert isinstance(source, JudgeSource)
    return source


def request(text: str, reference: str, number: int = 0, finished: bool = True) -> RewardRequest:
    return RewardRequest(Example(f"e{number}", (Turn("user", f"question {number}"),), reference, None, "helpful"), text, finished)


def requests(count: int, seed: int = 0) -> list[RewardRequest]:
    """Answers and references with up to three of the letter that the server counts, over one line or several."""
    words = random.Random(seed)

    def text(number: int) -> str:
        return f"{number}" + "".join(words.choices(("e", " ", "\n", "a"), k=4))

    return [request(text(number), "r" + text(number), number) for number in range(count)]


def right(asked: RewardRequest) -> float:
    """What the server's rule says of an answer against its reference."""
    ours, theirs = asked.text.count("e"), asked.example.chosen.count("e")
    return float((ours > theirs) - (ours < theirs))
