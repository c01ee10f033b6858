"""Reward functions in the forms that TRL's documentation and trl.rewards show, written anew: by
token count, by characters, by format, against a column, for some tasks alone, async, by training's
progress, with loggers, and made by a factory."""

from __future__ import annotations

import asyncio
import re

CALLS: list[dict] = []


def token_count(completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]


def characters(completions, **kwargs):
    return [float(len(completion)) for completion in completions]


def think_format(completions, **kwargs):
    """Of messages: the whole content is a thought and then an answer, each in its tags."""
    contents = [completion[0]["content"] for completion in completions]
    pattern = re.compile(r"<think>(?:(?!</think>).)*</think>\s*<answer>.*</answer>", re.DOTALL)
    return [1.0 if pattern.fullmatch(content) else 0.0 for content in contents]


def boxed_accuracy(completions, ground_truth, **kwargs):
    """Of texts: what stands in \\boxed{} is the column's."""
    found = [re.search(r"\\boxed\{([^}]*)\}", completion) for completion in completions]
    pairs = zip(found, ground_truth, strict=True)
    return [float(bool(match) and match[1] == truth) for match, truth in pairs]


def math_task(prompts, completions, task, **kwargs):
    zipped = zip(completions, task, strict=True)
    return [float("4" in one) if kind == "math" else None for one, kind in zipped]


def code_task(prompts, completions, task, **kwargs):
    zipped = zip(completions, task, strict=True)
    return [-1.0 if kind == "code" else None for one, kind in zipped]


async def slow_nonempty(prompts, completions, **kwargs):
    await asyncio.sleep(0.001)
    return [1.0 if completion else 0.0 for completion in completions]


def later_is_stricter(completions, trainer_state, **kwargs):
    done = trainer_state.global_step / trainer_state.max_steps
    return [-done for _ in completions]


def with_loggers(completions, solution, log_extra=None, log_metric=None, **kwargs):
    right = [completion == one for completion, one in zip(completions, solution, strict=True)]
    if log_extra is not None:
        log_extra("solution", list(solution))
        log_extra("right", [int(one) for one in right])
        log_metric("accuracy", sum(right) / len(right))
    return [float(one) for one in right]


def overlong_punishment(longest: int, cache: int):
    def punishment(completion_ids, **kwargs):
        over = [len(ids) - (longest - cache) for ids in completion_ids]
        return [-min(1.0, max(0, one) / cache) for one in over]

    return punishment


short_answers = overlong_punishment(longest=4, cache=2)


class CallableReward:
    async def __call__(self, prompts, completions, **kwargs):
        return [float(len(prompt)) for prompt in prompts]


a_callable = CallableReward()


def wrapped(*args, **kwargs):
    CALLS.append({"args": args, "kwargs": kwargs})
    return [0.0] * len(kwargs["completions"])


def role_of_prompt(prompts, completions, **kwargs):
    """Of messages: 1 where the prompt ends with a user's turn and the answer is one assistant's."""
    roles = [(prompt[-1]["role"], *(one["role"] for one in completion)) for prompt, completion in zip(prompts, completions, strict=True)]
    return [float(one == ("user", "assistant")) for one in roles]


def letters(completions, letter, **kwargs):
    """Of messages: the share of the row's letter."""
    pairs = zip(completions, letter, strict=True)
    return [one[0]["content"].count(wanted) / 100 for one, wanted in pairs]
