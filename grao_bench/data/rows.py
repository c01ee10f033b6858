"""What a row says, in each way that rows are laid out; `layouts` has the table of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grao_bench.core.types import Turn
from grao_bench.data.lines import RowError, text_field
from grao_bench.data.messages import (
    ToolTurns,
    answer_of,
    no_answer,
    prompt_of,
    shared,
    text_of,
    turns_of,
)
from grao_bench.data.pairs import Fault
from grao_bench.text.dialogue import split_turns

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a row says, as `types.Example` has it."""

    prompt: tuple[Turn, ...]
    chosen: str | None = None
    rejected: str | None = None
    demonstrations: tuple[str, ...] = ()
    label: bool | None = None


def _parts(row: Row, tools: ToolTurns) -> Parts:
    """A prompt, and what there is of chosen, rejected, demonstrations, completion and label."""
    if row.get("prompt") is None:
        text_field(dict(row), "prompt")
    prompt = prompt_of(row["prompt"], "prompt", tools)
    contexts: list[tuple[Turn, ...]] = []

    def answer(key: str, value: object) -> str | None:
        if value is None:
            return None
        before, text = answer_of(value, key, tools)
        if before and not isinstance(row["prompt"], list) and prompt[:1] and prompt[0] in before:
            contexts.append(before)
        elif before not in ((), prompt, prompt[1:] if prompt[0].role == "system" else prompt):
            raise no_answer(key)
        return text

    given = row.get("demonstrations")
    if given is not None and not isinstance(given, list):
        raise RowError(f'"demonstrations" is {type(given).__name__}; it must be a list of answers')
    demonstrations = [answer(f"demonstrations[{i}]", one) for i, one in enumerate(given or [])]
    chosen, rejected = (answer(key, row.get(key)) for key in ("chosen", "rejected"))
    label = None
    if row.get("completion") is not None:
        label = _label(row)
        completion = answer("completion", row["completion"])
        chosen, rejected = (completion, None) if label is not False else (None, completion)
    elif rejected is not None and chosen is None:
        fix = 'add it, or give one answer as "completion" with "label": false'
        raise RowError(f'"rejected" without "chosen"; {fix}')
    if any(one != contexts[0] for one in contexts):
        raise RowError('"chosen" and "rejected" come after different messages')
    texts = tuple(text or "" for text in demonstrations)
    return Parts(contexts[0] if contexts else prompt, chosen, rejected, texts, label)


_LABELS = {"true": True, "1": True, "false": False, "0": False}


def _label(row: Row) -> bool | None:
    """The label of a row with a completion; None where it has none."""
    if row.get("chosen") is not None or row.get("rejected") is not None:
        fix = "a row has one labelled answer, or a pair"
        raise RowError(f'"completion" beside "chosen" or "rejected"; {fix}')
    label = row.get("label")
    if isinstance(label, str):
        label = _LABELS.get(label.strip().lower(), label)
    if isinstance(label, int | float) and label in (0, 1):
        label = bool(label)
    if label is not None and not isinstance(label, bool):
        raise RowError(f'"label" is {label!r}; "completion" needs "label": true or false')
    return label


def read_standard(row: Row, tools: ToolTurns) -> Parts:
    """A prompt, and what there is of chosen, rejected, demonstrations, and completion with label.

    An answer may repeat the prompt's messages. A prompt that is the text of one of the user's turns
    in the messages before an answer stands for all of them (UltraFeedback).
    """
    if row.get("completion") is not None and row.get("label") is None and "prompt" in row:
        fix = 'an answer without one is "chosen"'
        raise RowError(f'"completion" needs "label": true or false; {fix}')
    return _parts(row, tools)


def read_completion(row: Row, tools: ToolTurns) -> Parts:
    """As `read_standard`, of a set without labels: the completion is the chosen answer."""
    if row.get("label") is not None:
        fix = "use data.layout=unpaired, or take the column out"
        raise RowError(f'"label" beside "completion", which the first rows have not; {fix}')
    return _parts(row, tools)


def read_implicit(row: Row, tools: ToolTurns) -> Parts | Fault:
    """Two whole dialogues, as messages or as texts: the prompt is the whole turns that they share,
    and each answer the one turn after them."""
    sides = [_dialogue(row, key, tools) for key in ("chosen", "rejected")]
    if None in sides:
        return _split_at_line(*(text_of(row[key], key) for key in ("chosen", "rejected")))
    one, other = (side or () for side in sides)
    if any(not turns or turns[-1].role != "assistant" for turns in (one, other)):
        return Fault.LAST_TURN
    # two answers that are equal to the letter are a fault of their own
    prompt = one[:-1] if one == other else shared(one, other)
    if len(one) != len(prompt) + 1 or len(other) != len(prompt) + 1:
        return Fault.PROMPTS_DIFFER
    return Parts(prompt, one[-1].text, other[-1].text)


def _dialogue(row: Row, key: str, tools: ToolTurns) -> tuple[Turn, ...] | None:
    """The turns of a whole dialogue; None where it is a text without the HH format's markers."""
    if row.get(key) is None:
        text_field(dict(row), key)
    if not isinstance(row[key], str):
        return turns_of(row[key], key, tools)
    text = text_of(row[key], key)
    return split_turns("\n\n" + text) or _spoken(text) or None


_SPEAKER = re.compile(r"(?:^|\n)(?:#{2,3} ?)?(Human|User|Instruction|Assistant|Response):")


