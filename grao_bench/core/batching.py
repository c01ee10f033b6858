"""From answers to the P x K x T rectangle, and cutting it for memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grao_bench.core.errors import UserError
from grao_bench.core.types import Answer, Batch, Needs


def pad_rows(
    rows: Sequence[Sequence[int]],
    pad_token: int,
    left: bool = False,
) -> tuple[Int[Tensor, "N W"], Bool[Tensor, "N W"]]:
    """(ids, mask) of rows padded to the longest, on the right or on the left; the mask is True on
    real tokens, by their place: one of them may be the pad token."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_token)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for n, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(len(row))
        ids[n, place], mask[n, place] = torch.tensor(row), True
    return ids, mask


def make_batch(
    prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[Answer]], ids: Sequence[str], needs: Needs, pad_token: int
) -> Batch:
    """The P x K x T rectangle of these prompts and their answers: prompts padded on the left, answers on the right."""
    P, K = len(rows), len(needs.slots)
    prompt_ids, prompt_mask = pad_rows(prompts, pad_token, left=True)
    answers = [answer for row in rows for answer in row]
    flat = pad_rows([answer.tokens for answer in answers], pad_token)
    tokens, mask = (x.unflatten(0, (P, K)) for x in flat)
    finished = torch.tensor([answer.finished for answer in answers]).reshape(P, K)
    return Batch(needs.slots, tuple(ids), prompt_ids, prompt_mask, tokens, mask, finished)


def on_rollouts(batch: Batch, rollouts: Sequence[Sequence[Answer]], name: Literal["logp", "sampler_logp"]) -> Float[Tensor, "P K T"] | None:
    """What an engine said of its tokens, in the rollouts' places of a batch (they come first), 0 elsewhere; None where it said nothing."""
    out = torch.zeros(batch.tokens.shape)
    for p, drawn in enumerate(rollouts):
        for k, answer in enumerate(drawn):
            values = getattr(answer, name)
            if values is None:
                return None
            out[p, k, : len(values)] = torch.tensor(values)
    return out


def context(config: Any) -> int | None:
    """The most tokens that a model reads, where its transformers config says so."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if found is None else int(found)


def check_length(example: str, prompt: int, answer: int, config: Any) -> None:
    """UserError where a prompt and its answer, in tokens, exceed the context of a transformers model with this config."""
    room = context(config)
    if room is not None and prompt + answer > room:
        raise UserError(
            f"example {example}: {prompt} prompt tokens + {answer} answer tokens exceed the model's context of {room}; "
            "lower budget.max_prompt_tokens or budget.max_answer_tokens"
        )


def check_ids(example: str, highest: int, config: Any) -> None:
    """UserError where an example's highest token id has no place in the model's vocabulary."""
    vocabulary = config.get_text_config().vocab_size
    if highest >= vocabulary:
        raise UserError(
            f"example {example}: the tokenizer's id {highest} is not in the model's vocabulary of {vocabulary}; "
            "tokenizer and model don't belong together"
        )


def packed_tokens(batch: Batch) -> list[int]:
    """The tokens that each row costs a forward pass: its prompt once, and its answers."""
    return (batch.prompt_mask.sum(-1) + batch.mask.sum((1, 2))).tolist()


def micro_batches(batch: Batch, tokens_per_forward: int) -> list[list[int]]:
    """The batch's rows, those of similar length together, in chunks of at most tokens_per_forward tokens; a row's answers stay together."""
    costs = packed_tokens(batch)
    chunks: list[list[int]] = []
    used = 0
    for row in sorted(range(batch.size), key=lambda row: (-costs[row], row)):
        if not chunks or used + costs[row] > tokens_per_forward:
            chunks.append([])
            used = 0
        used += costs[row]
        chunks[-1].append(row)
    return chunks


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch with its tensors on a device."""
    return batch.map(lambda x: x.to(device))
