"""What every engine refuses before it samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grao_bench.errors import UserError
from grao_bench.interfaces import Sampling
from grao_bench.types import Prompt


def check_prompts(prompts: Sequence[Prompt], sampling: Sampling, config: Any) -> None:
    """UserError, naming the example, for an empty prompt or one that leaves no room for the answer in the model's context."""
    if sampling.max_new_tokens < 1:
        raise UserError(f"budget.max_answer_tokens={sampling.max_new_tokens}: must be at least 1")
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    for prompt in prompts:
        if not prompt.tokens:
            raise UserError(f"example {prompt.id}: its prompt is empty; drop it from the data")
        if context is not None and len(prompt.tokens) + sampling.max_new_tokens > context:
            raise UserError(
                f"example {prompt.id}: {len(prompt.tokens)} prompt tokens + {sampling.max_new_tokens} answer tokens exceed the model's "
                f"context of {context}; lower budget.max_prompt_tokens or budget.max_answer_tokens"
            )
