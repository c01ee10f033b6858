"""Which questions a table asks, stated before its numbers are seen: few, and adjusted together.

The one place that says what is compared with what. A table of k methods has k (k - 1) / 2 pairs; to
ask all of them is to see little of any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Protocol, runtime_checkable

import pandas as pd

from grao_bench.core.errors import UserError
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.comparisons import (
    MARGIN,
    POWER,
    Difference,
    Errors,
    adjust,
    between,
    crossed_pair,
    detectable,
    pooled,
    power,
)
from grao_bench.reporting.gather.intervals import Interval
from grao_bench.reporting.gather.roles import BASE

COMPARED = ("ras", "nag_mean")
"""The scores whose differences are tested; each is a family of its own."""

SCORE_NAMES = {"ras": "RAS", "nag_mean": "nag_mean"}


@runtime_checkable
class Scored(Protocol):
    """What is read of a table's row."""

    @property
    def cell(self) -> Cell: ...

    @property
    def scores(self) -> Mapping[str, Interval]: ...

    @property
    def frames(self) -> Mapping[int, pd.DataFrame]: ...


@dataclass(frozen=True, slots=True)
class Questions:
    """What each table asks: whether these methods differ from each other one, in each score.

    references: the method under study, then the best-known baseline; each is an objective's name
    or a row's label. margin: differences within +- this many points of RAS are called level (of
    nag_mean, whose unit is half as large, twice as many). tuned: dotted
    settings, such as optimizer.lr, that were tuned for every method by one rule and so may differ
    between rows of one ranking; no record says so, whoever reports does, and the page repeats it.
    """

    references: tuple[str, ...] = ("grao", "grpo")
    margin: float = MARGIN
    tuned: tuple[str, ...] = ()

    def margin_of(self, score: str) -> float:
        """The margin in a score's own points."""
        return self.margin * (2.0 if score == "nag_mean" else 1.0)

    def pairs(self, rows: Sequence[Scored]) -> tuple[list[tuple[Scored, Scored]], str]:
        """The pairs of rows that are compared, and in words which they are.

        A reference with several rows is a map of its settings, not one method: it is none, nor
        is one of a single seed. A table without any, as of objectives of your own, asks all pairs.
        """
        asked = [row for row in rows if row.cell.role.kind != "ablation"]
        found = [(name, _named(asked, name)) for name in self.references]
        single = [one[0] for _, one in found if len(one) == 1 and len(one[0].frames) > 1]
        several = [name for name, named in found if len(named) > 1]
        if single:
            pairs: list[tuple[Scored, Scored]] = []
            for i, one in enumerate(single):
                before = single[: i + 1]
                pairs += [(one, row) for row in asked if not any(row is other for other in before)]
            return (
                pairs,
                f"{' and '.join(row.cell.label for row in single)} against each other method",
            )
        if several:
            return [], (
                f"none: {' and '.join(several)} has several configurations here, so this is a map"
                " of"
                " settings (--against names rows to ask about)"
            )
        return list(combinations(asked, 2)), "all pairs"


def check_named(questions: Questions, rows: Sequence[Scored]) -> None:
    """UserError for a name, other than the ones by default, that no row has."""
    known = {name for row in rows for name in (row.cell.label, row.cell.objective)} - {BASE}
    for name in questions.references:
        if name not in known and name not in Questions().references:
            raise UserError(
                f"--against {name!r}: no such method here; there are {', '.join(sorted(known))}"
            )


def _named(rows: Sequence[Scored], name: str) -> list[Scored]:
    exact = [row for row in rows if row.cell.label == name]
    return exact or [row for row in rows if row.cell.objective == name and not row.cell.first_stage]


