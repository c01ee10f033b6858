"""How likely a local model finds given continuations of a prompt: what a judge that is not asked to write needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from grao_bench.core.batching import make_batch, micro_batches, to_device
from grao_bench.core.errors import UserError
from grao_bench.core.process import loaded_once
from grao_bench.core.provenance import content_digest, weights_fingerprint
from grao_bench.core.types import Answer, Needs, Prompt, PromptFormat
from grao_bench.core.values import READS
from grao_bench.models.load import load_causal_lm
from grao_bench.models.policy import Policy
from grao_bench.text.tokens import TextCodec


@dataclass(frozen=True, kw_only=True)
class LikelihoodModel:
    """Any causal LM. path: local folder or hub id. max_prompt_tokens: a longer prompt is not cut but has no likelihoods."""

    revision: ClassVar[int] = 1

    path: str = field(metadata={READS: lambda spec, sets: content_digest(spec.path)})
    prompt_format: PromptFormat
    max_prompt_tokens: int
    tokens_per_forward: int = field(compare=False)
    dtype: str
    device: str

    def build(self) -> Likelihoods:
        """Load it, once in a cell for all that ask for the same; UserError where it can't be
        had."""
        return loaded_once(self, lambda: _loaded(self))


def _loaded(spec: LikelihoodModel) -> Likelihoods:
    try:
        model, tokenizer = load_causal_lm(spec.path, spec.dtype, spec.device)
    except UserError as error:
        raise UserError(f"reward.{error}") from None
    if spec.prompt_format == "chat" and not tokenizer.chat_template:
        what = f"reward.model.path={spec.path}: its tokenizer has no chat template"
        raise UserError(f"{what}; use reward.model.prompt_format=hh")
    codec = TextCodec(tokenizer, spec.prompt_format, spec.max_prompt_tokens)
    return Likelihoods(spec, Policy(model, logp_temperature=1.0, value_head=False), codec)


class Likelihoods:
    """A loaded model that scores continuations. A prompt runs once for all of its continuations."""

    def __init__(self, spec: LikelihoodModel, policy: Policy, codec: TextCodec) -> None:
        self.spec, self.policy, self.codec = spec, policy, codec
        self.fingerprint = weights_fingerprint(policy.model)

    @torch.no_grad()
    def logps(self, prompts: Sequence[str], continuations: Sequence[str]) -> list[list[float] | None]:
        """log p(continuation | prompt), summed over its tokens, [prompts][continuations]; None for a prompt that is too long.

        The continuations are the first words of the model's reply. Equal prompts are scored once, so that they get the same numbers.
        """
        asked = [self.codec.question(prompt) for prompt in prompts]
        most = self.spec.max_prompt_tokens
        fitting = {prompt.tokens: prompt for prompt in asked if len(prompt.tokens) <= most}
        logps = self._logps(list(fitting.values()), continuations) if fitting else []
        found = dict(zip(fitting, logps, strict=True))
        return [found.get(prompt.tokens) for prompt in asked]

    def _logps(self, asked: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        codec, needs = self.codec, Needs(rollouts=len(continuations))
        said = [[Answer(text, codec.continuation(prompt, text), finished=False) for text in continuations] for prompt in asked]
        rows, names = [prompt.tokens for prompt in asked], [str(row) for row in range(len(asked))]
        batch = make_batch(rows, said, names, needs, codec.pad_token)
        found: dict[int, list[float]] = {}
        for chosen in micro_batches(batch, self.spec.tokens_per_forward):
            part = to_device(batch.select(chosen).trimmed(), self.policy.model.device)
            found |= zip(chosen, self.policy(part).logp.double().sum(-1).tolist(), strict=True)
        return [found[row] for row in range(len(rows))]
