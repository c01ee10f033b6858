"""A reward written as a Python function: of TRL's form, or fn(prompts, completions, references)."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import reprlib
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from grao_bench.core.code_fingerprint import code_fingerprint
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.ops import is_reward
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Verdict
from grao_bench.core.values import REACHES, READS
from grao_bench.rewards.arguments import Signature, Told, arguments

RewardFunction = Callable[..., Any]


def module_of(path: str) -> str:
    """The module of a function's dotted path."""
    return path.rpartition(".")[0] or path


@dataclass(frozen=True, kw_only=True)
class PythonReward:
    """function: `package.module.fn`, found on Python's path (the working directory is on it). It
    gives a number for each completion, or None to leave one out; it may be `async def`.

    Of TRL's form, fn(prompts, completions, **kwargs), it is called by keywords, as TRL calls it:
    also completion_ids, trainer_state, log_extra, log_metric, references and, by their names, the
    rows' further columns (None where a row lacks one). What it does not take is not given.
    trainer_state is a TrainerState with global_step and max_steps in training, both TRAINED where
    a judge is asked; its other fields are not known.

    Of our own form, fn(prompts, completions, references, **columns), which a parameter
    `references` or parameters of other names tell, it gets texts and columns. A reference is None
    where the set has none.

    conversational: prompts are lists of messages and completions [{"role": "assistant",
    "content": ...}] (true), or texts (false), of which a prompt of several turns is a dialogue in
    HH format; null: as the data's own prompts are (our own form: texts).
    pairwise: the numbers are R(completion, reference) in {-1, 0, 1}; otherwise they are scores,
    and two closer than tie_margin are a tie.
    """

    revision: ClassVar[int] = 1

    function: str = field(
        metadata={
            REACHES: module_of,
            READS: lambda spec, sets: {spec.function: function_fingerprint(spec.function)},
        }
    )
    pairwise: bool
    conversational: bool | None
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
        """What the function computes (`code_fingerprint`), or its name where that can't be read."""
        return function_fingerprint(self.spec.function) or self.spec.function

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order, its reward None where the function gave None;
        UserError names the function and what is wrong with it or with what it gave."""
        if not requests:
            return []
        where, told = f"reward.function={self.spec.function}", Told(len(requests))
        signature, conversational = Signature.of(self.function), self.spec.conversational
        try:
            texts, keywords = arguments(signature, requests, conversational, told)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        try:
            given = _waited_for(self.function(*texts, **keywords))
            listed = list(given) if _is_list(given) else None
        except (Exception, SystemExit) as error:  # which would end the run without a word
            last = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            raise UserError(f"{where}: raised {fault} ({last.filename}:{last.lineno})") from error
        count = len(requests)
        if listed is None:
            what = f"gave {type(given).__name__} {reprlib.repr(given)}"
            fix = f"it must give a list of {count} numbers, one per completion"
            raise UserError(f"{where}: {what}; {fix}")
        if len(listed) != count:
            what = f"gave {len(listed)} numbers for {count} completions"
            raise UserError(f"{where}: {what}; it must give one for each, in order")
        values = [self._value(value, index, where) for index, value in enumerate(listed)]
        return [Verdict(value, self.name, told.parts(row)) for row, value in enumerate(values)]

    def _value(self, value: Any, index: int, where: str) -> float | None:
        if value is None:
            return None
        what = f"{where}: gave {reprlib.repr(value)} for completion {index}"
        try:
            number = float(math.nan if isinstance(value, str | bytes) else value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not is_reward(number):
            fix = "a finite number for each, or None to leave one out"
            raise UserError(f"{what}; it must give {fix}")
        if self.spec.pairwise and number not in (-1.0, 0.0, 1.0):
            raise UserError(f"{what}; with reward.pairwise=true it must give -1, 0 or 1")
        return number


def _is_list(given: Any) -> bool:
    """Whether this is numbers in an order: a list, a tuple, an array, a generator."""
    unordered = isinstance(given, str | bytes | Mapping | set | frozenset)
    return isinstance(given, Iterable) and not unordered and getattr(given, "ndim", 1) > 0


def _waited_for(given: Any) -> Any:
    """What a function gave; of an async one, what it gives in the end."""
    if not inspect.isawaitable(given):
        return given
    return asyncio.run_coroutine_threadsafe(_awaited(given), _loop()).result()


async def _awaited(given: Awaitable[Any]) -> Any:
    return await given


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One event loop for the process, in a thread of its own: a function's clients stay connected
    from call to call, and a notebook's own loop is left alone."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="async rewards", daemon=True).start()
    return loop


def load_function(path: str) -> RewardFunction:
    """The function of this dotted path; UserError names what of it is missing."""
    module, _, name = path.rpartition(".")
    if not module:
        raise UserError(f"reward.function={path}: no dotted path; give package.module.fn")
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise UserError(f"reward.function={path}: {module} has no {name}") from None
    except (Exception, SystemExit) as error:  # whatever the user's module does when imported
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"reward.function={path}: {module} can't be imported ({fault})") from error
    if not callable(found):
        raise UserError(f"reward.function={path}: is {type(found).__name__}, not a function")
    function: RewardFunction = found
    return function


def function_fingerprint(path: str) -> str | None:
    """What the function of this dotted path computes; None where neither source nor bytecode is to
    be had."""
    module, _, name = path.rpartition(".")
    return code_fingerprint(load_function(path), (module, name))
