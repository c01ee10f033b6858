"""What code computes and nothing else makes its fingerprint: every case is a module that the test writes, edits and reads again."""

from __future__ import annotations

import functools
import importlib
import math
import sys
from types import ModuleType

import pytest

from grao_bench.core.code_fingerprint import code_fingerprint

MODULE = '''
"""Rewards."""
import math
import json as j
from statistics import fmean

SCALE = 2.0
WORDS = ["good"]
WORDS.append("fine")
UNUSED = 7


def count(text):
    """How many."""
    # words
    return sum(word in WORDS for word in text.split())


class Base:
    def score(self, text):
        return count(text) * SCALE


class Judge(Base):
    def __init__(self, most):
        self.most = most

    def __call__(self, prompts, completions, references):
        return [min(self.most, self.score(text)) for text in completions]


def logged(function):
    return function


@logged
def score(prompts, completions, references):
    """The reward."""
    return [math.sqrt(count(text)) for text in completions]


def make(target):
    def inner(prompts, completions, references):
        return [abs(len(text) - target) for text in completions]

    return inner


def unrelated():
    count = 3
    return count + UNUSED


judge = Judge(3)
closure = make(4)
partial = __import__("functools").partial(make, 5)
short = lambda prompts, completions, references: [-len(text) for text in completions]

if __name__ == "__main__":
    print(score([], [], []))
'''
NAMES = ("score", "judge", "Judge", "closure", "partial", "short")


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """fingerprint(text, name) of a module with this text, written and imported anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = iter(range(1000))

    def of(text: str, name: str, module: str = "", **others: str) -> str | None:
        for other, source in others.items():
            (tmp_path / f"{other}.py").write_text(source)
            sys.modules.pop(other, None)
        module = module or f"written_{next(count)}"
        path = tmp_path / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, module, raising=False)
        found = importlib.import_module(module)
        return code_fingerprint(getattr(found, name), (module, name))

    return of


def edited(before: str, after: str) -> str:
    assert before in MODULE
    return MODULE.replace(before, after)


SAME = {
    "another module name": MODULE,
    "comments": edited("# words", "# all the words"),
    "docstrings": edited('"""The reward."""', '"""Anything\n\n    else."""').replace('"""How many."""', ""),
    "layout": edited(
        "[math.sqrt(count(text)) for text in completions]", "[\n        math.sqrt( count(text) )\n        for text in (completions)\n    ]"
    ),
    "quotes and numbers": edited('"good"', "'good'").replace("2.0", "2.00"),
    "an unrelated function": edited("return count + UNUSED", "return 1"),
    "an unused constant": edited("UNUSED = 7", "UNUSED = 8"),
    "a moved function": edited("def unrelated():\n    count = 3\n    return count + UNUSED\n", "").replace(
        "SCALE = 2.0", "def unrelated():\n    return 5\n\n\nSCALE = 2.0"
    ),
    "what it does as a script": edited("print(score([], [], []))", "print(1)"),
    "another import": edited("import math", "import math\nimport os"),
}
CHANGED = {
    "its body": (edited("math.sqrt(count(text))", "1 + math.sqrt(count(text))"), {"score"}),
    "a function that it calls": (edited("word in WORDS", "word not in WORDS"), {"score", "judge", "Judge"}),
    "a constant that it reads": (edited('["good"]', '["well"]'), {"score", "judge", "Judge"}),
    "what is done to a constant": (edited('append("fine")', 'append("fun")'), {"score", "judge", "Judge"}),
    "another constant": (edited("SCALE = 2.0", "SCALE = 3.0"), {"judge", "Judge"}),
    "a method of its base": (edited("count(text) * SCALE", "count(text) / SCALE"), {"judge", "Judge"}),
    "its decorator": (edited("    return function\n", "    return lambda *a: [0.0 for _ in a[1]]\n"), {"score"}),
    "that it is decorated": (edited("@logged\n", ""), {"score"}),
    "an import that it reads": (edited("import math", "import cmath as math"), {"score"}),
    "how an object was made": (edited("Judge(3)", "Judge(4)"), {"judge"}),
    "what a closure holds": (edited("make(4)", "make(9)"), {"closure"}),
    "a closure's code": (edited("abs(len(text) - target)", "-abs(len(text) - target)"), {"closure", "partial"}),
    "what a partial holds": (edited("partial(make, 5)", "partial(make, 6)"), {"partial"}),
    "a lambda": (edited("-len(text) for", "len(text) for"), {"short"}),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_what_computes_the_same_keeps_its_fingerprint(text, fingerprint):
    for name in NAMES:
        assert fingerprint(text, name) == fingerprint(MODULE, name) is not None, name


@pytest.mark.parametrize(("text", "which"), CHANGED.values(), ids=CHANGED)
def test_what_computes_something_else_changes_it(text, which, fingerprint):
    assert {name for name in NAMES if fingerprint(text, name) != fingerprint(MODULE, name)} == which


def test_all_are_different(fingerprint):
    assert len({fingerprint(MODULE, name) for name in NAMES}) == len(NAMES)


def test_what_is_imported_from_another_module_of_the_users_is_read_too(fingerprint):
    """By name, as an attribute, in a function, re-exported; of an installed package the import alone."""
    helper = "LIMIT = 3\n\n\ndef cut(x):\n    return x[:LIMIT]\n\n\ndef other():\n    return 1\n"
    ways = {
        "by name": "from helper import cut\n\n\ndef score(p, c, r):\n    return [len(cut(x)) for x in c]\n",
        "attribute": "import helper as h\n\n\ndef score(p, c, r):\n    return [len(h.cut(x)) for x in c]\n",
        "inside": "def score(p, c, r):\n    from helper import cut\n    return [len(cut(x)) for x in c]\n",
        "star": "from helper import *\n\n\ndef score(p, c, r):\n    return [len(cut(x)) for x in c]\n",
        "re-exported": "from helper import cut as score\n",
    }
    for way, text in ways.items():
        before = fingerprint(text, "score", helper=helper)
        assert fingerprint(text, "score", helper=helper + "# end\n") == before, way
        assert fingerprint(text, "score", helper=helper.replace("= 3", "= 4")) != before, way
        if way != "star":
            assert fingerprint(text, "score", helper=helper.replace("return 1", "return 2")) == before, way


def test_a_package_that_is_moved_keeps_it(fingerprint, tmp_path):
    text = "from .parts import cut\n\n\ndef score(p, c, r):\n    return [len(cut(x)) for x in c]\n"
    found = []
    for package in ("one", "two"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "parts.py").write_text("def cut(x):\n    return x[:3]\n")
        found.append(fingerprint(text, "score", f"{package}.rewards"))
    assert found[0] == found[1] is not None


CELL = """
SCALE = {scale}


