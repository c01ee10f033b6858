"""Attention for groups that share a prompt, registered with transformers for every model that goes through its attention interface.

A batch's prompts and answers lie in one row without padding ("packed"); each answer attends to its prompt and to itself. The linear layers
see real tokens only, each prompt once; attention gathers rows of similar length into rectangles. A call without a layout is plain SDPA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from grao_bench.core.errors import UserError
from grao_bench.core.types import Batch

NAME = "grao_bench_shared_prefix"
PAIRS_PER_BLOCK, ON_CUDA = 2**16, 2**22
"""A rectangle with fewer query-key pairs than this is not split further: its padding costs less
than another call. On a GPU a call is its launches: a training step of Qwen2.5-0.5B's shape, 64
answers, on an H200 had 3 times the speed with this and the head's chunks of the same reason."""


class Layout(Protocol):
    """Who attends to whom in one forward pass."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """[B N H Dv] from query [B H N D], key [B Hkv M D], value [B Hkv M Dv]; `window`: a sliding layer's number of visible positions."""
        ...


def use_shared_prefix(model: Any) -> None:
    """Make a transformers model take layouts; its other calls stay SDPA's.

    UserError where its attention can't be replaced, or isn't all that mixes tokens: three short prompts packed are held against each alone.
    """
    before = model.config._attn_implementation
    if before == NAME:
        return
    _register()
    name = type(model).__name__
    try:
        model.set_attn_implementation(NAME)
    except ValueError as error:
        raise UserError(f"{name}: its attention can't be replaced ({error}); the engine needs transformers' attention interface") from None
    try:
        _check(model)
    except Exception as error:  # whatever a model's code says to arguments that it doesn't know
        model.set_attn_implementation(before)
        if isinstance(error, UserError | torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name}: it can't run prompts packed in one row ({reason}); the shared-prefix engine doesn't support it") from None


@cache
def _register() -> None:
    """Tell transformers, once in a process, whose models then find the attention by its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    layout = kwargs.pop("layout", None)
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return plain
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        what = "soft-capped attention and attention sinks are not supported"
        raise UserError(f"{type(module).__name__}: {what} by the shared-prefix engine")
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    return layout.attend(query, key, value, scaling, kwargs.get("sliding_window")), None


@torch.no_grad()
def _check(model: Any) -> None:
    """UserError unless packed prompts have the hidden states that each has alone. A model that mixes tokens elsewhere too (convolution,
    linear attention, state space), or doesn't hand its attention the layout, lets prompts see each other."""
    vocabulary, training = model.config.get_text_config().vocab_size, model.training
    prompts = [[token % vocabulary for token in range(count)] for count in (1, 2, 4)]
    packed, decoder = pack_prompts(prompts, model.device), model.get_decoder()
    model.eval()
    try:
        together = decoder(
            input_ids=packed.tokens,
            attention_mask=prepared_mask(model.device),
            position_ids=packed.positions,
            use_cache=False,
            layout=packed,
        ).last_hidden_state[0]
        apart = torch.cat(
            [decoder(input_ids=torch.tensor([ids], device=model.device), use_cache=False).last_hidden_state[0] for ids in prompts]
        )
    finally:
        model.train(training)
    off = (together - apart).float().norm(dim=-1) / apart.float().norm(dim=-1)
    # in half precision rounding alone may send a token to another expert; a mix-up shows in all but the first prompt
    if off.max() > 1e-3 if apart.dtype in (torch.float32, torch.float64) else off.median() > 0.1:
        raise UserError(
            f"{type(model).__name__}: packed in one row, its prompts see each other; attention must be all that mixes tokens, and "
            "go through transformers' attention interface"
        )