@dataclass(frozen=True)
class Comparison:
    """One model's methods in one table, by one score: one family.

    best: the highest mean ("" for none). question: which pairs are asked for, in words.
    against: the label of the row that stars speak of, the first reference's.
    """

    model: str
    score: str
    best: str
    differences: tuple[Difference, ...]
    question: str = "all pairs"
    against: str = ""
    margin: float = MARGIN
    ahead: frozenset[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        """Closes "ahead" under its own chains: the intervals hold together, so if a > b and b > c
        are both shown, so is a > c."""
        shown = set()
        for one in self.differences:
            word = one.verdict(self.margin)
            if word in ("ahead", "behind"):
                pair = (one.first, one.second)
                shown.add(pair if word == "ahead" else pair[::-1])
        while more := {(a, d) for a, b in shown for c, d in shown if b == c} - shown:
            shown |= more
        object.__setattr__(self, "ahead", frozenset(shown))

    @property
    def tested(self) -> int:
        """How many pairs could be tested: the size of the family."""
        return sum(one.tested for one in self.differences)

    def stars(self, label: str) -> str:
        """The stars of a row: its difference from the first reference's."""
        found = between(self.differences, label, self.against)
        return found.stars if found else ""

    @property
    def smallest(self) -> float:
        """The smallest true difference that the adjusted test finds with power 80%; nan for
        none."""
        return detectable(*self._typical)

    @property
    def power(self) -> float:
        """How often the adjusted test finds a true difference as large as the margin."""
        return power(self.margin, *self._typical)

    @property
    def _typical(self) -> tuple[Errors, float]:
        """The pairs' errors, pooled, and the adjusted level."""
        tested = [one for one in self.differences if one.tested]
        return pooled([one.errors for one in tested]), tested[0].level if tested else math.nan


def compare(rows: Sequence[Scored], questions: Questions | None = None) -> tuple[Comparison, ...]:
    """The comparisons of one table's trained rows: a family per model and score, paired by seed
    and by prompt."""
    questions = questions or Questions()
    found = []
    trained = [row for row in rows if row.cell.objective != BASE and row.cell.trained]
    for model in dict.fromkeys(row.cell.model for row in trained):
        for name in COMPARED:
            members = [row for row in trained if row.cell.model == model and name in row.scores]
            if len(members) > 1:
                best = max(members, key=lambda row: row.scores[name].mean).cell.label
                pairs, words = questions.pairs(members)
                made = adjust([one for a, b in pairs if (one := difference_of(a, b, name))])
                against = pairs[0][0].cell.label if pairs and words != "all pairs" else best
                margin = questions.margin_of(name)
                told = (model, name, best, tuple(made), words, against, margin)
                found.append(Comparison(*told))
    return tuple(found)


def difference_of(one: Scored, other: Scored, score: str) -> Difference | None:
    """one - other by a score, over the seeds and prompts that both have."""
    ours, theirs = (
        {seed: frame[score] for seed, frame in row.frames.items() if score in frame}
        for row in (one, other)
    )
    return crossed_pair(one.cell.label, other.cell.label, ours, theirs)


def statistics_notes(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """What is asked, what the stars mean, and how small a difference the design could see: the
    lines under a table."""
    lines = []
    several = len({one.model for one in comparisons}) > 1
    for one in comparisons:
        of = f"{one.model}, {SCORE_NAMES[one.score]}" if several else SCORE_NAMES[one.score]
        if one.tested:
            lines.append(
                f"{of}: {one.tested} tests ({one.question}), adjusted together. A true difference"
                f" of {one.smallest:.1f} points is found with power {100 * POWER:.0f}%, one of"
                f" {one.margin:g} with {100 * one.power:.0f}% (two-sided, 5% / {one.tested})"
            )
        elif one.question.startswith("none"):
            lines.append(f"{of}: differences tested: {one.question}")
    if any(one.tested for one in comparisons):
        against = next(one.against for one in comparisons if one.tested)
        lines.append(
            f"bold: the best mean. *, **, ***: differs from {against} at p < 0.05, 0.01, 0.001,"
            " over seeds and prompts, adjusted by Bonferroni over the tests named above; no star"
            " means not shown to differ, not equal"
        )
    elif comparisons:
        lines.append(
            "bold: the best mean. No difference is tested, which takes two seeds that both methods"
            " have, and differences that vary"
        )
    return tuple(lines)
