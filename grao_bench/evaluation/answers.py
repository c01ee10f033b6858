"""Answers to held-out prompts, judged against the references where the set has them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from grao_bench.core.interfaces import Codec, RewardRequest, RewardSource, RolloutEngine, Sampling
from grao_bench.core.ops import sign_with_ties
from grao_bench.core.records import EvalRecord, repetition_of
from grao_bench.core.types import Answer, Example, Turn, Verdict


def compare(
    source: RewardSource,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    references: Sequence[tuple[int, ...] | None] | None = None,
) -> list[tuple[float | None, Verdict]]:
    """(R(answer, reference), the source's own verdict) of each answer.

    A pairwise source says R itself; a pointwise one scores both texts and R is the sign of the
    difference, 0 within its tie margin. R is None where the source could say nothing of either, and
    where the example has no reference. references: the tokens of each whole one, where somebody
    has them. An answer without tokens is one that nobody counted. An example that stands there
    several times, with several answers, has its reference scored once.
    """
    requests = [
        RewardRequest(example, one.text, one.finished, len(one.tokens) or None, one.tokens or None)
        for example, one in zip(examples, answers, strict=True)
    ]
    if source.pairwise:
        return [(verdict.reward, verdict) for verdict in source.score(requests)]
    # in one call, within which a model scores an answer that equals its reference to the same last bit
    asked = {
        example.id: RewardRequest(example, example.reference, True, None if ids is None else len(ids), ids)
        for example, ids in zip(examples, references or [None] * len(examples), strict=True)
        if example.chosen is not None
    }
    verdicts = source.score([*requests, *asked.values()])
    of_references = dict(zip(asked, verdicts[len(requests) :], strict=True))
    compared: list[tuple[float | None, Verdict]] = []
    for example, verdict in zip(examples, verdicts[: len(requests)], strict=True):
        R = None
        if example.chosen is not None:
            reference = of_references[example.id]
            R = _sign(verdict.reward, reference.reward, source.tie_margin)
            verdict = replace(verdict, reference_parts=reference.parts)
        compared.append((R, verdict))
    return compared


def unsaid(example: Example, R: float | None, verdict: Verdict) -> bool:
    """Whether the source could say nothing: of the answer or, where there is one, of the
    reference."""
    return verdict.reward is None or (R is None and example.chosen is not None)


def _sign(answer: float | None, reference: float | None, margin: float) -> float | None:
    if answer is None or reference is None:
        return None
    return sign_with_ties(answer - reference, margin)


@dataclass(frozen=True)
class Evaluator:
    """Draws answers to held-out prompts with common random numbers: the same seed for every
    objective, seed and the base."""

    codec: Codec
    sampling: Sampling
    store_text: bool
    answers_per_prompt: int = 1

    def draw(self, engine: RolloutEngine, examples: Sequence[Example], seed: int) -> list[list[Answer]]:
        """answers_per_prompt answers to each example, in order, in one call. From a reproducible
        engine the first of them is what it is where only one is drawn."""
        prompts = [self.codec.prompt(example.id, example.prompt) for example in examples]
        return engine.sample(prompts, self.answers_per_prompt, self.sampling, seed)

    def judge(
        self,
        reward: RewardSource,
        examples: Sequence[Example],
        drawn: Sequence[Sequence[Answer]],
    ) -> list[EvalRecord]:
        """What a reward source says of each answer: the records of an example's answers one after
        the other, the examples in order."""
        asked = [
            (example, draw, answer, reference)
            for example, answers in zip(examples, drawn, strict=True)
            for reference in [self._reference(example)]
            for draw, answer in enumerate(answers)
        ]
        compared = compare(
            reward,
            [example for example, *_ in asked],
            [answer for _, _, answer, _ in asked],
            [reference for *_, reference in asked],
        )
        return [
            EvalRecord(
                example_id=example.id,
                verdict=None if example.chosen is None else 0.0 if R is None else R,
                reward=0.0 if unsaid(example, R, verdict) else verdict.reward or 0.0,
                num_tokens=len(answer.tokens),
                finished=answer.finished,
                parts=verdict.parts,
                prompt=plain_text(example.prompt) if self.store_text else "",
                reference=(example.chosen or "") if self.store_text else "",
                answer=answer.text if self.store_text else "",
                reference_tokens=None if reference is None else len(reference),
                excluded=unsaid(example, R, verdict),
                draw=draw,
                cluster=example.cluster,
                correct=verdict.correct,
                reference_parts=verdict.reference_parts,
                **repetition_of(answer.text),
            )
            for (example, draw, answer, reference), (R, verdict) in zip(asked, compared, strict=True)
        ]

    def _reference(self, example: Example) -> tuple[int, ...] | None:
        """The reference's ids, uncut; None where there is none."""
        if example.chosen is None:
            return None
        prompt = self.codec.prompt(example.id, example.prompt)
        return self.codec.answer(prompt, example.chosen, sys.maxsize).tokens


def plain_text(turns: Sequence[Turn]) -> str:
    """A dialogue for a reader: the text alone for one turn, "role: text" lines for more."""
    return turns[0].text if len(turns) == 1 else "\n".join(f"{turn.role}: {turn.text}" for turn in turns)