def prepared_mask(device: torch.device) -> Bool[Tensor, "1 1 1 1"]:
    """What to pass as attention_mask beside a layout: transformers takes a 4-d mask as ready and makes none of its own."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


@dataclass(frozen=True)
class Block:
    """Rows of similar length attended together: packed indices of their queries [R T] and keys [R L], and both's positions.

    An index past a row's end repeats its last one; `key_valid` leaves such keys out. `causal`: queries and keys are the same tokens.
    """

    queries: Int[Tensor, "R T"]
    keys: Int[Tensor, "R L"]
    query_positions: Int[Tensor, "R T"]
    key_positions: Int[Tensor, "R L"]
    key_valid: Bool[Tensor, "R L"]
    query_valid: Bool[Tensor, "R T"]
    causal: bool
    biases: dict[tuple[int | None, int, torch.dtype], Tensor] = field(default_factory=dict)

    def bias(self, window: int | None, copies: int, dtype: torch.dtype) -> Float[Tensor, "R 1 N L"]:
        """0 where a query may look, -inf elsewhere, for `copies` query heads folded into the query axis (N = copies * T)."""
        key = (window, copies, dtype)
        if key not in self.biases:
            distance = self.query_positions[:, :, None] - self.key_positions[:, None, :]
            seen = (distance >= 0) & self.key_valid[:, None, :]
            if window is not None:
                seen &= distance < window
            bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            self.biases[key] = bias.repeat(1, copies, 1)[:, None]
        return self.biases[key]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """[R*T H Dv] from packed query [N H D], key [N Hkv D] and value [N Hkv Dv]."""
        R, T = self.queries.shape
        L, H, heads = self.keys.shape[1], query.shape[1], key.shape[1]
        q = query.index_select(0, self.queries.reshape(-1)).view(R, T, H, -1).transpose(1, 2)
        k = key.index_select(0, self.keys.reshape(-1)).view(R, L, heads, -1).transpose(1, 2)
        v = value.index_select(0, self.keys.reshape(-1)).view(R, L, heads, -1).transpose(1, 2)
        if self.causal and (window is None or window >= T):  # a key past its row's end is in the future of every real query
            k, v = k.repeat_interleave(H // heads, 1), v.repeat_interleave(H // heads, 1)
            out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        else:  # heads that share a key head are folded into the query axis, so that no key is copied for them
            out = scaled_dot_product_attention(
                q.reshape(R, heads, H // heads * T, -1), k, v, attn_mask=self.bias(window, H // heads, query.dtype), scale=scaling
            ).reshape(R, H, T, -1)
        return out.transpose(1, 2).reshape(R * T, H, -1)


@dataclass(frozen=True)
class PackedLayout:
    """The packed tokens of a batch, or of prompts alone: [1 N], without padding.

    `predictors` [M] are the packed positions whose hidden state predicts an answer token, in the order of `mask.nonzero()`; the last token
    of an answer predicts nothing and is here only where it was asked for.
    `ends` [P K] are the packed positions of each answer's last token that is here, or of its
    prompt's last token where none is.
    """

    tokens: Int[Tensor, "1 N"]
    positions: Int[Tensor, "1 N"]
    predictors: Int[Tensor, "M"]
    ends: Int[Tensor, "P K"]
    blocks: list[Block]
    inverse: Int[Tensor, "N"]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """See `Layout`; B = 1."""
        q, k, v = query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1)
        parts = [block.attend(q, k, v, scaling, window) for block in self.blocks]
        return torch.cat(parts).index_select(0, self.inverse)[None]


def pack(batch: Batch, last_tokens: bool = False) -> PackedLayout:
    """The layout of a P x K x T batch: P prompts once, then the answers, by default without their
    last tokens, which predict nothing."""
    device, (P, K, T) = batch.tokens.device, batch.tokens.shape
    prompt_lengths, lengths = batch.prompt_mask.sum(-1), batch.mask.sum(-1)
    inputs = lengths if last_tokens else (lengths - 1).clamp(min=0)
    prompt_starts = prompt_lengths.cumsum(0) - prompt_lengths
    answer_starts = (inputs.flatten().cumsum(0) - inputs.flatten()).view(P, K) + prompt_lengths.sum()
    steps = torch.arange(T, device=device)
    is_input = steps < inputs[..., None]
    answer_positions = prompt_lengths[:, None, None] + steps
    previous = answer_starts[..., None] + steps - 1
    prompt_ends = (prompt_starts + prompt_lengths - 1)[:, None]
    previous[..., :1] = prompt_ends[..., None]
    blocks = [
        *_prompt_blocks(prompt_starts, prompt_lengths),
        *_answer_blocks(prompt_starts, prompt_lengths, answer_starts, inputs),
    ]
    return PackedLayout(
        tokens=torch.cat([batch.prompts[batch.prompt_mask], batch.tokens[is_input]])[None],
        positions=torch.cat([(batch.prompt_mask.cumsum(-1) - 1)[batch.prompt_mask], answer_positions.expand(P, K, T)[is_input]])[None],
        predictors=previous[batch.mask],
        ends=torch.where(inputs > 0, answer_starts + inputs - 1, prompt_ends),
        blocks=blocks,
        inverse=_inverse(blocks),
    )


def pack_prompts(prompts: Sequence[Sequence[int]], device: torch.device) -> PackedLayout:
    """The layout of prompts alone; `predictors` [P] are their last tokens, and there are no
    answers."""
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    starts = lengths.cumsum(0) - lengths
    blocks = _prompt_blocks(starts, lengths)
    return PackedLayout(
        tokens=torch.tensor([token for prompt in prompts for token in prompt], device=device)[None],
        positions=torch.cat([torch.arange(len(prompt), device=device) for prompt in prompts])[None],
        predictors=starts + lengths - 1,
        ends=lengths.new_zeros(len(prompts), 0),
        blocks=blocks,
        inverse=_inverse(blocks),
    )


def _prompt_blocks(starts: Tensor, lengths: Tensor) -> list[Block]:
    blocks = []
    for rows in _similar(lengths.tolist(), [0] * len(lengths), lengths.is_cuda):
        index, valid, positions = _span(starts[rows], lengths[rows])
        blocks.append(Block(index, index, positions, positions, valid, valid, causal=True))
    return blocks


def _answer_blocks(prompt_starts: Tensor, prompt_lengths: Tensor, starts: Tensor, inputs: Tensor) -> list[Block]:
    K, blocks = starts.shape[1], []
    flat_starts, flat_inputs = starts.flatten(), inputs.flatten()
    used = [row for row, length in enumerate(flat_inputs.tolist()) if length]
    prompt_of = prompt_lengths.repeat_interleave(K).tolist()
    used_lengths, prefixes = [int(flat_inputs[row]) for row in used], [prompt_of[row] for row in used]
    for picked in _similar(used_lengths, prefixes, starts.is_cuda):
        rows = torch.tensor([used[i] for i in picked], device=starts.device)
        of = rows // K
        prompt, prompt_valid, prompt_positions = _span(prompt_starts[of], prompt_lengths[of])
        answer, valid, positions = _span(flat_starts[rows], flat_inputs[rows])
        positions = positions + prompt_lengths[of][:, None]
        blocks.append(
            Block(
                queries=answer,
                keys=torch.cat([prompt, answer], 1),
                query_positions=positions,
                key_positions=torch.cat([prompt_positions, positions], 1),
                key_valid=torch.cat([prompt_valid, valid], 1),
                query_valid=valid,
                causal=False,
            )
        )
    return blocks


def _span(starts: Int[Tensor, "R"], lengths: Int[Tensor, "R"]) -> tuple[Int[Tensor, "R T"], Bool[Tensor, "R T"], Int[Tensor, "R T"]]:
    """Packed indices of rows that start there and are that long, which of them are real, and their place in the row (the last repeated)."""
    steps = torch.arange(int(lengths.max()), device=starts.device)
    valid = steps < lengths[:, None]
    places = torch.minimum(steps, lengths[:, None] - 1)
    return starts[:, None] + places, valid, places


def _similar(lengths: list[int], prefixes: list[int], cuda: bool) -> list[list[int]]:
    """Rows grouped by length, longest first; a group is closed when its padding would cost more query-key pairs than a call is worth."""
    groups: list[list[int]] = []
    waste = longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], -prefixes[row], row)):
        pairs = longest * (longest + prefixes[row]) - lengths[row] * (lengths[row] + prefixes[row])
        if not groups or waste + pairs > (ON_CUDA if cuda else PAIRS_PER_BLOCK):
            groups.append([])
            waste, longest, pairs = 0, lengths[row], 0
        waste += pairs
        groups[-1].append(row)
    return groups


def _inverse(blocks: Sequence[Block]) -> Int[Tensor, "N"]:
    """Where each packed token's output lies in the blocks' outputs, one after another."""
    packed = torch.cat([block.queries.flatten() for block in blocks])
    valid = torch.cat([block.query_valid.flatten() for block in blocks]).nonzero()[:, 0]
    inverse = torch.empty_like(valid)
    inverse[packed[valid]] = valid
    return inverse
