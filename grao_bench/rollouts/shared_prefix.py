"""Rollouts that compute each prompt once: its key-value cache is expanded to the n answers, and finished rows leave the batch.

Every random number is a function of (seed, prompt id, sample index, position) alone, never of the batch it is drawn in, so runs that
share a seed share their randomness prompt by prompt, whatever else is in their batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grao_bench.errors import UserError
from grao_bench.interfaces import Codec, Sampling
from grao_bench.ops import stream_seed
from grao_bench.rollouts.prompts import check_prompts, cut_at_end, pad_left
from grao_bench.types import Answer, Prompt


@dataclass(frozen=True, kw_only=True)
class SharedPrefixRollout:
    """temperature and top_p of the training's and the evaluation's samples; answers_per_call bounds the rows decoded together."""

    temperature: float
    top_p: float
    answers_per_call: int

    def build(self, model: Any, codec: Codec) -> SharedPrefixEngine:
        """An engine that samples from `model` as it is at each call."""
        return SharedPrefixEngine(model, codec, self.answers_per_call)


class SharedPrefixEngine:
    """Prefill once per prompt, decode n answers, drop rows as they finish."""

    def __init__(self, model: Any, codec: Codec, answers_per_call: int) -> None:
        self.model, self.codec, self.answers_per_call = model, codec, answers_per_call

    def sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        """n answers for each prompt, in the prompts' order; with the log-probability of each token under the sampling distribution.

        UserError, naming the example, for an empty prompt or one that leaves no room for the answer in the model's context.
        """
        if n == 0:
            return [[] for _ in prompts]
        check_prompts(prompts, sampling, self.model.config)
        size = max(1, self.answers_per_call // n)
        # prompts of similar length share a call, so that little is padded
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens))
        answers: list[list[Answer]] = [[] for _ in prompts]
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            for i, drawn in zip(chunk, self._sample([prompts[i] for i in chunk], n, sampling, seed), strict=True):
                answers[i] = drawn
        return answers

    @torch.no_grad()
    def _sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        device, end = self.model.device, self.codec.end_token
        uniforms = torch.from_numpy(_uniforms(prompts, n, sampling.max_new_tokens, seed)).to(device)
        cache, logits, mask = self._prefill(prompts, n)
        alive = torch.arange(len(prompts) * n, device=device)
        tokens = torch.full((len(alive), sampling.max_new_tokens), self.codec.pad_token, device=device)
        logp = torch.zeros(len(alive), sampling.max_new_tokens, dtype=torch.float32, device=device)
        done = torch.zeros(len(alive), dtype=torch.bool, device=device)
        for position in range(sampling.max_new_tokens):
            drawn, drawn_logp = draw(logits, uniforms[alive, position], sampling)
            tokens[alive, position], logp[alive, position] = drawn, drawn_logp.float()
            done = done | (drawn == end)
            going = (~done).nonzero()[:, 0]
            if len(going) == 0 or position + 1 == sampling.max_new_tokens:
                break
            # compacting copies the cache, so it waits until it saves more than that
            if len(going) <= 0.9 * len(drawn) or len(drawn) < 16:
                alive, drawn, mask, done = alive[going], drawn[going], mask[going], done[going]
                cache.batch_select_indices(going)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            out = self.model(
                input_ids=drawn[:, None],
                attention_mask=mask,
                position_ids=mask.sum(1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            )
            logits = out.logits[:, -1]
        rows = [self._answer(row, values) for row, values in zip(tokens.tolist(), logp.tolist(), strict=True)]
        return [rows[i * n : (i + 1) * n] for i in range(len(prompts))]

    def _prefill(self, prompts: Sequence[Prompt], n: int) -> tuple[Any, Tensor, Tensor]:
        """(cache, next-token logits [P*n V], mask [P*n Tp]) of left-padded prompts, each computed once and expanded to n rows."""
        ids, mask = pad_left(prompts, self.codec.pad_token, self.model.device)
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        out.past_key_values.batch_repeat_interleave(n)
        return out.past_key_values, out.logits[:, -1].repeat_interleave(n, 0), mask.repeat_interleave(n, 0)

    def _answer(self, tokens: list[int], logp: list[float]) -> Answer:
        kept, finished = cut_at_end(tokens, self.codec.end_token)
        return Answer(text=self.codec.text(kept), tokens=kept, finished=finished, sampler_logp=tuple(logp[: len(kept)]))


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """(token [N], its log-probability [N]) from logits [N V] by inverting the cumulative distribution at uniforms [N] in [0, 1).

    temperature 0 takes the largest logit. top_p keeps the smallest set of most likely tokens whose probability reaches it. One uniform
    per row replaces torch.multinomial's one exponential per vocabulary entry.
    """
    if sampling.temperature == 0:
        token = logits.argmax(-1)
        return token, torch.zeros_like(logits[:, 0])
    probs = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / sampling.temperature).softmax(-1)
    if not torch.isfinite(probs).all():
        raise UserError("the policy's logits are not numbers; lower optimizer.lr, or look at the step before")
    if sampling.top_p < 1:
        ranked, order = probs.sort(-1, descending=True)
        kept = ranked * (ranked.cumsum(-1) - ranked < sampling.top_p)
        probs = torch.zeros_like(probs).scatter(-1, order, kept)
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    token = torch.searchsorted(cumulative, uniforms.to(probs)[:, None] * total, right=True)[:, 0]
    # rounding may put the last uniform past the end, or on an entry of probability 0
    token = torch.minimum(token, (cumulative < total).sum(-1))
    return token, (probs.gather(-1, token[:, None]) / total)[:, 0].log()


def _uniforms(prompts: Sequence[Prompt], n: int, length: int, seed: int) -> np.ndarray:
    """[P*n, length] numbers in [0, 1), each row a stream of its own for (seed, prompt id, sample index)."""
    rows = [np.random.default_rng(stream_seed(seed, prompt.id, sample)).random(length) for prompt in prompts for sample in range(n)]
    return np.stack(rows)
