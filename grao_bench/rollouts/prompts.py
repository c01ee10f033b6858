"""What the engines share: prompts they refuse, prompts as a rectangle, and where an answer ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from grao_bench.errors import UserError
from grao_bench.interfaces import Codec, Sampling
from grao_bench.types import Prompt


def check_prompts(prompts: Sequence[Prompt], sampling: Sampling, codec: Codec, config: Any) -> None:
    """UserError, naming the example, for an empty prompt, one that leaves no room for an answer in the model's context, no tokens to
    answer with, or ids that the model doesn't have."""
    config = config.get_text_config()
    context, vocabulary = getattr(config, "max_position_embeddings", None), config.vocab_size
    for prompt in prompts:
        if sampling.max_new_tokens < 1:
            raise UserError(f"example {prompt.id}: budget.max_answer_tokens={sampling.max_new_tokens}: must be at least 1")
        if not prompt.tokens:
            raise UserError(f"example {prompt.id}: its prompt is empty; drop it from the data")
        if context is not None and len(prompt.tokens) + sampling.max_new_tokens > context:
            raise UserError(
                f"example {prompt.id}: {len(prompt.tokens)} prompt tokens + {sampling.max_new_tokens} answer tokens exceed the model's "
                f"context of {context}; lower budget.max_prompt_tokens or budget.max_answer_tokens"
            )
        strange = max(*prompt.tokens, *codec.stop_tokens)
        if strange >= vocabulary:
            raise UserError(
                f"example {prompt.id}: the tokenizer's id {strange} is not in the model's vocabulary of {vocabulary}; "
                "tokenizer and model don't belong together"
            )


def not_numbers(example: str) -> UserError:
    """The error of both engines for logits that are not numbers."""
    return UserError(f"example {example}: the policy's logits are not numbers; lower optimizer.lr, or look at the step before")


def check_seconds(max_seconds: float | None) -> None:
    """UserError for a deadline that leaves no time."""
    if max_seconds is not None and max_seconds <= 0:
        raise UserError(f"rollout.max_seconds={max_seconds}: must be above 0, or null for no deadline")


def pad_left(prompts: Sequence[Prompt], pad_token: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(ids [P Tp], mask [P Tp]) of prompts padded on the left, so that every answer begins in the same column."""
    width = max(len(prompt.tokens) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_token)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt.tokens) :] = torch.tensor(prompt.tokens)
        mask[row, width - len(prompt.tokens) :] = 1
    return ids.to(device), mask.to(device)


def cut_at_end(tokens: Sequence[int], stop_tokens: Collection[int]) -> tuple[tuple[int, ...], bool]:
    """(the tokens up to and with the first that stops an answer, True), or (all of them, False) where there is none: unfinished."""
    end = next((place for place, token in enumerate(tokens) if token in stop_tokens), None)
    return tuple(tokens[: None if end is None else end + 1]), end is not None
