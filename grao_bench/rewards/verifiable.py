"""Verifiable rewards: an answer is right or wrong by a rule, against the reference answer. Pointwise: 1 right, 0 wrong."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.records import Criteria
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Example, Verdict

Rule = Literal["exact", "exact_words", "regex", "numeric", "gsm8k", "gsm8k_flexible"]
Same = Callable[[object, object], bool]

_NUMBER = re.compile(
    r"""(?<![\w.])(?P<sign>[-+−]?)\s?[$€£]?\s?(?P<minus>[-−]?)      # -$5 and $-5; no sign after a digit: 10-3 ends with a 3
    (?P<digits>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>(?:\.\d+)?(?:[eE][-+]?\d+)?)""",
    re.VERBOSE,
)
_MARK = re.compile(r"####\s*")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True, kw_only=True)
class Verifiable:
    """rule, the named check of an answer against the right one, which is the example's reference
    or, where `column` names one, that column of its row (`Example.metadata`):

    exact           equal texts, outer blanks aside
    exact_words     equal after lower-casing and without punctuation, articles and blanks (SQuAD's exact match, Rajpurkar et al. 2016)
    regex           `pattern` is found; where it has a group, its last match's first group equals the one in the reference (or the whole
                    reference where the pattern is not in it)
    numeric         the last numbers of both texts are equal within the tolerances (math.isclose)
    gsm8k           the number after the first "####" of both (Cobbe et al. 2021, arXiv 2110.14168, and their grading code)
    gsm8k_flexible  the last number of the answer and the one after the reference's "####" (lm-evaluation-harness's flexible-extract)

    Numbers may have thousands commas, a currency sign, decimals and a minus; what follows them does not matter. The tolerances hold for
    the last three rules. unfinished: an answer without an end token is wrong (`lose`), or its text is checked like any other (`judge`).
    """

    revision: ClassVar[int] = 1

    rule: Rule
    pattern: str | None
    column: str | None
    relative_tolerance: float
    absolute_tolerance: float
    unfinished: Literal["lose", "judge"]

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise UserError(f"reward.rule={self.rule}: unknown; choose one of {', '.join(get_args(Rule))}")
        for key in ("relative_tolerance", "absolute_tolerance"):
            if not getattr(self, key) >= 0:
                raise UserError(f"reward.{key}={getattr(self, key)}: must not be negative")
        if (self.rule == "regex") != (self.pattern is not None):
            raise UserError(f"reward.pattern={self.pattern}: is for reward.rule=regex alone, which needs it; rule={self.rule}")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise UserError(f"reward.pattern={self.pattern}: no regular expression ({error})") from None

    def needs_reference(self, data: DataSpec) -> bool:
        """Unless the right answer is in a column, or the pattern alone decides."""
        return self.column is None and not self.by_pattern

    @property
    def by_pattern(self) -> bool:
        """Whether the pattern's match alone decides: it has no group to compare."""
        return self.pattern is not None and re.compile(self.pattern).groups == 0

    def right_answer(self, example: Example) -> str:
        """The text that an answer to this example is held against; UserError where it has none."""
        if self.column is None:
            return "" if self.by_pattern else example.reference
        if self.column not in example.metadata:
            there = ", ".join(example.metadata) or "none"
            raise UserError(f"reward.column={self.column}: {example.id} has no such column; there are: {there}")
        return str(example.metadata[self.column])

    def check(self, data: DataSpec) -> None:
        """Any set will do; a reference without what the rule looks for is found when it is met."""

    def build(self, data: DataSpec) -> VerifiableSource:
        """The source; the same for every set."""
        return VerifiableSource(self)

    def found_in(self, text: str) -> object:
        """What the rule compares of an answer: a text or a number; None where it holds none."""
        match self.rule:
            case "exact":
                return text.strip()
            case "exact_words":
                return normalised_words(text)
            case "regex":
                return _last_match(self.pattern or "", text)
            case "gsm8k":
                return gsm8k_number(text)
        return last_number(text)

    def wanted(self, reference: str) -> object:
        """What it is compared with; None where the reference holds none."""
        if self.rule.startswith("gsm8k"):
            return gsm8k_number(reference)
        found = self.found_in(reference)
        return reference.strip() if self.rule == "regex" and found is None else found

    def same(self, found: object, wanted: object) -> bool:
        """Whether an answer that says `found` is right. A pattern without a group asks for its match alone."""
        if found is None:
            return False
        if isinstance(found, float) and isinstance(wanted, float):
            return math.isclose(found, wanted, rel_tol=self.relative_tolerance, abs_tol=self.absolute_tolerance)
        return found is _MATCHED or found == wanted


@dataclass(frozen=True)
class VerifiableSource:
    """1 for a right answer, 0 for a wrong one. Parts: correct, and parsed: 0 where the answer holds nothing that the rule could compare."""

    spec: Verifiable
    tie_margin: float = 0.0
    pairwise: bool = False

    @property
    def name(self) -> str:
        """verifiable_<rule>."""
        return f"verifiable_{self.spec.rule}"

    @property
    def fingerprint(self) -> str:
        """The rule and its parameters."""
        return repr(self.spec)

    @property
    def criteria(self) -> Criteria:
        """See `ItemisedSource`: being right is all of it."""
        return Criteria("reward", {"correct": "content"})

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; UserError for a reference that lacks what the rule looks for."""
        return [self._verdict(request) for request in requests]

    def _verdict(self, request: RewardRequest) -> Verdict:
        wanted = self.spec.wanted(self.spec.right_answer(request.example))
        if wanted is None:
            where = "reference" if self.spec.column is None else f'"{self.spec.column}"'
            what = 'no "#### number"' if self.spec.rule.startswith("gsm8k") else "no number"
            raise UserError(f"reward.rule={self.spec.rule}: the {where} of {request.example.id} holds {what}; choose another rule or set")
        found = self.spec.found_in(request.text)
        right = self.spec.same(found, wanted) and (request.finished or self.spec.unfinished == "judge")
        parts = {"correct": float(right), "parsed": float(found is not None)}
        return Verdict(float(right), self.name, parts, correct=right)


def last_number(text: str) -> float | None:
    """The last number of a text, or None."""
    numbers = list(_NUMBER.finditer(text))
    return _value(numbers[-1]) if numbers else None


def gsm8k_number(text: str) -> float | None:
    """The number after the first "####", or None where there is none or something else follows it.

    The first, as in the set's own grading code: a text that goes on with another question and its answer is not read further, and
    several guesses count as the first.
    """
    mark = _MARK.search(text)
    number = _NUMBER.match(text, mark.end()) if mark else None
    return _value(number) if number else None


def normalised_words(text: str) -> str:
    """Lower case, without punctuation, articles and double blanks."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(_ARTICLES.sub(" ", plain).split())


def _value(number: re.Match[str]) -> float:
    value = float((number["digits"].replace(",", "") or "0") + number["decimals"])
    negative = {number["sign"], number["minus"]} & {"-", "−"}
    return -value if negative else value


_MATCHED = object()


def _last_match(pattern: str, text: str) -> object:
    compiled = re.compile(pattern)
    matches = list(compiled.finditer(text))
    if not matches:
        return None
    return _MATCHED if compiled.groups == 0 else matches[-1][1] or ""
