"""Rollouts read from a script: the same answers whatever the policy. For tests and for replaying another system's completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Codec, Sampled, Sampling
from grao_bench.core.types import Answer, Prompt
from grao_bench.rollouts.ends import StopStrings, ended


@dataclass(frozen=True, kw_only=True)
class ScriptedRollout:
    """answers: example id -> texts, or "*" for every other example. A prompt asked for more answers than it has starts over."""

    revision: ClassVar[int] = 1

    answers: Mapping[str, Sequence[str]]
    temperature: float
    top_p: float
    stop: list[str] | tuple[str, ...] | None = None

    @property
    def top_k(self) -> int:
        """The whole vocabulary."""
        return 0

    @property
    def min_p(self) -> float:
        """The whole vocabulary."""
        return 0.0

    @property
    def tells_logp(self) -> bool:
        """Nothing is drawn."""
        return False

    def build(self, codec: Codec) -> ScriptedEngine:
        """An engine that reads `answers`; the policy is not asked."""
        return ScriptedEngine(codec, self.answers)


class ScriptedEngine:
    """Encodes the script's texts; an answer over max_new_tokens is cut and unfinished, one with a
    stop string is cut before it and finished."""

    reproducible = True

    def __init__(self, codec: Codec, answers: Mapping[str, Sequence[str]]) -> None:
        self.codec, self.answers = codec, answers
        self.step = 0

    def sync(self, policy: Sampled, step: int) -> None:
        """The answers are now read as that step's."""
        self.step = step

    def sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        """The first n scripted answers of each prompt; UserError for a prompt without any."""
        return [[self._answer(prompt, i, sampling) for i in range(n)] for prompt in prompts]

    def _answer(self, prompt: Prompt, index: int, sampling: Sampling) -> Answer:
        texts = self.answers.get(prompt.id) or self.answers.get("*")
        if not texts:
            raise UserError(f"rollout.answers: nothing is scripted for example {prompt.id}")
        text, most = texts[index % len(texts)], sampling.max_new_tokens
        answer = self.codec.answer(prompt, text, most, verbatim=True)
        if sampling.stop:
            stops = StopStrings(self.codec, sampling.stop)
            tokens, text, finished = ended(answer.tokens, self.codec, stops)
            if tokens != answer.tokens or finished != answer.finished:
                answer = Answer(text, tokens, finished)
        return replace(answer, policy_step=self.step)
