"""Control policies of any data set, and engines that draw their answers beside the base's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grao_bench.core.interfaces import (
    Codec,
    Control,
    RewardRequest,
    RewardSource,
    RolloutEngine,
    Sampled,
    Sampling,
    Seen,
)
from grao_bench.core.types import Answer, Example, Prompt


def generic_controls(examples: Sequence[Example], train: Sequence[Example]) -> list[Control]:
    """The reference itself, the commonest training reference, a copy of the prompt and nothing at
    all; without the first two where there are no references."""
    found = [
        Control("the prompt, copied", lambda example, seen: example.prompt[-1].text),
        Control("empty answer", lambda example, seen: ""),
    ]
    references = [one.chosen for one in train if one.chosen]
    if references:
        commonest = max(sorted(set(references)), key=references.count)
        found.insert(0, Control("the commonest reference", lambda example, seen: commonest))
    if all(one.chosen is not None for one in examples):
        found.insert(0, Control("the reference itself", lambda example, seen: example.reference))
    return found


class BaseAnswers:
    """The base's answers to one set's prompts, drawn once for all controls that read them."""

    reproducible = True

    def __init__(self, engine: RolloutEngine) -> None:
        self.engine = engine
        self._drawn: dict[tuple[int, int, Sampling], list[list[Answer]]] = {}

    def sync(self, policy: Sampled, step: int) -> None:
        """Tell the engine whose answers they are."""
        self.engine.sync(policy, step)

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: int,
    ) -> list[list[Answer]]:
        """n answers to each prompt: always the same prompts."""
        key = (n, seed, sampling)
        if key not in self._drawn:
            self._drawn[key] = self.engine.sample(prompts, n, sampling, seed)
        return self._drawn[key]


@dataclass(frozen=True)
class ControlEngine:
    """Draws a control's answers: its n answers to a prompt stand beside the base's first n, of
    which the k-th sees the k-th alone. They are not cut, however long."""

    control: Control
    codec: Codec
    base: BaseAnswers
    examples: Mapping[str, Example]
    train: tuple[Example, ...]
    reproducible: bool = True

    def sync(self, policy: Sampled, step: int) -> None:
        """Tell the base's engine."""
        self.base.sync(policy, step)

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: int,
    ) -> list[list[Answer]]:
        """n answers to each prompt."""
        drawn = self.base.sample(prompts, n, sampling, seed)
        answers: list[list[Answer]] = [[] for _ in prompts]
        for k in range(n):
            seen = seen_of(prompts, [row[k] for row in drawn], self.train)
            for row, prompt in zip(answers, prompts, strict=True):
                row.append(self._answer(prompt, seen))
        return answers

    def _answer(self, prompt: Prompt, seen: Seen) -> Answer:
        text = self.control.answer(self.examples[prompt.id], seen)
        cut = self.control.of_base and prompt.id in seen.unfinished
        return self.codec.answer(prompt, text, sys.maxsize, finished=not cut)


@dataclass(frozen=True)
class BestOf:
    """Draws the best of `count` answers of the base by a reward, the first of equals; the k-th
    answer to a prompt is the best of its k-th `count`."""

    count: int
    reward: RewardSource
    base: BaseAnswers
    examples: Mapping[str, Example]
    reproducible: bool = True

    def sync(self, policy: Sampled, step: int) -> None:
        """Tell the base's engine."""
        self.base.sync(policy, step)

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: int,
    ) -> list[list[Answer]]:
        """n answers to each prompt."""
        drawn = self.base.sample(prompts, n * self.count, sampling, seed)
        asked = [
            RewardRequest(example, one.text, one.finished, len(one.tokens), one.tokens)
            for prompt, row in zip(prompts, drawn, strict=True)
            for example in [self.examples[prompt.id]]
            for one in row
        ]
        told = iter(self.reward.score(asked))
        best = []
        for row in drawn:
            rewards = [next(told).reward for _ in row]
            groups = range(0, len(row), self.count)
            best.append([row[_first_best(rewards, at, self.count)] for at in groups])
        return best


def _first_best(rewards: Sequence[float | None], start: int, count: int) -> int:
    places = range(start, start + count)
    return max(places, key=lambda i: -float("inf") if (r := rewards[i]) is None else r)


def seen_of(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    train: tuple[Example, ...],
) -> Seen:
    """What a control may see beside the base's answers to these prompts."""
    told = list(zip(prompts, answers, strict=True))
    return Seen(
        train,
        {prompt.id: one.text for prompt, one in told},
        frozenset(prompt.id for prompt, one in told if not one.finished),
    )
