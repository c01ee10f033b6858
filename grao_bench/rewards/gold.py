"""The gold reward: a judge that knows the truth, as a ternary verdict against the reference or as its score.

A data set that knows its own truth offers the judge; both come in through protocols, for rewards know no data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, get_args, runtime_checkable

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.ops import sign_with_ties
from grao_bench.core.records import Criteria
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Example, Verdict

Mode = Literal["ternary", "score"]


@runtime_checkable
class GoldJudge(Protocol):
    """Scores one answer in [-1, 1] and explains the score: the parts sum to it before it is clipped."""

    def score(self, example: Example, text: str, finished: bool) -> tuple[float, dict[str, float]]: ...


@runtime_checkable
class ItemisedJudge(Protocol):
    """A gold judge that says which of its criteria are content, form or manners."""

    @property
    def criterion_kinds(self) -> Mapping[str, str]: ...


@runtime_checkable
class VerifyingJudge(Protocol):
    """A gold judge that can also say right or wrong: all that was asked, and nothing else."""

    def correct(self, example: Example, text: str, finished: bool) -> bool: ...


@runtime_checkable
class JudgedData(Protocol):
    """A data set that has a gold judge."""

    def judge(self) -> GoldJudge: ...


@dataclass(frozen=True)
class GoldReward:
    """mode "ternary": the paper's R in {-1, 0, +1} against the reference; "score": the judge's own number in [-1, 1].

    tie_band: two scores closer than this are a tie.
    """

    revision: ClassVar[int] = 1

    mode: Mode
    tie_band: float

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UserError(f"reward.mode={self.mode}: unknown; choose ternary or score")
        if not self.tie_band >= 0:
            raise UserError(f"reward.tie_band={self.tie_band}: must not be negative")

    def needs_reference(self, data: DataSpec) -> bool:
        """A verdict does; a score stands alone."""
        return self.mode == "ternary"

    def check(self, data: DataSpec) -> None:
        """UserError if this set has no gold judge."""
        self._judge_of(data)

    def build(self, data: DataSpec) -> TernaryGold | ScoredGold:
        """The source on top of the set's own judge; UserError if it has none."""
        return self.source(self._judge_of(data))

    def source(self, judge: GoldJudge) -> TernaryGold | ScoredGold:
        """The source on top of any judge."""
        return TernaryGold(judge, self.tie_band) if self.mode == "ternary" else ScoredGold(judge, self.tie_band)

    def _judge_of(self, data: DataSpec) -> GoldJudge:
        if isinstance(data, JudgedData):
            return data.judge()
        raise UserError(
            f"reward=gold: data={data.name} has no gold judge, only the embedded world has; "
            "use reward=reward_model, python or verifiable for this set"
        )


@dataclass(frozen=True, kw_only=True)
class FreeTextGold:
    """The gold reward by another judge of the same truth: one that reads any model's words, where the set's own knows its own sentences.

    judge: for the embedded world, grao_bench.data.world.free_text.FreeTextJudge. mode and tie_band are GoldReward's.
    """

    revision: ClassVar[int] = 1

    judge: GoldJudge
    mode: Mode
    tie_band: float

    def __post_init__(self) -> None:
        GoldReward(self.mode, self.tie_band)  # the same rules

    def needs_reference(self, data: DataSpec) -> bool:
        """A verdict does; a score stands alone."""
        return self.mode == "ternary"

    def check(self, data: DataSpec) -> None:
        """UserError if this set has no gold judge: there is then no truth to judge by."""
        GoldReward(self.mode, self.tie_band).check(data)

    def build(self, data: DataSpec) -> TernaryGold | ScoredGold:
        """The source; UserError if the set has no gold judge."""
        self.check(data)
        name, fingerprint = f"gold_free_text{'_score' if self.mode == 'score' else ''}", type(self.judge).__name__
        if self.mode == "ternary":
            return TernaryGold(self.judge, self.tie_band, name, fingerprint)
        return ScoredGold(self.judge, self.tie_band, name, fingerprint)


@dataclass(frozen=True)
class TernaryGold:
    """R(o, y) = sign(s(o) - s(y)), 0 when they are closer than the tie band; an unfinished answer is -1, whatever it says.

    R(y, y) = 0. The parts are the judge's criteria of the answer, its score and the reference's
    score; the reference is judged once.
    """

    judge: GoldJudge
    tie_margin: float
    name: str = "gold"
    fingerprint: str = "gold judge"
    pairwise: bool = True
    _references: dict[Example, tuple[float, dict[str, float]]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def criteria(self) -> Criteria | None:
        """See `ItemisedSource`: of the score; the verdict is the sign of a difference of scores."""
        return _criteria(self.judge)

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order."""
        return [self._verdict(request) for request in requests]

    def _verdict(self, request: RewardRequest) -> Verdict:
        score, parts = self.judge.score(request.example, request.text, request.finished)
        reference, of_reference = self._reference(request.example)
        reward = sign_with_ties(score - reference, self.tie_margin) if request.finished else -1.0
        return Verdict(
            reward,
            self.name,
            {**parts, "score": score, "reference_score": reference},
            correct=_correct(self.judge, request),
            reference_parts={**of_reference, "score": reference},
        )

    def _reference(self, example: Example) -> tuple[float, dict[str, float]]:
        if example not in self._references:
            self._references[example] = self.judge.score(example, example.reference, True)
        return self._references[example]


@dataclass(frozen=True)
class ScoredGold:
    """r(o) = s(o), pointwise. The judge itself charges an unfinished answer."""

    judge: GoldJudge
    tie_margin: float
    name: str = "gold_score"
    fingerprint: str = "gold judge"
    pairwise: bool = False

    @property
    def criteria(self) -> Criteria | None:
        """See `ItemisedSource`: of the score, which is the reward."""
        return _criteria(self.judge)

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order."""
        return [self._verdict(request) for request in requests]

    def _verdict(self, request: RewardRequest) -> Verdict:
        score, parts = self.judge.score(request.example, request.text, request.finished)
        correct = _correct(self.judge, request)
        return Verdict(score, self.name, {**parts, "score": score}, correct=correct)


def _criteria(judge: GoldJudge) -> Criteria | None:
    if not isinstance(judge, ItemisedJudge):
        return None
    return Criteria("score", dict(judge.criterion_kinds))


def _correct(judge: GoldJudge, request: RewardRequest) -> bool | None:
    if not isinstance(judge, VerifyingJudge):
        return None
    return judge.correct(request.example, request.text, request.finished)
