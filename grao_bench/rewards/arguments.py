"""What a reward function is called with: TRL's keywords, or three texts by position.

The keywords are those of TRL 1.16 (huggingface.co/docs/trl/grpo_trainer): prompts, completions,
completion_ids, trainer_state, log_extra, log_metric and the rows' columns, each a list with one
entry per completion but for the last three.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.types import Example
from grao_bench.text.dialogue import render

TRAINED = 10**9
"""trainer_state.global_step and max_steps where a judge is asked: training is over. A judge has to
be the same for every policy, so it can't depend on how long one of them trained."""
_OURS = ("prompts", "completions", "references")
_TRL = ("completion_ids", "trainer_state", "log_extra", "log_metric")


@dataclass(frozen=True)
class Told:
    """What a function told TRL's loggers during one call. Numbers become parts of its verdicts,
    which evaluations record; texts are not kept."""

    count: int
    columns: dict[str, list[Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """One value per completion; ValueError for another number of them."""
        if len(values) != self.count:
            what = f"log_extra({column!r}) got {len(values)} values"
            raise ValueError(f"{what} for {self.count} completions")
        self.columns[column] = list(values)

    def log_metric(self, name: str, value: float) -> None:
        """One number for the call."""
        self.metrics[name] = value

    def parts(self, row: int) -> dict[str, float]:
        """The numbers told of one completion."""
        said = {name: values[row] for name, values in self.columns.items()} | self.metrics
        numbers = {name: value for name, value in said.items() if isinstance(value, Real)}
        return {name: float(one) for name, one in numbers.items() if math.isfinite(one)}


@dataclass(frozen=True)
class Signature:
    """The parameters of a reward function: those that it takes by name, those that it can't do
    without, and whether it takes any keyword (`every`).

    by_position: it has names of its own for them, so it gets prompts, completions and references
    in that order. A function written in C, of which Python can't tell, is called so too.
    """

    named: tuple[str, ...]
    required: tuple[str, ...]
    every: bool
    by_position: bool

    @property
    def own(self) -> bool:
        """Whether it is of our own form, which has references, rather than of TRL's."""
        return self.by_position or "references" in self.named

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """Of any callable."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return cls((), (), False, True)
        kind = inspect.Parameter
        every = any(one.kind is kind.VAR_KEYWORD for one in parameters)
        rest = any(one.kind is kind.VAR_POSITIONAL for one in parameters)
        places = (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)
        first = [one.name for one in parameters if one.kind in places][:3]
        by_position = (rest and not every) or (len(first) == 3 and not {*first} & {*_OURS, *_TRL})
        left = [one for one in parameters if not by_position or one.name not in first]
        named = [one for one in left if one.kind in (kind.POSITIONAL_OR_KEYWORD, kind.KEYWORD_ONLY)]
        required = [one.name for one in named if one.default is kind.empty]
        return cls(tuple(one.name for one in named), tuple(required), every, by_position)


def arguments(
    signature: Signature,
    requests: Sequence[RewardRequest],
    conversational: bool | None,
    told: Told,
) -> tuple[list[Any], dict[str, Any]]:
    """(positional, keyword) arguments of one call, on at least one request.

    conversational: messages (True) or texts (False). None: what the prompts of the data are, and
    texts for a function of our own form. A function of TRL's form that takes **kwargs gets all
    that there is, as TRL does it; one of our own gets the rows' columns, and the rest where it
    names it. UserError for data of both kinds, and for a parameter that nothing fills.
    """
    examples = [request.example for request in requests]
    if conversational is None:
        conversational = not signature.own and _are_messages(examples)
    texts: dict[str, list[Any]] = {
        "prompts": [_prompt(one, conversational) for one in examples],
        "completions": [_answer(request.text, conversational) for request in requests],
        "references": [_answer(one.chosen, conversational) for one in examples],
    }
    columns = _columns(examples)
    theirs = _trl_keywords(signature, requests, told)
    if signature.by_position:
        offered, swept = columns | theirs, columns
    elif signature.own:
        swept = {key: column for key, column in columns.items() if key not in texts}
        offered = swept | texts | theirs
    else:
        rows = {"references": texts.pop("references")} | _answers(examples, conversational)
        offered = swept = rows | columns | texts | theirs
    _require_filled(signature, offered, columns)
    taken = {key: offered[key] for key in signature.named if key in offered}
    first = list(texts.values()) if signature.by_position else []
    return first, (swept if signature.every else {}) | taken


def _are_messages(examples: Sequence[Example]) -> bool:
    """Whether the prompts of these rows are lists of messages; UserError where only some are."""
    kinds = {one.conversational: one.id for one in examples}
    if len(kinds) > 1:
        what = f"the prompt of {kinds[True]} is messages, that of {kinds[False]} a text"
        raise UserError(f"{what}; set reward.conversational=true or false")
    return True in kinds


def _prompt(example: Example, conversational: bool) -> str | list[dict[str, str]]:
    if conversational:
        return [{"role": turn.role, "content": turn.text} for turn in example.prompt]
    return prompt_text(example)


def prompt_text(example: Example) -> str:
    """The text of a prompt of one turn; a dialogue in HH format where there are more."""
    return example.prompt[0].text if len(example.prompt) == 1 else render(example.prompt).strip()


def _answer(text: str | None, conversational: bool) -> str | list[dict[str, str]] | None:
    return [{"role": "assistant", "content": text}] if conversational and text is not None else text


def _answers(examples: Sequence[Example], conversational: bool) -> dict[str, list[Any]]:
    """The set's own answers and labels, under the names of TRL's columns, where any row has them;
    TRL passes them as it does every column but "prompt" and "completion"."""
    found: dict[str, list[Any]] = {
        "chosen": [_answer(one.chosen, conversational) for one in examples],
        "rejected": [_answer(one.rejected, conversational) for one in examples],
        "label": [one.label for one in examples],
    }
    return {key: column for key, column in found.items() if any(one is not None for one in column)}


def _columns(examples: Sequence[Example]) -> dict[str, list[Any]]:
    """The rows' further columns, None where a row lacks one."""
    found = dict.fromkeys(key for example in examples for key in example.metadata)
    return {key: [example.metadata.get(key) for example in examples] for key in found}


def _trl_keywords(
    signature: Signature,
    requests: Sequence[RewardRequest],
    told: Told,
) -> dict[str, Any]:
    """What TRL gives besides texts and columns. The token ids are left out where somebody asks for
    a judgement who has none, such as of a text from elsewhere."""
    given: dict[str, Any] = {"log_extra": told.log_extra, "log_metric": told.log_metric}
    tokens = [request.tokens for request in requests]
    if None not in tokens:
        given["completion_ids"] = [list(one or ()) for one in tokens]
    if "trainer_state" in signature.named or signature.every:
        from transformers import TrainerState  # heavy, and few ask for it

        step, steps = requests[0].step, requests[0].steps
        known = step is not None and steps is not None
        done, of = (step, steps) if known else (TRAINED, TRAINED)
        given["trainer_state"] = TrainerState(global_step=done, max_steps=of)
    return given


def _require_filled(
    signature: Signature,
    offered: Mapping[str, Any],
    columns: Mapping[str, Any],
) -> None:
    missing = [name for name in signature.required if name not in offered]
    if missing:
        rows = ", ".join(columns) or "none"
        raise UserError(
            f"takes {', '.join(missing)}, which nothing fills: there are prompts, completions, "
            f"completion_ids, references, trainer_state and the rows' further columns ({rows}); "
            "rename the parameter or the column"
        )