def helper(text):
    return SCALE * len(text)


def score(prompts, completions, references):
    return [helper(text) for text in completions]


class Judge:
    most = {scale}

    def score(self, text):
        return min(self.most, helper(text))

    def __call__(self, prompts, completions, references):
        return [self.score(text) for text in completions]


def make(target):
    return lambda prompts, completions, references: [target - helper(text) for text in completions]


closure, judge = make({scale}), Judge()
"""


def notebook(source: str, name: str = "__main__") -> ModuleType:
    """What a notebook's cell leaves: functions without a file."""
    module = ModuleType(name)
    exec(compile(source, "<cell>", "exec"), vars(module))
    return module


@pytest.mark.parametrize("name", ["score", "closure", "judge", "Judge"])
def test_without_a_file_the_objects_themselves_are_read(name, monkeypatch):
    def of(source: str) -> str | None:
        module = notebook(source)
        monkeypatch.setitem(sys.modules, "__main__", module)
        return code_fingerprint(getattr(module, name), ("__main__", name))

    before = of(CELL.format(scale=2))
    assert before is not None
    assert of(CELL.format(scale=2)) == of("\n\n" + CELL.format(scale=2)) == before
    assert of(CELL.format(scale=3)) != before
    assert of(CELL.format(scale=2).replace("SCALE * len", "SCALE + len")) != before


def test_a_partial_and_a_method_are_what_they_hold():
    def power(base, x):
        return base**x

    two, again, three = (functools.partial(power, base) for base in (2, 2, 3))
    assert code_fingerprint(two) == code_fingerprint(again) != code_fingerprint(three)
    assert code_fingerprint(two) is not None


def test_an_extension_in_c_has_none():
    assert code_fingerprint(math.sqrt, ("math", "sqrt")) is None
    assert code_fingerprint(len) is None
