"""Shaping: what is done to a source's rewards before anyone learns from them. Each shape has a name and is off unless it is asked for.

A shaped source is pointwise, whatever it wraps: of a pairwise source the shaped number is R(o, y) with a penalty, no verdict any more.
Two answers are compared by their shaped numbers, where R(y, y) = 0 before shaping.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource, TellingSource
from grao_bench.core.ops import equal_but_for_rounding, is_reward
from grao_bench.core.records import Criteria, JudgeCounts
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec
from grao_bench.core.types import Verdict
from grao_bench.core.values import value_hash
from grao_bench.rewards.criteria import criteria_of
from grao_bench.rewards.trying import try_source

Shape = Literal["length", "unfinished", "drop_unfinished", "soft_overlong", "repetition", "clip", "whiten"]


@dataclass(frozen=True, kw_only=True)
class LengthPenalty:
    """r - per_token max(0, |o| - target), |o| in the policy's tokens: a linear penalty on what is longer than the target."""

    revision: ClassVar[int] = 1

    target: int
    per_token: float

    def __post_init__(self) -> None:
        _require(self.target >= 0, f"length.target={self.target}", "at least 0")
        _require(self.per_token >= 0, f"length.per_token={self.per_token}", "at least 0")

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The shaped rewards."""
        over = [max(0, length_of(request, "length") - self.target) for request in requests]
        return [reward - self.per_token * count for reward, count in zip(rewards, over, strict=True)]


@dataclass(frozen=True, kw_only=True)
class UnfinishedScore:
    """An answer without an end token gets `score`, whatever it says: the "EOS trick" (Huang et al. 2024, arXiv 2403.17031)."""

    revision: ClassVar[int] = 1

    score: float

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The shaped rewards."""
        return [reward if request.finished else self.score for reward, request in zip(rewards, requests, strict=True)]


@dataclass(frozen=True, kw_only=True)
class DropUnfinished:
    """An answer without an end token teaches nothing: it is left out of learning.

    DAPO's overlong filtering (Yu et al. 2025, arXiv 2503.14476, section 3.4), which masks the loss
    of such answers. Here they are not `Batch.judged`: in no group's mean and deviation, with an
    advantage of 0 (GRPO, GRAO; a KL term and a token mean still see them), in neither loss (PPO).
    The shapes after this one don't see them. What they are evaluated by, and what their reward
    column holds, is the mean of their group's finished answers (the requests of one example in one
    call; the reference, where it is scored too, is one of them), 0 where there is none.
    """

    revision: ClassVar[int] = 1

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The rewards with those means in them."""
        groups: dict[str, list[float]] = {}
        for reward, request in zip(rewards, requests, strict=True):
            if request.finished:
                groups.setdefault(request.example.id, []).append(reward)
        means = {name: math.fsum(group) / len(group) for name, group in groups.items()}
        return [
            reward if request.finished else means.get(request.example.id, 0.0) for reward, request in zip(rewards, requests, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """r + R_length, DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13), with L_max = longest and L_cache = cache:

    R_length = 0 where |o| <= L_max - L_cache; ((L_max - L_cache) - |o|) / L_cache up to L_max; -1 beyond.
    """

    revision: ClassVar[int] = 1

    longest: int
    cache: int

    def __post_init__(self) -> None:
        _require(0 < self.cache <= self.longest, f"soft_overlong.cache={self.cache}", f"above 0 and at most longest={self.longest}")

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The shaped rewards."""
        lengths = [length_of(request, "soft_overlong") for request in requests]
        return [reward + self.punishment(length) for reward, length in zip(rewards, lengths, strict=True)]

    def punishment(self, length: int) -> float:
        """R_length of one answer."""
        return max(-1.0, min(0.0, (self.longest - self.cache - length) / self.cache))


