"""Verifiable rewards: what each rule finds in a text, and which answers are right."""

from __future__ import annotations

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.rewards.verifiable import Verifiable, gsm8k_number, last_number, normalised_words

ANY = load("data/world_helpful")
GOLD = "She pays 3 * 6 = 18 dollars.\n#### 18"


def spec(rule: str, **changed: object) -> Verifiable:
    return load("reward/verifiable", rule=rule, **changed)


def rewards(spec: Verifiable, reference: str, *answers: str, finished: bool = True) -> list[float]:
    example = Example("e1", (Turn("user", "How many?"),), reference, None, "s")
    return [verdict.reward for verdict in spec.build(ANY).score([RewardRequest(example, answer, finished) for answer in answers])]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 18", 18.0),
        ("3 * 6 = 18\n#### 18\nThanks for asking, 7 times.", 18.0),
        ("####18", 18.0),
        ("#### $1,234.50 in all", 1234.5),
        ("#### -7", -7.0),
        ("#### -$7", -7.0),
        ("#### $-7.25", -7.25),
        ("#### −3", -3.0),
        ("#### 1,234,567", 1234567.0),
        ("#### 18.", 18.0),
        ("#### .5", 0.5),
        ("#### 0", 0.0),
        ("#### 20%", 20.0),
        # the first mark decides, whatever follows: no second guess, and no next question
        ("#### 5\n#### 6", 5.0),
        ("#### about 5", None),
        ("#### ", None),
        ("18", None),
        ("", None),
    ],
)
def test_the_number_after_the_mark(text, number):
    assert gsm8k_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 3 or 4", 4.0),
        ("10-3", 3.0),
        ("10 - 3 = 7", 7.0),
        ("the sum is -3", -3.0),
        ("(-3)", -3.0),
        ("1,000 dollars", 1000.0),
        # no thousands: a list of two numbers
        ("either 12,5", 5.0),
        ("1,0000", 0.0),
        ("about 2.5e3 of them", 2500.0),
        ("$ 12", 12.0),
        ("ends with 3.", 3.0),
        ("no number", None),
    ],
)
def test_the_last_number(text, number):
    assert last_number(text) == number


def test_gsm8k_compares_numbers_and_wants_the_mark():
    right = ["#### 18", "So\n#### 18.0", "#### $18", "#### 18 dollars"]
    wrong = ["#### 19", "#### -18", "It is 18", "#### 1,8", ""]
    assert rewards(spec("gsm8k"), GOLD, *right, *wrong) == [1.0] * 4 + [0.0] * 5
    assert rewards(spec("gsm8k_flexible"), GOLD, "It is 18", "It is 18 of 20", "none") == [1.0, 0.0, 0.0]


def test_numbers_are_equal_within_a_tolerance():
    """|a - b| <= max(relative x the larger, absolute): 0.1% of 1000 is 1."""
    rough = spec("numeric", relative_tolerance=0.001)
    assert rewards(rough, "1000", "1001", "999.0", "1001.1", "1002") == [1.0, 1.0, 0.0, 0.0]
    absolute = spec("numeric", relative_tolerance=0.0, absolute_tolerance=0.5)
    assert rewards(absolute, "about 0", "0.5", "-0.5", "0.51") == [1.0, 1.0, 0.0]


def test_exact_texts():
    assert rewards(spec("exact"), "Paris", "Paris", " Paris\n", "paris", "Paris.") == [1.0, 1.0, 0.0, 0.0]
    assert rewards(spec("exact_words"), "The Eiffel Tower", "eiffel  tower!", "An Eiffel tower", "tower Eiffel") == [1.0, 1.0, 0.0]
    assert normalised_words(" The cat's, a theatre! ") == "cats theatre"


def test_a_pattern_with_a_group_compares_what_it_finds():
    boxed = spec("regex", pattern=r"\\boxed\{([^}]*)\}")
    assert rewards(boxed, r"so \boxed{x+1}", r"\boxed{x+1}", r"\boxed{y} no, \boxed{x+1}", r"\boxed{x}", "x+1") == [1.0, 1.0, 0.0, 0.0]
    # a reference that is the bare answer
    assert rewards(boxed, " x+1 ", r"\boxed{x+1}", r"\boxed{x}") == [1.0, 0.0]


