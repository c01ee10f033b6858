"""A reward function as a user writes it, for `reward.function=tests.rewards.functions.shorter`."""

from __future__ import annotations


def shorter(prompts: list[str], completions: list[str], references: list[str]) -> list[float]:
    """-1 for each hundred characters."""
    return [-len(completion) / 100 for completion in completions]