@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty:
    """r - scale (1 - distinct n-grams / n-grams) over the lower-cased words; no penalty for a text of fewer than n words.

    The n-gram repetition penalty of long-answer RL (Yeo et al. 2025, arXiv 2502.03373) in the form that open-r1 uses.
    """

    revision: ClassVar[int] = 1

    ngram: int
    scale: float

    def __post_init__(self) -> None:
        _require(self.ngram >= 1, f"repetition.ngram={self.ngram}", "at least 1")
        _require(self.scale >= 0, f"repetition.scale={self.scale}", "at least 0")

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The shaped rewards."""
        return [reward - self.scale * repeated(request.text, self.ngram) for reward, request in zip(rewards, requests, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """min(max(r, low), high) (Mnih et al. 2015 clip at -1 and 1)."""

    revision: ClassVar[int] = 1

    low: float
    high: float

    def __post_init__(self) -> None:
        _require(self.low < self.high, f"clip.low={self.low}", f"below clip.high={self.high}")

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The shaped rewards."""
        return [min(max(reward, self.low), self.high) for reward in rewards]


@dataclass(frozen=True, kw_only=True)
class Whiten:
    """(r - mean) / std over the answers that are scored together, std with 1/N; all 0 where they
    are equal but for rounding.

    Reward whitening of RLHF's PPO (Ziegler et al. 2019, arXiv 1909.08593), taken per batch. The number depends on what shares the batch,
    so it is for training: group-normalised objectives (GRPO, GRAO) undo it, PPO and RLOO do not.
    """

    revision: ClassVar[int] = 1

    def shape(self, rewards: Sequence[float], requests: Sequence[RewardRequest]) -> list[float]:
        """The shaped rewards."""
        if not rewards or equal_but_for_rounding(min(rewards), max(rewards)):
            return [0.0] * len(rewards)
        mean = math.fsum(rewards) / len(rewards)
        std = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards))
        return [(reward - mean) / std for reward in rewards]


@dataclass(frozen=True, kw_only=True)
class Shaped:
    """`source` with the shapes that `shaping` names, applied in that order; the other fields are the shapes' parameters.

    tie_margin: two shaped numbers closer than this are a tie.
    """

    revision: ClassVar[int] = 1

    source: RewardSpec
    shaping: Sequence[Shape]
    length: LengthPenalty
    unfinished: UnfinishedScore
    drop_unfinished: DropUnfinished
    soft_overlong: SoftOverlong
    repetition: RepetitionPenalty
    clip: Clip
    whiten: Whiten
    tie_margin: float

    def __post_init__(self) -> None:
        for name in self.shaping:
            _require(name in get_args(Shape), f"shaping={name}", f"one of {', '.join(get_args(Shape))}")
        _require(len(set(self.shaping)) == len(self.shaping), f"shaping={list(self.shaping)}", "a list of different shapes")
        _require(self.tie_margin >= 0, f"tie_margin={self.tie_margin}", "at least 0")

    def needs_reference(self, data: DataSpec) -> bool:
        """As the source does."""
        return self.source.needs_reference(data)

    def check(self, data: DataSpec) -> None:
        """UserError if the source can't score that set."""
        self.source.check(data)

    def build(self, data: DataSpec) -> RewardSource:
        """The source for that set: the wrapped one itself where nothing is asked for."""
        return ShapedSource(self, self.source.build(data)) if self.shaping else self.source.build(data)


