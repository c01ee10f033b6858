"""Log-probabilities of given tokens from hidden states, in chunks: the [tokens, vocabulary] logits never exist, forward or backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from grao_bench.core.errors import UserError

LOGITS_PER_CHUNK, ON_CUDA = 2**23, 2**27
"""A chunk's logits: 32 MiB in float32. Fewer rows make its matrix products slower, more leave the
cache. A GPU has no such cache, and launches to save: 512 MiB."""


class LogprobHead(nn.Module):
    """A causal LM's output layer as a function of hidden states: its map, then the soft cap where
    the model has one.

    It has no parameters of its own. The layer stays where the model has it and is handed over at
    each call, so tied, sharded and adapted weights are the model's. A plain linear layer takes the
    fast path, which reads its weight; one that does more (a LoRA adapter, a hook, a
    parametrisation, quantised weights) is called, a chunk at a time, and its chunks run again in
    the backward pass.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config.get_text_config()
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        layer = model.get_output_embeddings()
        if layer is None:
            name = type(model).__name__
            raise UserError(f"{name}: it has no output layer; it can't be trained here")
        self._check(model, layer)

    @torch.no_grad()
    def _check(self, model: Any, layer: nn.Module) -> None:
        """UserError unless the model's own logits are these: some families scale them by a field
        of their own."""
        count = min(8, model.config.get_text_config().vocab_size)
        ids = torch.arange(count, device=model.device)[None]
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        ours = _shaped(layer(hidden[0]), self.softcap, 1.0)
        theirs = model(input_ids=ids, use_cache=False).logits[0]
        if (ours - theirs).abs().max() > 1e-2 * theirs.abs().max():
            what = "its logits are not its output layer's (a scale of its own?)"
            raise UserError(f"{type(model).__name__}: {what}; it can't be trained here")

    def forward(
        self,
        layer: nn.Module,
        hidden: Float[Tensor, "M H"],
        targets: Int[Tensor, "M"],
        temperature: float,
        expected: Float[Tensor, "M"] | None = None,
    ) -> Float[Tensor, "M"]:
        """log softmax(logits / temperature)[target] with gradient. Softmax and log are in float32
        at least, also for half-precision models.

        expected: what d loss / d logprob will be, where that is known beforehand. The chunks'
        gradients are then taken while their logits are there, which saves making them again; if
        another gradient arrives they are made again: no number depends on the guess.
        """
        if not _multiplies_alone(layer):
            return _called(layer, hidden, targets, temperature, self.softcap)
        weight, bias = layer.weight, layer.bias
        fixed = targets, temperature, self.softcap, expected
        logp: Tensor = _Logprobs.apply(hidden, weight, bias, *fixed)  # type: ignore[no-untyped-call]
        return logp

    def entropies(
        self,
        layer: nn.Module,
        hidden: Float[Tensor, "M H"],
        temperature: float,
    ) -> Float[Tensor, "M"]:
        """The entropy (nats) of each position's distribution: -sum p log p = log Z - E[logit]. With
        gradient, for which the chunks' logits are made again in the backward pass."""
        graph = torch.is_grad_enabled()

        def chunk(hidden: Tensor) -> Tensor:
            logits = _shaped(layer(hidden), self.softcap, temperature, in_place=not graph)
            finite = logits.clamp(min=torch.finfo(logits.dtype).min)
            # a token of probability 0 adds 0, also where its logit is -inf
            return logits.logsumexp(-1) - (logits.softmax(-1) * finite).sum(-1)

        run = _made_again(chunk)
        out = [run(hidden[rows]) for rows in _chunks(hidden, _vocabulary(layer))]
        return torch.cat(out) if out else hidden.new_zeros(0)


def _made_again(chunk: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, which keeps its inputs alone and runs again in a backward pass."""
    if not torch.is_grad_enabled():
        return chunk
    return partial(checkpoint, chunk, use_reentrant=False, preserve_rng_state=False)


def _multiplies_alone(layer: nn.Module) -> bool:
    """Whether a call does no more than multiply by the weight and add the bias."""
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return type(layer) is nn.Linear and not any(hooks)  # a parametrised layer is of another class


def _vocabulary(layer: Any) -> int:
    """The layer's outputs; of one that does not tell, as many as the largest vocabularies have."""
    return int(getattr(layer, "out_features", 2**18))


def _called(
    layer: nn.Module,
    hidden: Tensor,
    targets: Tensor,
    temperature: float,
    softcap: float | None,
) -> Float[Tensor, "M"]:
    """The log-probabilities by autograd through the layer's own call, without keeping logits."""

    def chunk(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = _shaped(layer(hidden), softcap, temperature, in_place=False)
        return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]

    run = _made_again(chunk)
    out = [run(hidden[rows], targets[rows]) for rows in _chunks(hidden, _vocabulary(layer))]
    return torch.cat(out) if out else chunk(hidden, targets)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, temperature: float) -> Float[Tensor, "M V"]:
    return _shaped(linear(hidden, weight, bias), softcap, temperature)


def _shaped(
    logits: Float[Tensor, "M V"],
    softcap: float | None,
    temperature: float,
    in_place: bool = True,
) -> Float[Tensor, "M V"]:
    """Logits in float32 at least, softly capped, over the temperature."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if softcap is not None and in_place:
        logits = logits.div_(softcap).tanh_().mul_(softcap)
    elif softcap is not None:
        logits = (logits / softcap).tanh() * softcap
    if temperature == 1:
        return logits
    return logits.div_(temperature) if in_place else logits / temperature


def _chunks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    rows, logits = len(hidden), ON_CUDA if hidden.is_cuda else LOGITS_PER_CHUNK
    size = max(1, logits // vocabulary)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


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
    ) -> Tensor:
        logp = hidden.new_zeros(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        ctx.temperature, ctx.softcap, ctx.expected, ctx.ready = temperature, softcap, expected, None
        wanted = ctx.needs_input_grad[:3]
        if expected is not None and any(wanted):
            ctx.ready = _zeros(wanted, hidden, weight, bias)
        for rows in _chunks(hidden, len(weight)):
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
            ready = _zeros(ctx.needs_input_grad[:3], hidden, weight, bias)
            for rows in _chunks(hidden, len(weight)):
                logits = _logits(hidden[rows], weight, bias, ctx.softcap, ctx.temperature)
                slope = _slope(logits, ctx)
                _, total = _exponentiate(logits)
                _add_gradients(ctx, ready, logits, total, slope, hidden, weight, targets, grads[0], rows)
        inputs = zip(ready, (hidden, weight, bias), strict=True)
        return *(None if sums is None else sums.to(of.dtype) for sums, of in inputs), None, None, None, None


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
