"""How likely a local model finds given continuations of a prompt: what a judge that is not asked to write needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from grao_bench.batching import make_batch, micro_batches, to_device
from grao_bench.dialogue import OPENING, render
from grao_bench.errors import UserError
from grao_bench.models.policy import Policy, load_causal_lm
from grao_bench.precision import fast_float32
from grao_bench.provenance import weights_fingerprint
from grao_bench.types import Answer, Needs, PromptFormat, Turn

_CONTENT = "\u2402content\u2403"
"""Stands for the prompt while a chat template is rendered."""


@dataclass(frozen=True, kw_only=True)
class LikelihoodModel:
    """Any causal LM. path: local folder or hub id. max_prompt_tokens: a longer prompt is not cut but has no likelihoods."""

    path: str
    prompt_format: PromptFormat
    max_prompt_tokens: int
    tokens_per_forward: int
    dtype: str
    device: str

    def build(self) -> Likelihoods:
        """Load it, once for all that ask for the same; UserError where it can't be had."""
        return _loaded(self)


@lru_cache(maxsize=1)
def _loaded(spec: LikelihoodModel) -> Likelihoods:
    fast_float32()
    try:
        model, tokenizer = load_causal_lm(spec.path, spec.dtype, spec.device)
    except UserError as error:
        raise UserError(f"reward.{error}") from None
    if spec.prompt_format == "chat" and not tokenizer.chat_template:
        raise UserError(f"reward.model.path={spec.path}: its tokenizer has no chat template; use reward.model.prompt_format=hh")
    return Likelihoods(spec, Policy(model, logp_temperature=1.0, value_head=False), tokenizer)


class Likelihoods:
    """A loaded model that scores continuations. A prompt runs once for all of its continuations."""

    def __init__(self, spec: LikelihoodModel, policy: Policy, tokenizer: Any) -> None:
        self.spec, self.policy, self.tokenizer = spec, policy, tokenizer
        self.fingerprint = weights_fingerprint(policy.model)
        begin = tokenizer.bos_token_id
        self._begin = [begin] if begin is not None and tokenizer("a")["input_ids"][:1] == [begin] else []

    @torch.no_grad()
    def logps(self, prompts: Sequence[str], continuations: Sequence[str]) -> list[list[float] | None]:
        """log p(continuation | prompt), summed over its tokens, [prompts][continuations]; None for a prompt that is too long.

        The continuations are the first words of the model's reply. Equal prompts are scored once, so that they get the same numbers.
        """
        rows = [tuple(self.prompt_ids(prompt)) for prompt in prompts]
        fitting = [row for row in dict.fromkeys(rows) if len(row) <= self.spec.max_prompt_tokens]
        found = dict(zip(fitting, self._logps(fitting, continuations), strict=True)) if fitting else {}
        return [found.get(row) for row in rows]

    def _logps(self, rows: Sequence[tuple[int, ...]], continuations: Sequence[str]) -> list[list[float]]:
        answers = [Answer(text, tuple(self.continuation_ids(text)), finished=False) for text in continuations]
        needs, pad = Needs(rollouts=len(answers)), self.tokenizer.pad_token_id
        batch = make_batch(rows, [answers] * len(rows), [str(row) for row in range(len(rows))], needs, 0 if pad is None else pad)
        found: dict[int, list[float]] = {}
        for chosen in micro_batches(batch, self.spec.tokens_per_forward):
            part = to_device(batch.select(chosen).trimmed(), self.policy.model.device)
            found |= zip(chosen, self.policy(part).logp.double().sum(-1).tolist(), strict=True)
        return [found[row] for row in range(len(rows))]

    def prompt_ids(self, prompt: str) -> list[int]:
        """The prompt as one user turn. A special token that it spells out is plain text: only the format's own are special."""
        if self.spec.prompt_format == "hh":
            return [*self._begin, *self._plain(render([Turn("user", prompt)]) + OPENING)]
        messages = [{"role": "user", "content": _CONTENT}]
        before, _, after = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False).partition(_CONTENT)
        return [*self._special(before), *self._plain(prompt), *self._special(after)]

    def continuation_ids(self, text: str) -> list[int]:
        """The reply's first words; after "Assistant:" they come with a blank."""
        return self._plain(f" {text}" if self.spec.prompt_format == "hh" else text)

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _special(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
