"""What a set must hold for an objective, and for a model's and a budget's lengths."""

from __future__ import annotations

from typing import Any

from grao_bench.batching import check_length
from grao_bench.data.tokens import TextCodec
from grao_bench.errors import UserError
from grao_bench.interfaces import Dataset, Objective
from grao_bench.training.loop import Budget
from grao_bench.types import Example, Needs


def require_examples(dataset: Dataset, objective: Objective) -> None:
    """UserError where a split is empty, or an objective that learns from pairs finds an example without a rejected answer."""
    for split in ("train", "dev", "test"):
        if not getattr(dataset, split):
            raise UserError(f"data={dataset.name}: its {split} split is empty; check the files, or the fractions in the data config")
    if objective.needs.rejected:
        for example in dataset.train:
            if example.rejected is None:
                raise UserError(
                    f"data={dataset.name}: example {example.id} has no rejected answer, and objective={objective.name} learns from pairs; "
                    "use a set with pairs, or another objective"
                )


def within_length(
    examples: tuple[Example, ...], codec: TextCodec, config: Any, budget: Budget, needs: Needs
) -> tuple[tuple[Example, ...], dict[str, float]]:
    """The examples that the budget's `long_references` rule keeps, and how many prompts and answers are longer than it allows.

    UserError for an example that the model (its transformers config) has no room for, now and not when its turn comes. needs.rollouts:
    an answer may be sampled, of any length up to the budget's.
    """
    counter = TextCodec(codec.tokenizer, codec.prompt_format, codec.max_prompt_tokens)
    kept = []
    for example in examples:
        prompt = counter.prompt(example.id, example.prompt)
        answers = [counter.answer(text, budget.max_answer_tokens) for text in _texts(example, needs)]
        if all(answer.finished for answer in answers) or budget.long_references == "cut":
            longest = budget.max_answer_tokens if needs.rollouts else max(len(answer.tokens) for answer in answers)
            check_length(example.id, len(prompt.tokens), longest, config)
            kept.append(example)
    count = counter.truncation
    return tuple(kept), {
        "training examples": float(len(kept)),
        "prompts cut from the left": float(count.truncated_prompts),
        f"answers over max_answer_tokens ({budget.long_references})": float(count.truncated_answers),
    }


def _texts(example: Example, needs: Needs) -> list[str]:
    """The answers that a length rule looks at: the reference, whoever reads it, and what the needs
    take from the data."""
    read = [text for slot in needs.data_slots if slot.name != "chosen" for text in slot.fill(example)]
    return [*([] if example.chosen is None else [example.chosen]), *read]


def require_left(examples: tuple[Example, ...], budget: Budget, name: str) -> None:
    """UserError where the length rule left nothing of a set."""
    if not examples:
        limit = f"budget.max_answer_tokens={budget.max_answer_tokens}"
        raise UserError(f"data={name}: no reference fits {limit}; raise it, or use budget.long_references=cut")
