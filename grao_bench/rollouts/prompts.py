"""What the engines share: prompts and settings they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grao_bench.core.batching import check_ids, check_length
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Codec, Sampled, Sampling
from grao_bench.core.types import Prompt


def check_prompts(prompts: Sequence[Prompt], sampling: Sampling, codec: Codec, config: Any) -> None:
    """UserError, naming the example, for an empty prompt, one that leaves no room for an answer in the model's context, no tokens to
    answer with, or ids that the model doesn't have."""
    for prompt in prompts:
        if sampling.max_new_tokens < 1:
            raise UserError(f"example {prompt.id}: budget.max_answer_tokens={sampling.max_new_tokens}: must be at least 1")
        if not prompt.tokens:
            raise UserError(f"example {prompt.id}: its prompt is empty; drop it from the data")
        check_length(prompt.id, len(prompt.tokens), sampling.max_new_tokens, config)
        check_ids(prompt.id, max(*prompt.tokens, *codec.stop_tokens), config)


def synced(policy: Sampled | None) -> Any:
    """The model that an engine was told to draw from; UserError where it was told of none."""
    if policy is None:
        what = "the rollout engine has no policy yet"
        raise UserError(f"{what}: call engine.sync(policy, step) first")
    return policy.model


def not_numbers(example: str) -> UserError:
    """The error of both engines for logits that are not numbers."""
    return UserError(f"example {example}: the policy's logits are not numbers; lower optimizer.lr, or look at the step before")


def check_settings(answers_per_call: int, max_seconds: float | None) -> None:
    """UserError for a call without rows, or a deadline that leaves no time."""
    if answers_per_call < 1:
        raise UserError(f"rollout.answers_per_call={answers_per_call}: must be at least 1")
    if max_seconds is not None and max_seconds <= 0:
        raise UserError(f"rollout.max_seconds={max_seconds}: must be above 0, or null for no deadline")
