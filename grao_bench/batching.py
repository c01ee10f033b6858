"""From answers to the P x K x T rectangle, and cutting it for memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from grao_bench.errors import UserError
from grao_bench.types import Answer, Batch, Needs


def make_batch(
    prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[Answer]], ids: Sequence[str], needs: Needs, pad_token: int
) -> Batch:
    """The P x K x T rectangle of these prompts and their answers: prompts padded on the left, answers on the right."""
    P, K = len(rows), len(needs.slots)
    Tp = max(len(prompt) for prompt in prompts)
    T = max(len(answer.tokens) for row in rows for answer in row)
    prompt_ids, prompt_mask = torch.full((P, Tp), pad_token), torch.zeros(P, Tp, dtype=torch.bool)
    tokens, mask = torch.full((P, K, T), pad_token), torch.zeros(P, K, T, dtype=torch.bool)
    finished = torch.zeros(P, K, dtype=torch.bool)
    for p, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        prompt_ids[p, Tp - len(prompt) :] = torch.tensor(prompt)
        prompt_mask[p, Tp - len(prompt) :] = True
        for k, answer in enumerate(row):
            tokens[p, k, : len(answer.tokens)] = torch.tensor(answer.tokens)
            mask[p, k, : len(answer.tokens)] = True
            finished[p, k] = answer.finished
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


def check_length(example: str, prompt: int, answer: int, config: Any) -> None:
    """UserError where a prompt and its answer, in tokens, exceed the context of a transformers model with this config."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and prompt + answer > context:
        raise UserError(
            f"example {example}: {prompt} prompt tokens + {answer} answer tokens exceed the model's context of {context}; "
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
