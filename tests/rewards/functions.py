"""A reward function as a user writes it, for `reward.function=tests.rewards.functions.shorter`."""

from __future__ import annotations


def shorter(prompts: list[str], completions: list[str], references: list[str]) -> list[float]:
    """-1 for each hundred characters."""
    return [-len(completion) / 100 for completion in completions]


def share_of_letter(prompts: list[str], completions: list[str], references: list[None], letter: list[str]) -> list[float]:
    """How much of a completion is the letter that its row names; for prompts alone."""
    assert references == [None] * len(prompts)
    pairs = zip(completions, letter, strict=True)
    return [text.count(wanted) / max(1, len(text)) for text, wanted in pairs]


def one_number(prompts: list[str], completions: list[str], references: list[str]) -> list[float]:
    """A mistake: one number for all of them."""
    return [1.0]


def only_two(prompts: list[str], completions: list[str], references: list[str]) -> list[float]:
    """Fails where it is asked of more than two."""
    if len(completions) > 2:
        raise ValueError("too many")
    return [0.0 for _ in completions]
