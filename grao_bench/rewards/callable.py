"""A reward written as a Python function: fn(prompts, completions, references, **columns)."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from grao_bench.dialogue import render
from grao_bench.errors import UserError
from grao_bench.interfaces import DataSpec, RewardRequest
from grao_bench.types import Example, Verdict
from grao_bench.values import REACHES

RewardFunction = Callable[..., Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class PythonReward:
    """function: `package.module.fn`, found on Python's path (the working directory is on it).

    fn(prompts, completions, references) gets three lists of texts of one length and gives as many
    numbers. A prompt of one turn is its text; one of more turns is a dialogue in HH format. A
    reference is None where the set has none. A function that takes **columns, or parameters by
    the columns' names, gets the rows' further columns as lists too (TRL's way), None where a row
    lacks it. pairwise: the numbers are R(completion, reference) in {-1, 0, 1}; otherwise they
    are scores, and two closer than tie_margin are a tie.
    """

    function: str = field(metadata={REACHES: lambda path: path.rpartition(".")[0] or path})
    pairwise: bool
    tie_margin: float

    def needs_reference(self, data: DataSpec) -> bool:
        """A pairwise one; a score's function gets None for a reference that a set lacks."""
        return self.pairwise

    def check(self, data: DataSpec) -> None:
        """UserError if the function can't be found, or the margin is below 0."""
        if not self.tie_margin >= 0:
            raise UserError(f"reward.tie_margin={self.tie_margin}: must not be negative")
        load_function(self.function)

    def build(self, data: DataSpec) -> PythonSource:
        """The source; UserError if the function can't be found."""
        return PythonSource(self, load_function(self.function))


@dataclass(frozen=True)
class PythonSource:
    """Calls the function, once for all requests, and checks what it gives."""

    spec: PythonReward
    function: RewardFunction

    @property
    def name(self) -> str:
        """python_<fn>."""
        return f"python_{self.spec.function.rpartition('.')[2]}"

    @property
    def pairwise(self) -> bool:
        """As the config says."""
        return self.spec.pairwise

    @property
    def tie_margin(self) -> float:
        """As the config says."""
        return self.spec.tie_margin

    @property
    def fingerprint(self) -> str:
        """sha256 of the file that the function is in, or its name where there is no file."""
        try:
            text = inspect.getsource(inspect.getmodule(self.function) or self.function)
        except (OSError, TypeError):
            text = ""
        return hashlib.sha256(f"{self.spec.function}\n{text}".encode()).hexdigest()

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; UserError names what is wrong with the function or its numbers."""
        if not requests:
            return []
        examples = [request.example for request in requests]
        texts = (
            [prompt_text(example) for example in examples],
            [request.text for request in requests],
            [example.chosen for example in examples],
        )
        try:
            given = self.function(*texts, **columns_for(self.function, examples))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"reward.function={self.spec.function}: raised {type(error).__name__}: {' '.join(str(error).split())} "
                f"({last.filename}:{last.lineno})"
            ) from error
        return [Verdict(value, self.name) for value in self._values(given, len(requests))]

    def _values(self, given: Any, count: int) -> list[float]:
        where = f"reward.function={self.spec.function}"
        try:
            listed = list(given)
        except TypeError:
            raise UserError(f"{where}: gave {type(given).__name__}; it must give a list of {count} numbers, one per completion") from None
        if len(listed) != count:
            raise UserError(f"{where}: gave {len(listed)} numbers for {count} completions; it must give one for each, in order")
        return [self._value(value, index, where) for index, value in enumerate(listed)]

    def _value(self, value: Any, index: int, where: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UserError(f"{where}: gave {value!r} for completion {index}; it must give a number for each") from None
        if not math.isfinite(number):
            raise UserError(f"{where}: gave {number} for completion {index}; it must give a finite number for each")
        if self.spec.pairwise and number not in (-1.0, 0.0, 1.0):
            raise UserError(f"{where}: gave {number} for completion {index}; with reward.pairwise=true it must give -1, 0 or 1")
        return number


def columns_for(function: RewardFunction, examples: Sequence[Example]) -> dict[str, list[Any]]:
    """The rows' columns that a function takes: those that it names after its first three
    parameters, or all that any row has where it takes **columns. A column of one of those three
    names is not given."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function written in C
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {one.name for one in parameters[3:] if one.kind in kinds}
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    found = dict.fromkeys(key for example in examples for key in example.metadata)
    first = {one.name for one in parameters[:3]}
    taken = [key for key in found if key in named or (every and key not in first)]
    return {key: [example.metadata.get(key) for example in examples] for key in taken}


def load_function(path: str) -> RewardFunction:
    """The function of this dotted path; UserError names what of it is missing."""
    module, _, name = path.rpartition(".")
    if not module:
        raise UserError(f"reward.function={path}: no dotted path; give package.module.fn")
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise UserError(f"reward.function={path}: {module} has no {name}") from None
    except Exception as error:  # whatever the user's module raises when it is imported
        raise UserError(f"reward.function={path}: {module} can't be imported ({type(error).__name__}: {error})") from error
    if not callable(found):
        raise UserError(f"reward.function={path}: is {type(found).__name__}, not a function")
    function: RewardFunction = found
    return function


def prompt_text(example: Example) -> str:
    """The text of a prompt of one turn; a dialogue in HH format where there are more."""
    return example.prompt[0].text if len(example.prompt) == 1 else render(example.prompt).strip()
