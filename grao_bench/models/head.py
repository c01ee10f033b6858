"""Log-probabilities of given tokens from hidden states, in chunks: the [tokens, vocabulary] logits never exist, forward or backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from grao_bench.errors import UserError

LOGITS_PER_CHUNK = 2**23
"""A chunk's logits: 32 MiB in float32. Fewer rows make its matrix products slower, more leave the cache."""


class LogprobHead:
    """A causal LM's output layer as a function of hidden states: its linear map, then the soft cap where the model has one."""

    def __init__(self, model: Any) -> None:
        layer = model.get_output_embeddings()
        if not isinstance(layer, nn.Linear):
            raise UserError(
                f"{type(model).__name__}: its output layer is a {type(layer).__name__}, not a linear one; it can't be trained here"
            )
        self.layer = layer
        self.softcap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self.guesses_hold = True
        """Whether every gradient that was expected so far is the one that came."""
        self._check(model)

    @torch.no_grad()
    def _check(self, model: Any) -> None:
        """UserError unless the model's own logits are these: some families scale them by a field of their own."""
        ids = torch.arange(min(8, len(self.layer.weight)), device=model.device)[None]
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        ours, theirs = (
            _logits(hidden[0], self.layer.weight, self.layer.bias, self.softcap, 1.0),
            model(input_ids=ids, use_cache=False).logits[0],
        )
        if (ours - theirs).abs().max() > 1e-2 * theirs.abs().max():
            raise UserError(
                f"{type(model).__name__}: its logits are not its output layer's (a scale of its own?); it can't be trained here"
            )

    def logprobs(
        self, hidden: Float[Tensor, "M H"], targets: Int[Tensor, "M"], temperature: float, expected: Float[Tensor, "M"] | None = None
    ) -> Float[Tensor, "M"]:
        """log softmax(logits / temperature)[target] with gradient. Softmax and log are in float32 at least, also for half-precision models.

        expected: what d loss / d logprob will be, where that is known beforehand. The chunks' gradients are then taken while their logits
        are there, which saves making them again; if another gradient arrives they are made again: no number depends on the guess.
        """
        weight, bias = self.layer.weight, self.layer.bias
        logp: Tensor = _Logprobs.apply(hidden, weight, bias, targets, temperature, self.softcap, expected, self)
        return logp

    def entropies(self, hidden: Float[Tensor, "M H"], temperature: float) -> Float[Tensor, "M"]:
        """The entropy (nats) of each position's distribution, without gradient."""
        return _entropies(hidden, self.layer.weight, self.layer.bias, temperature, self.softcap)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, temperature: float) -> Float[Tensor, "M V"]:
    logits = linear(hidden, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if softcap is not None:
        logits = logits.div_(softcap).tanh_().mul_(softcap)
    return logits if temperature == 1 else logits.div_(temperature)


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, LOGITS_PER_CHUNK // vocabulary)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


@torch.no_grad()
def _entropies(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, softcap: float | None) -> Float[Tensor, "M"]:
    """-sum p log p = log Z - E[logit]."""
    out = []
    for rows in _chunks(len(hidden), len(weight)):
        logits = _logits(hidden[rows], weight, bias, softcap, temperature)
        # a token of probability 0 adds 0, also where its logit is -inf
        out.append(logits.logsumexp(-1) - (logits.softmax(-1) * logits.clamp(min=torch.finfo(logits.dtype).min)).sum(-1))
    return torch.cat(out) if out else hidden.new_zeros(0)


class _Logprobs(torch.autograd.Function):
    """d logp_t / d logits = (one-hot(target) - softmax) / temperature, a chunk at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        softcap: float | None,
        expected: Tensor | None,
        head: LogprobHead,
    ) -> Tensor:
        logp = hidden.new_zeros(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        ctx.head, ctx.temperature, ctx.softcap, ctx.expected, ctx.ready = head, temperature, softcap, expected, None
        wanted = ctx.needs_input_grad[:3]
        if expected is not None and any(wanted):
            ctx.ready = _zeros(wanted, hidden, weight, bias)
        for rows in _chunks(len(hidden), len(weight)):
            logits = _logits(hidden[rows], weight, bias, softcap, temperature)
            slope = _slope(logits, ctx) if ctx.ready is not None else None
            chosen = logits.gather(-1, targets[rows, None])[:, 0]
            highest, total = _exponentiate(logits)
            logp[rows] = chosen - (total.log() + highest)
            if ctx.ready is not None and expected is not None:
                _add_gradients(ctx, ctx.ready, logits, total, slope, hidden, weight, targets, expected, rows)
        ctx.save_for_backward(hidden, weight, bias, targets)
        return logp

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        # kept nowhere else, so that autograd may take them as they are
        ready, ctx.ready = ctx.ready, None
        if ready is None or not torch.equal(grads[0], ctx.expected):
            ctx.head.guesses_hold &= ready is None
            ready = _zeros(ctx.needs_input_grad[:3], hidden, weight, bias)
            for rows in _chunks(len(hidden), len(weight)):
                logits = _logits(hidden[rows], weight, bias, ctx.softcap, ctx.temperature)
                slope = _slope(logits, ctx)
                _, total = _exponentiate(logits)
                _add_gradients(ctx, ready, logits, total, slope, hidden, weight, targets, grads[0], rows)
        inputs = zip(ready, (hidden, weight, bias), strict=True)
        return *(None if sums is None else sums.to(of.dtype) for sums, of in inputs), None, None, None, None, None


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _zeros(wanted: tuple[bool, bool, bool], hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Gradients:
    """Room for the gradients. Those summed over chunks are in float32 at least: in half precision every chunk would add its rounding."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    of_weight = torch.zeros_like(weight, dtype=dtype) if wanted[1] else None
    of_bias = torch.zeros_like(bias, dtype=dtype) if bias is not None and wanted[2] else None
    return torch.empty_like(hidden) if wanted[0] else None, of_weight, of_bias


def _slope(logits: Float[Tensor, "M V"], ctx: Any) -> Float[Tensor, "M V"] | None:
    """d capped logit / d logit, from the capped logits over the temperature; None without a cap."""
    return None if ctx.softcap is None else 1 - (logits * (ctx.temperature / ctx.softcap)) ** 2


def _exponentiate(logits: Float[Tensor, "M V"]) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """(highest, total) of the logits; in place they become exp(logit - highest), whose sum is the total. Fewer passes than logsumexp's."""
    highest = logits.amax(-1)
    return highest, logits.sub_(highest[:, None]).exp_().sum(-1)


def _add_gradients(
    ctx: Any,
    into: Gradients,
    weights: Float[Tensor, "M V"],
    total: Float[Tensor, "M"],
    slope: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    grad: Tensor,
    rows: slice,
) -> None:
    """Put a chunk's gradients into those of hidden, weight and bias. weights over their total are the softmax; they are overwritten."""
    share = grad[rows, None] / ctx.temperature
    d_logits = weights.mul_(-share / total[:, None])
    d_logits.scatter_add_(-1, targets[rows, None], share.to(d_logits))
    if slope is not None:
        d_logits.mul_(slope)
    d_logits = d_logits.to(hidden.dtype)
    of_hidden, of_weight, of_bias = into
    if of_hidden is not None:
        torch.mm(d_logits, weight, out=of_hidden[rows])
    if of_weight is not None and of_weight.dtype == hidden.dtype:
        of_weight.addmm_(d_logits.t(), hidden[rows])
    elif of_weight is not None:
        of_weight += d_logits.t() @ hidden[rows]  # a half-precision product sums in float32 inside and is rounded once
    if of_bias is not None:
        of_bias += d_logits.sum(0, dtype=of_bias.dtype)