def test_a_pattern_without_a_group_is_looked_for_alone():
    assert rewards(spec("regex", pattern=r"(?i)\bthank you\b"), "anything", "Thank you!", "Thanks") == [1.0, 0.0]


def test_an_unfinished_answer_is_wrong_unless_it_is_to_be_judged():
    assert rewards(spec("gsm8k"), GOLD, "#### 18", finished=False) == [0.0]
    assert rewards(spec("gsm8k", unfinished="judge"), GOLD, "#### 18", finished=False) == [1.0]


def test_the_source_says_what_it_is_and_what_it_could_read():
    built = spec("gsm8k")
    assert isinstance(built, RewardSpec)
    source = built.build(ANY)
    assert isinstance(source, RewardSource)
    assert (source.name, source.pairwise, source.tie_margin) == ("verifiable_gsm8k", False, 0.0)
    example = Example("e1", (), GOLD, None, "s")
    said = [RewardRequest(example, text, True) for text in ("#### 18", "#### 1", "18")]
    parts = [verdict.parts for verdict in source.score(said)]
    assert [verdict.correct for verdict in source.score(said)] == [True, False, False]
    assert parts == [{"correct": 1.0, "parsed": 1.0}, {"correct": 0.0, "parsed": 1.0}, {"correct": 0.0, "parsed": 0.0}]
    assert source.fingerprint != spec("gsm8k", absolute_tolerance=0.1).build(ANY).fingerprint


@pytest.mark.parametrize(
    ("rule", "what"), [("gsm8k", 'no "#### number"'), ("gsm8k_flexible", 'no "#### number"'), ("numeric", "no number")]
)
def test_a_reference_without_an_answer_is_named(rule, what):
    with pytest.raises(UserError, match=rf"reward\.rule={rule}: the reference of e1 holds {what}"):
        rewards(spec(rule), "no digits here", "#### 1")


def test_the_right_answer_may_be_in_a_column_of_the_row():
    """Of prompts alone; a number is compared as its text says it."""
    source = spec("numeric", column="answer").build(ANY)
    example = Example("e1", (), metadata={"answer": 42, "source": "mine"})
    asked = [RewardRequest(example, text, True) for text in ("it is 42.0", "41")]
    assert [verdict.reward for verdict in source.score(asked)] == [1.0, 0.0]
    absent = spec("numeric", column="solution").build(ANY)
    with pytest.raises(UserError, match=r"reward\.column=solution: e1 has no such column; there are: answer"):
        absent.score(asked)
    words = Example("e2", (), metadata={"answer": "none"})
    with pytest.raises(UserError, match='the "answer" of e2 holds no number'):
        source.score([RewardRequest(words, "1", True)])


def test_a_pattern_without_a_group_needs_no_right_answer():
    source = spec("regex", pattern="thank").build(ANY)
    asked = [RewardRequest(Example("e1", ()), text, True) for text in ("thank you", "no")]
    assert [verdict.reward for verdict in source.score(asked)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rule": "exat"}, r"reward\.rule=exat: unknown; choose one of exact, exact_words, regex, numeric, gsm8k, gsm8k_flexible"),
        ({"relative_tolerance": -0.1}, r"reward\.relative_tolerance=-0\.1: must not be negative"),
        ({"rule": "regex"}, r"reward\.pattern=None: is for reward\.rule=regex alone, which needs it"),
        ({"rule": "exact", "pattern": "x"}, r"reward\.pattern=x: is for reward\.rule=regex alone"),
        ({"rule": "regex", "pattern": "(x"}, r"reward\.pattern=\(x: no regular expression"),
    ],
)
def test_a_mistake_in_the_config_is_one_line(changed, message):
    fields = {
        "rule": "gsm8k",
        "pattern": None,
        "column": None,
        "relative_tolerance": 0.0,
        "absolute_tolerance": 0.0,
        "unfinished": "lose",
    } | changed
    with pytest.raises(UserError, match=message):
        unchecked(fields)


def unchecked(fields: dict[str, object]) -> Verifiable:
    """Made as a user's config makes it: without the signature checks that the tests run under."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return Verifiable(**fields)  # type: ignore[arg-type]
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
