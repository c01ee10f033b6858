"""From verdicts on two texts to R(answer, reference): orders, ties by definition, exclusions, and how consistent the judge was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.records import JudgeCounts
from grao_bench.core.types import Verdict
from grao_bench.rewards.judge.prompt import Order

Unfinished = Literal["lose", "judge"]


class Tally:
    """Makes verdicts and counts them."""

    def __init__(self, source: str, unfinished: Unfinished) -> None:
        self.source, self.unfinished = source, unfinished
        self._counts: Counter[str] = Counter()

    def without_asking(self, request: RewardRequest) -> Verdict | None:
        """The verdict that needs no judge: an unfinished answer that loses, or R(y, y) = 0. None where the judge has to say."""
        if self.unfinished == "lose" and not request.finished:
            self._counts["unfinished"] += 1
            return Verdict(-1.0, self.source)
        if request.text == request.example.chosen:
            self._counts["identical"] += 1
            return Verdict(0.0, self.source)
        return None

    def verdict(self, said: Mapping[Order, int | None], replies: tuple[str, ...] = (), parts: Mapping[str, float] | None = None) -> Verdict:
        """R, the mean over the orders of what was said: +1 for the text that stood first, 0, -1, or None for nothing that could be read.

        With an order unread the whole judgement is excluded, for the mean of one order is another quantity. parts: what each order said
        of the answer, as `model_first` and `reference_first`.
        """
        self._counts["judged"] += 1
        signs = {order: sign if sign is None or order == "model_first" else -sign for order, sign in said.items()}
        read: dict[str, float] = {order: float(sign) for order, sign in signs.items() if sign is not None}
        self._counts["read"] += len(read)
        self._counts["first"] += sum(sign == 1 for sign in said.values())
        self._counts["second"] += sum(sign == -1 for sign in said.values())
        if len(read) < len(said):
            self._counts["excluded"] += 1
            return Verdict(None, self.source, {**(parts or {}), **read}, replies)
        if len(read) == 2:
            self._counts["in both orders"] += 1
            self._counts["consistent"] += len(set(read.values())) == 1
        return Verdict(sum(read.values()) / len(read), self.source, {**(parts or {}), **read}, replies)

    @property
    def judged(self) -> int:
        """Judgements that were asked for."""
        return self._counts["judged"]

    @property
    def excluded(self) -> float:
        """The share of them without a verdict."""
        return self._counts["excluded"] / max(1, self.judged)

    def counts(self) -> JudgeCounts:
        """What was counted, of judgements alone; an unbiased judge asked in both orders has a
        first_preference of 0."""
        counts = self._counts
        both, read = counts["in both orders"], counts["read"]
        return JudgeCounts(
            judged=self.judged,
            excluded=self.excluded,
            identical=counts["identical"],
            unfinished=counts["unfinished"],
            position_consistency=counts["consistent"] / both if both else None,
            first_preference=(counts["first"] - counts["second"]) / read if read else None,
        )
