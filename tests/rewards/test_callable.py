"""A reward that is a Python function: real modules on disk, and every way in which such a function goes wrong."""

from __future__ import annotations

import itertools

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.rewards.callable import PythonReward

ONE = Example("e1", (Turn("user", "Say one."),), "one", None, "s")
TALK = Example("e2", (Turn("user", "Hi"), Turn("assistant", "Ho"), Turn("user", "So?")), "two", None, "s")
REQUESTS = [RewardRequest(ONE, "one", True), RewardRequest(ONE, "on", False), RewardRequest(TALK, "three", True)]
ANY = load("data/world_helpful")
NUMBER = itertools.count()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """written(text) is the dotted path of `fn` in a new module that holds the text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"own_rewards_{next(NUMBER)}"
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}.fn"

    return write


def spec(function: str, **changed: object) -> PythonReward:
    return load("reward/python", function=function, **changed)


def test_the_function_gets_texts_and_its_numbers_are_the_rewards(written):
    built = spec(written("asked = []\ndef fn(prompts, completions, references):\n    asked.append((prompts, completions, references))\n"
                         "    return [len(c) - len(r) for c, r in zip(completions, references)]\n"))  # fmt: skip
    assert isinstance(built, RewardSpec)
    built.check(ANY)
    source = built.build(ANY)
    assert isinstance(source, RewardSource)
    verdicts = source.score(REQUESTS)
    assert [verdict.reward for verdict in verdicts] == [0.0, -1.0, 2.0]
    assert (source.name, source.pairwise, verdicts[0].source) == ("python_fn", False, "python_fn")
    assert source.function.__globals__["asked"] == [
        (
            ["Say one.", "Say one.", "Human: Hi\n\nAssistant: Ho\n\nHuman: So?"],
            ["one", "on", "three"],
            ["one", "one", "two"],
        )
    ]


PROMPTS = [
    RewardRequest(Example("p1", (Turn("user", "a"),), metadata={"answer": 4, "level": "easy"}), "four", True),
    RewardRequest(Example("p2", (Turn("user", "b"),), metadata={"answer": 5}), "six", True),
]


@pytest.mark.parametrize(
    ("parameters", "got"),
    [
        ("p, c, r", {}),
        ("p, c, r, **columns", {"answer": [4, 5], "level": ["easy", None]}),
        ("p, c, r, answer", {"answer": [4, 5]}),
        ("p, c, r, *, level, other='own'", {"level": ["easy", None], "other": "own"}),
        ("p, c, r, answer, **rest", {"answer": [4, 5], "rest": {"level": ["easy", None]}}),
    ],
)
def test_the_rows_columns_reach_a_function_that_takes_them(written, parameters, got):
    """Its parameters, as it sees them; prompts alone have no references."""
    text = f"asked = []\ndef fn({parameters}):\n    asked.append(locals())\n    return [0] * len(p)\n"
    source = spec(written(text)).build(ANY)
    source.score(PROMPTS)
    (asked,) = source.function.__globals__["asked"]
    if parameters.endswith("**columns"):
        asked |= asked.pop("columns")
    texts = {"p": ["a", "b"], "c": ["four", "six"], "r": [None, None]}
    assert asked == texts | got


def test_a_column_that_no_row_has_is_missed(written):
    source = spec(written("def fn(p, c, r, solution):\n    return [0] * len(p)\n")).build(ANY)
    with pytest.raises(UserError, match=r"takes solution, which nothing fills: .* \(answer, level\); rename"):
        source.score(PROMPTS)


def test_no_requests_ask_nothing(written):
    assert spec(written("def fn(p, c, r):\n    raise RuntimeError\n")).build(ANY).score([]) == []


def test_numbers_of_other_libraries_are_numbers(written):
    text = "import numpy, torch\ndef fn(p, c, r):\n    return [numpy.float32(0.5), torch.tensor(2.0), True]\n"
    assert [verdict.reward for verdict in spec(written(text)).build(ANY).score(REQUESTS)] == [0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0, 2.0]", "gave 2 numbers for 3 completions; it must give one for each"),
        ("return [1.0, float('nan'), 0.0]", "gave nan for completion 1; it must give a finite number"),
        ("return [1.0, 0.0, float('inf')]", "gave inf for completion 2; it must give a finite number"),
        ("return [1.0, 0.0, -1e39]", r"gave -1e\+39 for completion 2; it must give a finite number"),
        ("return [1.0, 10**999, 0.0]", "gave 1000.*000 for completion 1; it must give a finite num"),
        ("import sys; sys.exit('bye')", r"raised SystemExit: bye \(.*own_rewards_\d+\.py:2\)"),
        ("return ['good', 1.0, 0.0]", "gave 'good' for completion 0; it must give a finite number"),
        ("return ['1.0', 1.0, 0.0]", "gave '1.0' for completion 0; it must give a finite number"),
        ("return [[1.0], 1.0, 0.0]", r"gave \[1.0\] for completion 0; it must give a finite number"),
        ("pass", "gave NoneType None; it must give a list of 3 numbers"),
        ("return 1.0", "gave float 1.0; it must give a list of 3 numbers"),
        ("return '101'", "gave str '101'; it must give a list of 3 numbers"),
        ("return {0: 1.0, 1: 1.0, 2: 1.0}", "gave dict {0: 1.0, .*; it must give a list of 3 numbers"),
        ("return {0.0, 0.5, 1.0}", "gave set .*; it must give a list of 3 numbers"),
        ("raise ValueError('one\\ntwo')", r"raised ValueError: one two \("),
        ("return {}['x']", r"raised KeyError: 'x' \(.*own_rewards_\d+\.py:2\)"),
    ],
)
def test_wrong_numbers_are_one_line_that_names_the_key(written, body, message):
    path = written(f"def fn(prompts, completions, references):\n    {body}\n")
    with pytest.raises(UserError, match=rf"^reward\.function={path}: {message}") as raised:
        spec(path).build(ANY).score(REQUESTS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("fn", "no dotted path; give package.module.fn"),
        ("no_such_module_at_all.fn", r"no_such_module_at_all can't be imported \(ModuleNotFoundError"),
        ("grao_bench.core.errors.fn", "grao_bench.core.errors has no fn"),
        ("grao_bench.rewards.callable.__doc__", "is str, not a function"),
    ],
)
def test_a_function_that_is_not_there_is_found_before_anything_is_trained(path, message):
    with pytest.raises(UserError, match=rf"^reward\.function={path}: {message}"):
        spec(path).check(ANY)


def test_none_leaves_an_answer_out(written):
    source = spec(written("def fn(p, c, r):\n    return [None, 1.0, 0.0]\n")).build(ANY)
    assert [verdict.reward for verdict in source.score(REQUESTS)] == [None, 1.0, 0.0]


POSITIONS = [("p, c, r", "p, c, r"), ("*texts", "*texts"), ("references, completions, prompts",) * 2]


@pytest.mark.parametrize(("head", "texts"), POSITIONS)
def test_names_of_ones_own_are_filled_by_position_and_ours_by_name(written, head, texts):
    body = f"def fn({head}):\n    seen[:] = [{texts}]\n    return [0] * 3\n"
    source = spec(written(f"seen = []\n{body}")).build(ANY)
    source.score(REQUESTS)
    seen = source.function.__globals__["seen"]
    if head.startswith("references"):
        seen.reverse()
    dialogue = "Human: Hi\n\nAssistant: Ho\n\nHuman: So?"
    assert seen == [["Say one."] * 2 + [dialogue], ["one", "on", "three"], ["one", "one", "two"]]


def test_a_margin_below_0_is_a_users_error():
    with pytest.raises(UserError, match=r"^reward\.tie_margin=-1\.0: must not be negative"):
        spec("math.dist", tie_margin=-1.0).check(ANY)


def test_a_module_that_breaks_when_it_is_imported(written):
    path = written("1 / 0\n")
    with pytest.raises(UserError, match=r"can't be imported \(ZeroDivisionError: division by zero\)"):
        spec(path).check(ANY)


def test_a_pairwise_function_says_minus_one_zero_or_one(written):
    path = written("def fn(p, c, r):\n    return [1, 0, -1] if c[0] == 'one' else [0.5] * len(c)\n")
    source = spec(path, pairwise=True).build(ANY)
    assert source.pairwise
    assert [verdict.reward for verdict in source.score(REQUESTS)] == [1.0, 0.0, -1.0]
    with pytest.raises(UserError, match=r"gave 0\.5 for completion 0; with reward\.pairwise=true it must give -1, 0 or 1"):
        source.score(REQUESTS[1:])


def test_a_column_with_the_name_of_a_text_is_not_given(written):
    """A row may have a column "prompts"; the function's own first three are what it gets."""
    head = "def fn(prompts, completions, references, **columns):\n"
    path = written(f"{head}    return [len(columns) + len(prompts[0])]\n")
    row = Example("e", (Turn("user", "four"),), metadata={"prompts": "x", "other": 1})
    (verdict,) = spec(path).build(ANY).score([RewardRequest(row, "one", True)])
    assert verdict.reward == 5.0


def test_the_fingerprint_is_of_the_code(written):
    one, same, other = (spec(written(f"def fn(p, c, r):\n    return [{value}] * len(c)\n")).build(ANY) for value in (1, 1, 2))
    assert one.fingerprint == spec(one.spec.function).build(ANY).fingerprint
    assert one.fingerprint == same.fingerprint, "what it computes, wherever it lies"
    assert one.fingerprint != other.fingerprint
