"""Messages, as people write them, to turns: {"role", "content"} or {"from", "value"}."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Literal, TypeVar, get_args

from grao_bench.core.errors import UserError
from grao_bench.core.types import Role, Turn
from grao_bench.data.lines import RowError, check_text
from grao_bench.text.dialogue import OPENING, split_turns

Part = TypeVar("Part")
ToolTurns = Literal["refuse", "text"]
"""What becomes of a tool's turns and of calls to tools: a clear line, or text in the dialogue."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "ai", "chatgpt"), "assistant"),
}
_TOOLS = ("tool", "function", "ipython", "observation", "environment", "function_response")
_CALLS = ("function_call", "tool_call")


def tool_turns(name: str) -> ToolTurns:
    """A configuration's word; UserError where it is neither."""
    known: tuple[ToolTurns, ...] = get_args(ToolTurns)
    for choice in known:
        if name == choice:
            return choice
    choices = ", ".join(known)
    raise UserError(f"data.tool_turns={name}: must be one of {choices}")


def is_message(value: object) -> bool:
    """Whether a value has the keys of a message."""
    keys = value.keys() if isinstance(value, Mapping) else ()
    return {"role", "content"} <= set(keys) or {"from", "value"} <= set(keys)


def is_messages(value: object) -> bool:
    """Whether a value is a list of messages, or the JSON of one."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def spelt_out(value: object) -> object:
    """A text that is the JSON of a list of messages, or of one, as that list; any other value as
    it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if is_message(found):
        return [found]
    return found if is_messages(found) else value


def turns_of(value: object, key: str, tools: ToolTurns) -> tuple[Turn, ...]:
    """The turns of a list of messages, stripped; RowError says which message is none.

    tools="text": a tool's message is a user's turn "Tool: <content>", and an assistant's calls
    stand after its words as "Call: <JSON>"; a message without words and calls is left out.
    """
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list):
        kind = type(value).__name__
        raise RowError(f'"{key}" is {kind}; it must be a list of messages')
    turns = [_turn(message, f'"{key}"[{index}]', tools) for index, message in enumerate(value)]
    return tuple(turn for turn in turns if turn is not None)


def _turn(message: object, where: str, tools: ToolTurns) -> Turn | None:
    if not isinstance(message, Mapping) or not ("role" in message or "from" in message):
        shape = '{"role": system | user | assistant, "content": text} or {"from", "value"}'
        raise RowError(f"{where} is not a message {shape}")
    own = "role" in message
    name = message["role"] if own else message["from"]
    content = message.get("content" if own else "value")
    calls = message.get("tool_calls") or message.get("function_call")
    known = str(name).lower()
    if known in _TOOLS or known in _CALLS or calls or (content is None and "tool_calls" in message):
        return _tool_turn(known, content, calls, where, tools)
    if known not in _ROLES:
        fix = "use system, user or assistant"
        raise RowError(f"{where} is not a message by a known role ({name!r}); {fix}")
    return Turn(_ROLES[known], _content(content, f"{where}.{'content' if own else 'value'}"))


def _tool_turn(
    role: str,
    content: object,
    calls: object,
    where: str,
    tools: ToolTurns,
) -> Turn | None:
    if tools == "refuse":
        what = f"a turn of a tool ({role})" if role in _TOOLS else "a call to a tool"
        fix = "data.tool_turns=text keeps such turns as text, or take the row out"
        raise RowError(f"{where} is {what}, which no dialogue here has; {fix}")
    text = "" if content is None else _content(content, where)
    if role in _TOOLS:
        return Turn("user", f"Tool: {text}")
    if role in _CALLS:
        return Turn("assistant", f"Call: {text}")
    said = [text, f"Call: {json.dumps(calls, ensure_ascii=False, default=str)}" if calls else ""]
    whole = "\n".join(part for part in said if part)
    return Turn(_ROLES.get(role, "assistant"), whole) if whole else None


def _content(value: object, where: str) -> str:
    """A message's text: a text, or OpenAI's list of parts that are all texts."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        other = next((part for part in value if part.get("type", "text") != "text"), None)
        if other is not None:
            raise RowError(f"{where} holds a part of type {other['type']!r}; only text is read")
        value = "\n".join(str(part.get("text") or "") for part in value)
    return check_text(value, where).strip()


def prompt_of(value: object, key: str, tools: ToolTurns) -> tuple[Turn, ...]:
    """A prompt: messages that end with the user's; a text in HH format that ends where the answer
    begins; or any other text, one turn by the user. RowError where it is none of them."""
    if is_message(value):
        value = [value]
    if isinstance(value, list):
        turns = turns_of(value, key, tools)
        if not turns or turns[-1].role != "user":
            fix = 'move the answer to "chosen"'
            raise RowError(f'"{key}" does not end with a message by the user; {fix}')
        return turns
    text = text_of(value, key)
    if text.startswith("Human:") and text.endswith(OPENING):
        return split_turns("\n\n" + text)[:-1]
    return (Turn("user", text),)


def answer_of(value: object, key: str, tools: ToolTurns) -> tuple[tuple[Turn, ...], str]:
    """An answer and the turns that stand before it in the same value: a text, a message, or
    messages of which the last is the assistant's. RowError where it is none of them."""
    if is_message(value):
        value = [value]
    if not isinstance(value, list):
        return (), text_of(value, key)
    turns = turns_of(value, key, tools)
    if not turns or turns[-1].role != "assistant":
        raise no_answer(key)
    return turns[:-1], turns[-1].text


def no_answer(key: str) -> RowError:
    """That a value is no answer to its prompt."""
    where = 'alone or after the messages of "prompt"'
    return RowError(f'"{key}" must be one message by the assistant, {where}')


def text_of(value: object, key: str) -> str:
    """A text, stripped; RowError where it is none, or is what NumPy prints of messages."""
    text = check_text(value, f'"{key}"').strip()
    if text.startswith("[{'") and ("'role'" in text[:200] or "'from'" in text[:200]):
        raise RowError(f'"{key}" holds messages as NumPy prints them; write it with json.dumps')
    return text


def shared(one: Sequence[Part], other: Sequence[Part]) -> tuple[Part, ...]:
    """What two dialogues open with: whole turns (or lines), never part of one."""
    both = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return tuple(turn for turn, _ in both)