@dataclass(frozen=True)
class ShapedSource:
    """A source and what is done to its rewards. Parts of a verdict: the source's own; `unshaped/reward`, what it said itself; and
    `<shape>/reward`, by how much that shape changed it."""

    spec: Shaped
    source: RewardSource
    pairwise: bool = False

    @property
    def name(self) -> str:
        """<source>_<shape>_<shape>."""
        return "_".join([self.source.name, *self.spec.shaping])

    @property
    def tie_margin(self) -> float:
        """As the config says."""
        return self.spec.tie_margin

    @property
    def fingerprint(self) -> str:
        """Of the source's fingerprint and the shapes."""
        return value_hash([self.source.fingerprint, *(getattr(self.spec, name) for name in self.spec.shaping)])

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; those that a judge could say nothing of stay as they are, outside every batch statistic."""
        verdicts = self.source.score(requests)
        said = {row: verdict.reward for row, verdict in enumerate(verdicts) if verdict.reward is not None}
        asked = [requests[row] for row in said]
        shaped = zip(said, self._shaped([verdicts[row] for row in said], list(said.values()), asked), strict=True)
        unsaid = [Verdict(None, self.name, verdict.parts, verdict.replies) for verdict in verdicts]
        return list((dict(enumerate(unsaid)) | dict(shaped)).values())

    @property
    def criteria(self) -> Criteria:
        """See `ItemisedSource`: what the source said, split where it splits itself, and what each
        shape changed: a matter of form, but for clipping and whitening, which are their own."""
        found = None if self.source.pairwise else criteria_of(self.source)
        found = found or Criteria("reward", {"unshaped/reward": "unshaped"})
        shapes = {f"{name}/reward": name if name in ("clip", "whiten") else "form" for name in self.spec.shaping}
        return Criteria("reward", found.kinds | shapes, found.weights)

    def statistics(self) -> dict[str, JudgeCounts]:
        """See `TellingSource`."""
        return self.source.statistics() if isinstance(self.source, TellingSource) else {}

    def texts(self) -> dict[str, str]:
        """See `TellingSource`."""
        return self.source.texts() if isinstance(self.source, TellingSource) else {}

    def try_out(self, requests: Sequence[RewardRequest]) -> None:
        """See `Tried`: of what it shapes."""
        try_source(self.source, requests)

    def _shaped(
        self,
        verdicts: Sequence[Verdict],
        rewards: list[float],
        requests: Sequence[RewardRequest],
    ) -> list[Verdict]:
        for request, reward in zip(requests, rewards, strict=True):
            if not is_reward(reward):
                raise UserError(f"reward source {self.source.name}: gave {reward} for {request.example.id}; it can't be shaped")
        parts = [{**verdict.parts, "unshaped/reward": reward} for verdict, reward in zip(verdicts, rewards, strict=True)]
        kept = [row for row, verdict in enumerate(verdicts) if not verdict.left_out]
        for name in self.spec.shaping:
            shape = getattr(self.spec, name)
            if isinstance(shape, DropUnfinished):
                kept = [row for row in kept if requests[row].finished]
                continue
            shaped = shape.shape([rewards[row] for row in kept], [requests[row] for row in kept])
            for row, value in zip(kept, shaped, strict=True):
                parts[row][f"{name}/reward"] = value - rewards[row]
                rewards[row] = value
        if "drop_unfinished" in self.spec.shaping:
            filled = self.spec.drop_unfinished.shape(rewards, requests)
            for row, value in enumerate(filled):
                parts[row]["drop_unfinished/reward"] = value - rewards[row]
            rewards = filled
        out = set(range(len(rewards))) - set(kept)
        return [
            Verdict(reward, self.name, more, one.replies, left_out=row in out, correct=one.correct)
            for row, (reward, more, one) in enumerate(zip(rewards, parts, verdicts, strict=True))
        ]


def repeated(text: str, n: int) -> float:
    """The share of a text's n-grams of words that came before in it, 0..1."""
    words = re.findall(r"\w+", text.lower())
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def length_of(request: RewardRequest, shape: str) -> int:
    """An answer's tokens; UserError where whoever asks did not count them."""
    if request.num_tokens is None:
        raise UserError(f"reward.shaping={shape}: needs answers with their token counts, and {request.example.id} came without")
    return request.num_tokens


def _require(right: bool, what: str, rule: str) -> None:
    if not right:
        raise UserError(f"reward.{what}: must be {rule}")
