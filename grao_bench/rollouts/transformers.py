"""Rollouts by Hugging Face `generate`: slow, standard, and the independent check of any faster engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from grao_bench.core.batching import pad_rows
from grao_bench.core.interfaces import Codec, Sampled, Sampling
from grao_bench.core.ops import stream_seed
from grao_bench.core.types import Answer, Prompt
from grao_bench.rollouts.ends import StopStrings, ended
from grao_bench.rollouts.prompts import (
    check_prompts,
    check_settings,
    not_numbers,
    synced,
)


@dataclass(frozen=True, kw_only=True)
class TransformersRollout:
    """How training and evaluation sample (see `Sampling`); answers_per_call bounds the rows of one `generate`, max_seconds its duration.

    With a duration (null for none) results depend on how fast the machine is; each answer has at least one token.
    """

    revision: ClassVar[int] = 1

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: list[str] | tuple[str, ...] | None
    answers_per_call: int
    max_seconds: float | None

    @property
    def tells_logp(self) -> bool:
        """`generate` is not asked for them."""
        return False

    def build(self, codec: Codec) -> TransformersEngine:
        """An engine. UserError for calls without rows or without time."""
        check_settings(self.answers_per_call, self.max_seconds)
        return TransformersEngine(codec, self.answers_per_call, self.max_seconds)


class TransformersEngine:
    """Draws n answers per prompt, cut at the first stop token or before the first stop string."""

    reproducible = False
    """An answer depends on the prompts that share its `generate`."""

    def __init__(
        self,
        codec: Codec,
        answers_per_call: int,
        max_seconds: float | None = None,
    ) -> None:
        self.codec, self.answers_per_call, self.max_seconds = codec, answers_per_call, max_seconds
        self.policy: Sampled | None = None
        self.step = 0

    @property
    def model(self) -> Any:
        """The policy's; UserError before the first `sync`."""
        return synced(self.policy)

    def sync(self, policy: Sampled, step: int) -> None:
        """Draw from this policy's own weights, which are read where they lie."""
        self.policy, self.step = policy, step

    def sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        """n answers for each prompt. The draws depend on (prompts, n, sampling, seed) and on nothing drawn before.

        UserError, naming the example, for what `check_prompts` refuses, or logits that are not numbers.
        """
        if n == 0:
            return [[] for _ in prompts]
        check_prompts(prompts, sampling, self.codec, self.model.config)
        size = max(1, self.answers_per_call // n)
        answers: list[list[Answer]] = []
        for start in range(0, len(prompts), size):
            part = prompts[start : start + size]
            # two processes that share a step draw from one seed: what tells a prompt's second
            # occurrence from its first tells their draws apart
            again = [f"{each.id}#{each.occurrence}" for each in part if each.occurrence]
            answers += self._sample(part, n, sampling, stream_seed(seed, start, *again))
        return answers

    def _sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        device = self.model.device
        # on the left, so that every answer begins in the same column
        ids, mask = pad_rows([prompt.tokens for prompt in prompts], self.codec.pad_token, left=True)
        ids, mask = ids.to(device), mask.long().to(device)
        greedy = sampling.temperature == 0
        stops = StopStrings(self.codec, sampling.stop)
        stopped = StoppingCriteriaList([_Stopped(stops, len(prompts) * n)] if stops else [])
        drawn = {} if greedy else {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p")}
        # `generate` takes what it is not told (penalties, minimum lengths) from the checkpoint's settings: not the policy's distribution
        own, self.model.generation_config = self.model.generation_config, GenerationConfig()
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
                torch.manual_seed(seed)
                out = self.model.generate(
                    input_ids=ids.repeat_interleave(n, 0),
                    attention_mask=mask.repeat_interleave(n, 0),
                    do_sample=not greedy,
                    max_new_tokens=sampling.max_new_tokens,
                    max_time=self.max_seconds,
                    eos_token_id=list(self.codec.stop_tokens),
                    pad_token_id=self.codec.pad_token,
                    logits_processor=LogitsProcessorList([_Numbers([prompt.id for prompt in prompts for _ in range(n)])]),
                    stopping_criteria=stopped,
                    **drawn,
                )
        finally:
            self.model.generation_config = own
        said = [ended(row, self.codec, stops) for row in out[:, ids.shape[1] :].tolist()]
        rows = [Answer(text, kept, done, policy_step=self.step) for kept, text, done in said]
        return [rows[i * n : (i + 1) * n] for i in range(len(prompts))]


class _Stopped(StoppingCriteria):
    """Which rows of a `generate` hold a stop string; called once per new token."""

    def __init__(self, stops: StopStrings, rows: int) -> None:
        self.stops = stops
        self.said: list[list[int]] = [[] for _ in range(rows)]
        self.done = [False] * rows

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self.done[row]:
                self.said[row].append(token)
                self.done[row] = self.stops.before(self.said[row]) is not None
        return torch.tensor(self.done, device=input_ids.device)


class _Numbers(LogitsProcessor):
    """Changes nothing; UserError, naming the row's example, where logits are not numbers: greedy decoding would take any token there."""

    def __init__(self, examples: Sequence[str]) -> None:
        self.examples = examples

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        bad = (~scores.amax(-1).isfinite()).nonzero()[:, 0].tolist()
        if bad:
            raise not_numbers(self.examples[bad[0]])
        return scores