def _spoken(text: str) -> tuple[Turn, ...]:
    """The turns of a text whose lines open with speakers, the user first; else none."""
    before, *parts = _SPEAKER.split(text)
    names = parts[::2]
    if before or not names or names[0] in ("Assistant", "Response"):
        return ()
    said = zip(names, parts[1::2], strict=True)
    answers = ("Assistant", "Response")
    return tuple(Turn("assistant" if n in answers else "user", t.strip()) for n, t in said)


def _split_at_line(one: str, other: str) -> Parts:
    """Two texts without markers: the whole lines that both open with are the prompt."""
    lines = shared(one.splitlines(keepends=True), other.splitlines(keepends=True))
    prompt = "".join(lines)
    if one == other:
        prompt = one[: one.rfind("\n") + 1]
    if not prompt.strip():
        raise RowError(
            '"chosen" and "rejected" open with no whole line that is the same, so where the prompt '
            'ends is unknown; give it as "prompt", or both as messages'
        )
    answers = one[len(prompt) :].strip(), other[len(prompt) :].strip()
    return Parts((Turn("user", prompt.strip()),), answers[0], answers[1])


def read_messages(row: Row, tools: ToolTurns, column: str = "messages") -> Parts | Fault:
    """A dialogue whose last turn is the answer; or one that ends with the user's, with answers in
    columns of their own."""
    if row.get(column) is None:
        raise RowError(f'no "{column}"; add it')
    turns = turns_of(row[column], column, tools)
    given = {key: row[key] for key in ("chosen", "rejected") if row.get(key) is not None}
    if given:
        if turns and turns[-1].role == "assistant":
            other = next(iter(given))
            raise RowError(f'"{column}" ends with an answer, beside "{other}"; remove one')
        return Parts(turns, *_pair(row, tools))
    if not turns or turns[-1].role != "assistant":
        return Fault.LAST_TURN
    return Parts(turns[:-1], turns[-1].text)


def read_sharegpt(row: Row, tools: ToolTurns) -> Parts | Fault:
    """As `read_messages`, of "conversations"."""
    return read_messages(row, tools, "conversations")


def read_alpaca(row: Row, tools: ToolTurns) -> Parts:
    """The instruction, and below a blank line its input where it has one; earlier turns as
    "history", a list of [instruction, answer]."""
    asked = [text_field(dict(row), "instruction").strip()]
    if row.get("input") is not None:
        asked.append(text_field(dict(row), "input").strip())
    turns: list[Turn] = []
    history = row.get("history") or []
    pairs = history if isinstance(history, list) else [history]
    for index, pair in enumerate(pairs):
        where = f"history[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(f'"{where}" is no pair; it must be [instruction, answer]')
        said = [text_of(text, where) for text in pair]
        turns += [Turn("user", said[0]), Turn("assistant", said[1])]
    prompt = (*turns, Turn("user", "\n\n".join(text for text in asked if text)))
    if row.get("output") is not None:
        return Parts(prompt, answer_of(row["output"], "output", tools)[1])
    return Parts(prompt, *_pair(row, tools))


def _pair(row: Row, tools: ToolTurns) -> tuple[str | None, str | None]:
    """The texts of chosen and rejected, those that there are."""
    given = [key if row.get(key) is not None else "" for key in ("chosen", "rejected")]
    one, other = (answer_of(row[key], key, tools)[1] if key else None for key in given)
    return one, other


def read_question(row: Row, tools: ToolTurns) -> Parts:
    """As `read_standard`, with the prompt in "question"."""
    return read_standard({**row, "prompt": row.get("question")}, tools)


_TEXTS = ("answer", "response", "text", "completion", "output", "content")
_SCORES = ("overall_score", "score", "rating", "reward")


def value_of(entry: object) -> float | None:
    """How good a ranked answer is: minus its rank, or its score."""
    if not isinstance(entry, Mapping):
        return None
    for names, sign in ((("rank",), -1.0), (_SCORES, 1.0)):
        for name in names:
            try:
                value = sign * float(entry[name])
            except (KeyError, TypeError, ValueError):
                continue
            if not math.isnan(value):  # what pandas writes for none
                return value
    return None


def _ranked(row: Row, answers: str, prompt: str, tools: ToolTurns) -> Parts | Fault:
    """The best and the worst of several answers: the first of equal ones."""
    found = []
    for index, entry in enumerate(row.get(answers) or []):
        where = f"{answers}[{index}]"
        fields = entry if isinstance(entry, Mapping) else {}
        text = next((fields[key] for key in _TEXTS if key in fields), None)
        value = value_of(entry)
        if text is None or value is None:
            raise RowError(f'"{where}" needs an answer ({", ".join(_TEXTS)}) and its rank or score')
        found.append((value, text_of(text, where)))
    turns = prompt_of(row[prompt], prompt, tools) if row.get(prompt) is not None else ()
    if not found:
        return Fault.EMPTY
    best, worst = max(found, key=lambda one: one[0]), min(found, key=lambda one: one[0])
    return Parts(turns, best[1], worst[1]) if best[0] > worst[0] else Fault.TIED


def read_ranking(row: Row, tools: ToolTurns) -> Parts | Fault:
    """Nectar: "answers", each with a rank (1 is best) or a score."""
    return _ranked(row, "answers", "prompt", tools)


def read_ultrafeedback(row: Row, tools: ToolTurns) -> Parts | Fault:
    """UltraFeedback before it was made into pairs: "completions", each with its overall_score."""
    return _ranked(row, "completions", "instruction", tools)
