"""An LLM judge behind an OpenAI-compatible endpoint: the paper's reward, R(o, y) in {-1, 0, +1} (Appendix, Tables 6 and 7)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.records import JudgeCounts
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Verdict
from grao_bench.core.values import REACHES, READS, value_hash
from grao_bench.rewards.judge.cache import Reply, ReplyCache
from grao_bench.rewards.judge.client import Client
from grao_bench.rewards.judge.endpoint import Endpoint
from grao_bench.rewards.judge.pairing import Tally, Unfinished
from grao_bench.rewards.judge.prompt import (
    JudgePrompt,
    Order,
    Orders,
    load_prompt,
    orders_asked,
    prompt_digest,
)
from grao_bench.rewards.judge.replies import parse

ENOUGH_TO_TELL = 20
"""Judgements from which on the share of excluded ones is held against max_excluded."""


@dataclass(frozen=True, kw_only=True)
class LLMJudge:
    """A judge as a value. See conf/reward/judge_helpful.yaml for each field.

    The fields that compare equal whatever they are say how the judge is reached and paid, and not what it says.
    """

    revision: ClassVar[int] = 1

    name: str
    prompt: str = field(metadata={READS: lambda spec, sets: prompt_digest(spec.prompt)})
    orders: Orders
    unfinished: Unfinished
    ask_again: int
    max_excluded: float = field(compare=False)
    model: str
    reply_models: Sequence[str] = field(compare=False)
    temperature: float
    max_tokens: int
    extra_body: Mapping[str, Any]
    base_url: str = field(compare=False, metadata={REACHES: str})
    api_key_env: str | None = field(compare=False)
    concurrency: int = field(compare=False)
    call_timeout: float = field(compare=False)
    total_timeout: float = field(compare=False)
    retries: int = field(compare=False)
    backoff: float = field(compare=False)
    price_prompt: float = field(compare=False)
    price_completion: float = field(compare=False)
    max_cost: float | None = field(compare=False)
    cache: str = field(compare=False)

    def __post_init__(self) -> None:
        check_fields(self.name, self.orders, self.unfinished)
        for key, right, rule in (
            ("ask_again", self.ask_again >= 0, "at least 0"),
            ("max_excluded", 0 <= self.max_excluded <= 1, "a share, from 0 to 1"),
        ):
            if not right:
                raise UserError(f"reward.{key}={getattr(self, key)}: must be {rule}")

    @property
    def endpoint(self) -> Endpoint:
        """How it is asked."""
        return Endpoint(**{item.name: getattr(self, item.name) for item in fields(Endpoint)})

    def needs_reference(self, data: DataSpec) -> bool:
        """It says which of two texts is better."""
        return True

    def check(self, data: DataSpec) -> None:
        """UserError for a missing key or package, a prompt file that can't be used, or a value that can't be. Nothing is asked."""
        self.endpoint.check()
        load_prompt(self.prompt)

    def build(self, data: DataSpec) -> JudgeSource:
        """The judge, with its cache open."""
        self.check(data)
        return JudgeSource(self, load_prompt(self.prompt), ReplyCache(Path(self.cache)))


class JudgeSource:
    """Judges answers by asking; whoever shares the cache's file asks no question twice."""

    pairwise = True
    tie_margin = 0.0

    def __init__(self, spec: LLMJudge, prompt: JudgePrompt, cache: ReplyCache) -> None:
        self.spec, self.prompt, self.name = spec, prompt, spec.name
        self.client = Client(spec.endpoint, cache, spec.ask_again, lambda text: parse(text) is not None)
        self.tally = Tally(spec.name, spec.unfinished)
        # the address is not in it: the same model is the same judge wherever it is served
        asked = (spec.model, spec.temperature, spec.max_tokens, dict(spec.extra_body), spec.orders, spec.unfinished, spec.ask_again)
        self.fingerprint = value_hash("llm judge", prompt.text, *asked)

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; its reward is None where no reply could be read.

        UserError where the endpoint can't be asked any further, the ceiling of cost is reached, or too many replies can't be read; what
        was answered is kept, and a new run goes on from there.
        """
        ready = [self.tally.without_asking(request) for request in requests]
        prompts = {
            (row, order): self.prompt.ask(request.example.prompt, request.text, request.example.reference, order)
            for row, request in enumerate(requests)
            if ready[row] is None
            for order in orders_asked(self.spec.orders)
        }
        replies = self.client.ask(list(prompts.values()))
        verdicts = [
            verdict
            if verdict is not None
            else self._verdict({order: replies[prompts[row, order]] for order in orders_asked(self.spec.orders)})
            for row, verdict in enumerate(ready)
        ]
        self._require_readable()
        return verdicts

    def try_out(self, requests: Sequence[RewardRequest]) -> None:
        """See `Tried`: the endpoint is reached with its key, and asked nothing that costs."""
        self.client.reach()

    def _verdict(self, replies: Mapping[Order, Sequence[Reply]]) -> Verdict:
        said: dict[Order, int | None] = {}
        for order, given in replies.items():
            said[order] = next((sign for reply in given if (sign := parse(reply.text)) is not None), None)
        return self.tally.verdict(said, tuple(reply.text for given in replies.values() for reply in given))

    def _require_readable(self) -> None:
        if self.tally.judged >= ENOUGH_TO_TELL and self.tally.excluded > self.spec.max_excluded:
            raise UserError(
                f"reward={self.name}: no verdict could be read for {self.tally.excluded:.0%} of {self.tally.judged} judgements, more than "
                f"reward.max_excluded={self.spec.max_excluded:g}; look at the replies in {self.client.cache.path} (table replies)"
            )

    def statistics(self) -> dict[str, JudgeCounts]:
        """What this process's judgements were and took, and what every call through the cache has
        cost."""
        counts: dict[str, Any] = dict(self.client.counts)
        usage = self.client.usage
        found = replace(
            self.tally.counts(),
            **counts,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=self.client.cache.account().cost,
            faults=dict(sorted(self.client.faults.items())),
        )
        return {self.name: found}

    def texts(self) -> dict[str, str]:
        """Files for the run's folder: the prompt as it was used."""
        return {f"judge_prompt-{self.name}.md": self.prompt.text}


def check_fields(name: str, orders: str, unfinished: str) -> None:
    """UserError for what every judge's spec has in common."""
    if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
        raise UserError(f"reward.name={name!r}: it names files; use letters, digits, '_' and '.'")
    for key, value, known in (("orders", orders, get_args(Orders)), ("unfinished", unfinished, get_args(Unfinished))):
        if value not in known:
            raise UserError(f"reward.{key}={value}: unknown; choose {', '.join(known)}")
