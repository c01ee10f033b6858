"""Drawing the next token: temperature and truncation as transformers does them, by inverting the cumulative distribution in two levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from grao_bench.core.interfaces import Sampling
from grao_bench.core.ops import stream_seed
from grao_bench.core.types import Prompt, occurrences

LOG2_E = 1 / math.log(2)
BELOW_1 = 1 - 2.0**-52
CANDIDATES = 1024
"""How many of the likeliest tokens are sorted first for top_p; a row whose mass they don't reach has its whole vocabulary sorted."""


class NextToken:
    """The distributions [N V] that N next tokens are drawn from. Not a number in, not a number out: `logp` says where.

    temperature 0 takes the largest logit. In transformers' order: the temperature, then top_k (ties with the k-th stay), top_p (the fewest
    likeliest tokens whose probability reaches it) and min_p (times the largest probability).
    """

    def __init__(self, logits: Float[Tensor, "N V"], sampling: Sampling) -> None:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        self.sampling = sampling
        self.scaled = wide - wide.amax(-1, keepdim=True)
        # 2 ** (x / log 2), not exp(x): on a CPU it takes half the time
        self.weights = (self.scaled * LOG2_E).exp2_()
        plain = sampling.temperature == 1 and not _truncates(sampling)
        self.raw_total = None if plain else self.weights.sum(-1)
        if sampling.temperature not in (0, 1):
            torch.mul(self.scaled, LOG2_E / sampling.temperature, out=self.weights).exp2_()
        if sampling.temperature > 0 and _truncates(sampling):
            self.weights = _truncated(self.weights, sampling)
        self.total: Tensor | None = None

    def draw(self, uniforms: Float[Tensor, "N"]) -> Int[Tensor, "N"]:
        """A token for each uniform in [0, 1), never one of probability 0. The random number is one per row, not one per entry."""
        if self.sampling.temperature == 0:
            return self.scaled.argmax(-1)
        V = self.weights.shape[1]
        size = 1 << max(1, math.ceil(math.log2(V) / 2))
        whole = V // size * size
        sums = self.weights[:, :whole].unflatten(1, (-1, size)).sum(-1)
        if whole < V:
            sums = torch.cat([sums, self.weights[:, whole:].sum(-1, keepdim=True)], 1)
        cumulative = sums.cumsum(-1, dtype=torch.float64)
        self.total = cumulative[:, -1]
        target = uniforms * self.total
        block = _pick(cumulative, target)
        rest = target[:, None] - cumulative.gather(1, block) + sums.gather(1, block)
        places = block * size + torch.arange(size, device=block.device)
        if whole < V:
            inside = torch.where(places < V, self.weights.gather(1, places.clamp(max=V - 1)), 0.0)
        else:
            inside = self.weights.gather(1, places)
        place = _pick(inside.cumsum(-1, dtype=torch.float64), rest[:, 0])
        return (block * size + place)[:, 0].clamp_(max=V - 1)  # only where the weights are not numbers

    def logp(self, token: Int[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(log-probability under what was drawn from, log-probability of the whole vocabulary at temperature 1) of a token per row."""
        scaled = self.scaled.gather(1, token[:, None])[:, 0]
        raw = scaled if self.raw_total is None else scaled - self.raw_total.log()
        if self.sampling.temperature == 0:
            return torch.zeros_like(raw), raw
        total = (self.weights.sum(-1) if self.total is None else self.total).log().to(scaled)
        drawn = scaled / self.sampling.temperature - total
        if _truncates(self.sampling):
            drawn = torch.where(self.weights.gather(1, token[:, None])[:, 0] > 0, drawn, -torch.inf)
        return drawn, drawn if self.raw_total is None else raw


Draw = Callable[[NextToken, Int[Tensor, "N"]], Int[Tensor, "N"]]
"""A token for each row, from the rows' distributions and their places (see `Draws`)."""


class Draws:
    """Chooses the tokens of one call with n answers to each prompt, from one uniform number each.

    Token t of answer k to prompt p has the place (p n + k) T + t, where T is max_new_tokens. Each
    answer has a stream of its own for (seed, prompt id, k) and, where a prompt stands several
    times in a step, which of these it is; the first time has the stream of a prompt that stands
    once.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: int,
        device: torch.device,
    ) -> None:
        shape = len(prompts), n, sampling.max_new_tokens
        uniforms = np.zeros(shape)
        if sampling.temperature > 0:
            again = occurrences(prompt.id for prompt in prompts)
            for p, prompt in enumerate(prompts):
                which = again[p] if prompt.occurrence is None else prompt.occurrence
                key = (prompt.id, "occurrence", which) if which else (prompt.id,)
                for k in range(n):
                    stream = np.random.default_rng(stream_seed(seed, *key, k))
                    uniforms[p, k] = stream.random(shape[2])
        self.uniforms = torch.from_numpy(uniforms).flatten().to(device)

    def __call__(self, following: NextToken, place: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """A token for each row; `place`: where it is in the call."""
        return following.draw(self.uniforms.index_select(0, place))


def _pick(cumulative: Float[Tensor, "N M"], target: Float[Tensor, "N"]) -> Int[Tensor, "N 1"]:
    """The entry in which the cumulative weights pass the target; it has a weight above 0, also where rounding put the target outside."""
    inside = torch.minimum(target.clamp(min=0), cumulative[:, -1] * BELOW_1)
    index = torch.searchsorted(cumulative, inside[:, None], right=True)
    return index.clamp_(max=cumulative.shape[1] - 1)  # only where the weights are not numbers


def _truncates(sampling: Sampling) -> bool:
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0


def _truncated(weights: Float[Tensor, "N V"], sampling: Sampling) -> Float[Tensor, "N V"]:
    """Weights (the largest of each row is 1) with 0 for what top_k, top_p and min_p leave out."""
    V = weights.shape[1]
    if 0 < sampling.top_k < V:
        weights = weights.masked_fill(weights < weights.topk(sampling.top_k, -1).values[:, -1:], 0.0)
    if sampling.top_p < 1:
        weights = _nucleus(weights, sampling.top_p)
    if sampling.min_p > 0:
        weights = weights.masked_fill(weights < sampling.min_p, 0.0)
    return weights


def _nucleus(weights: Float[Tensor, "N V"], top_p: float) -> Float[Tensor, "N V"]:
    limit = top_p * weights.sum(-1, keepdim=True)
    ranked, order = weights.topk(min(CANDIDATES, weights.shape[1]), -1)
    before = ranked.cumsum(-1) - ranked
    if ranked.shape[1] < weights.shape[1] and bool((before[:, -1:] < limit).any()):
        ranked, order = weights.sort(-1, descending=True)
        before = ranked.cumsum(-1) - ranked
    return torch.zeros_like(weights).scatter(1, order, ranked * (before < limit))
