"""A local model as a judge: the same prompts, the verdict that it finds likeliest, and no reply to be parsed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.records import JudgeCounts
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Verdict
from grao_bench.core.values import READS, value_hash
from grao_bench.rewards.judge.judge import check_fields
from grao_bench.rewards.judge.pairing import Tally, Unfinished
from grao_bench.rewards.judge.prompt import (
    VERDICTS,
    JudgePrompt,
    Order,
    Orders,
    load_prompt,
    orders_asked,
    prompt_digest,
)

SIGNS = (1, 0, -1)
"""What VERDICTS say of the text that stands first."""


@runtime_checkable
class Scorer(Protocol):
    """A loaded model that says how likely continuations are."""

    @property
    def fingerprint(self) -> str: ...

    def logps(self, prompts: Sequence[str], continuations: Sequence[str]) -> list[list[float] | None]:
        """log p(continuation | prompt), [prompts][continuations]; None for a prompt that it can't take."""
        ...


@runtime_checkable
class ScorerSpec(Protocol):
    """Such a model as a value."""

    def build(self) -> Scorer:
        """Loads it."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalJudge:
    """A local judge as a value. See conf/reward/judge_local_helpful.yaml for each field."""

    revision: ClassVar[int] = 1

    name: str
    prompt: str = field(metadata={READS: lambda spec, sets: prompt_digest(spec.prompt)})
    orders: Orders
    unfinished: Unfinished
    model: ScorerSpec

    def __post_init__(self) -> None:
        check_fields(self.name, self.orders, self.unfinished)

    def needs_reference(self, data: DataSpec) -> bool:
        """It says which of two texts is better."""
        return True

    def check(self, data: DataSpec) -> None:
        """UserError for a prompt file that can't be used. The model is looked at when it is loaded."""
        load_prompt(self.prompt)

    def build(self, data: DataSpec) -> LocalJudgeSource:
        """The judge, with its model loaded."""
        return LocalJudgeSource(self, load_prompt(self.prompt), self.model.build())


class LocalJudgeSource:
    """Judges answers by the likelihoods of the three verdicts."""

    pairwise = True
    tie_margin = 0.0

    def __init__(self, spec: LocalJudge, prompt: JudgePrompt, scorer: Scorer) -> None:
        self.spec, self.prompt, self.scorer, self.name = spec, prompt, scorer, spec.name
        self.tally = Tally(spec.name, spec.unfinished)
        self.fingerprint = value_hash("local judge", prompt.text, spec.orders, spec.unfinished, scorer.fingerprint)

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; its reward is None where a prompt is longer than the
        model may read.

        Parts, of each order: what it said of the answer; `margin_<order>`, P(answer better) - P(reference better) among the three
        verdicts; `mass_<order>`, the probability of the three together, which is small for a model that would write something else.
        """
        ready = [self.tally.without_asking(request) for request in requests]
        asked = [(row, order) for row, verdict in enumerate(ready) if verdict is None for order in orders_asked(self.spec.orders)]
        prompts = [
            self.prompt.ask(asking.example.prompt, asking.text, asking.example.reference, order)
            for asking, order in ((requests[row], order) for row, order in asked)
        ]
        by_row: dict[int, dict[Order, list[float] | None]] = {}
        for (row, order), logps in zip(asked, self.scorer.logps(prompts, VERDICTS) if prompts else [], strict=True):
            by_row.setdefault(row, {})[order] = logps
        return [self._verdict(by_row[row]) if verdict is None else verdict for row, verdict in enumerate(ready)]

    def _verdict(self, logps: Mapping[Order, list[float] | None]) -> Verdict:
        said: dict[Order, int | None] = dict.fromkeys(logps)
        parts: dict[str, float] = {}
        for order, three in logps.items():
            if three is None:
                continue
            if not all(map(math.isfinite, three)):
                raise UserError(f"reward={self.name}: its model gave a likelihood that is not a number; look at the model")
            said[order] = SIGNS[three.index(max(three))]
            first, neither, second = (math.exp(logp - max(three)) for logp in three)
            margin = (first - second) / (first + neither + second)
            parts[f"margin_{order}"] = margin if order == "model_first" else -margin
            parts[f"mass_{order}"] = math.fsum(map(math.exp, three))
        return self.tally.verdict(said, parts=parts)

    def statistics(self) -> dict[str, JudgeCounts]:
        """See `Tally.counts`."""
        return {self.name: self.tally.counts()}

    def texts(self) -> dict[str, str]:
        """Files for the run's folder: the prompt as it was used."""
        return {f"judge_prompt-{self.name}.md": self.prompt.text}
