"""What a chat template writes around the texts of a dialogue, found by rendering it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError

# of no letters, which a template may rewrite
_SYSTEM, _USER, _ASSISTANT, _NEXT = (f"\u2402{number}\u2403" for number in range(4))
REFUSALS = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)
"""What a template raises, by itself or through the objects that it handles."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The texts that a chat template puts around a dialogue's own; empty where they can't be told.

    begin: the begin token, where it opens the whole. default: a system turn that the template adds
    to a dialogue without one. opening: in front of a user's text. closing: after an assistant's
    text, last turn or not; between: after it and up to the next user's. cue: what an answer is
    written after, but for what closes a user's turn anyway. lead: blanks that the history has
    between the cue and an assistant's text. alone: all that stands around the text of a dialogue of
    one turn.
    """

    begin: str = ""
    default: str = ""
    opening: str = ""
    closing: str = ""
    between: str = ""
    cue: str = ""
    lead: str = ""
    alone: str = ""


def rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], cue: bool) -> str:
    """A dialogue in the tokenizer's chat template, `cue` with what an answer is written after;
    raises REFUSALS."""
    messages = list(messages)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=cue, tokenize=False))


def read_frame(tokenizer: Any) -> Frame:
    """The frame of the tokenizer's chat template; an empty one where the template refuses a
    dialogue of three turns, with a system turn and without."""
    asked = {"role": "user", "content": _USER}
    said = {"role": "assistant", "content": _ASSISTANT}
    further = {"role": "user", "content": _NEXT}
    for before in ([], [{"role": "system", "content": _SYSTEM}]):
        try:
            history = rendered(tokenizer, [*before, asked, said, further], False)
            final = rendered(tokenizer, [*before, asked, said], False)
            lone = rendered(tokenizer, [*before, asked], False)
            cued = rendered(tokenizer, [*before, asked], True)
            return _frame(history, final, lone, cued, str(tokenizer.bos_token or ""))
        except REFUSALS:
            continue
    return Frame()


def _frame(history: str, final: str, lone: str, cued: str, bos: str) -> Frame:
    """ValueError where a text is not found, once, in what was rendered of it."""
    (head, ended), (_, asking) = (text.split(_USER) for text in (lone, cued))
    middle, after = history.split(_USER)[1].split(_ASSISTANT)
    between = after.split(_NEXT)[0]
    closing = _shared(between, final.split(_ASSISTANT)[1])
    opening = between[len(closing) :]
    begin = bos if bos and head.startswith(bos) and not opening.startswith(bos) else ""
    default = head[len(begin) : len(head) - len(opening)] if head.endswith(opening) else ""
    lead = middle.removeprefix(asking) if middle.startswith(asking) else ""
    return Frame(
        begin=begin,
        default=default,
        opening=opening,
        closing=closing,
        between=between,
        cue=asking.removeprefix(ended) or asking,
        lead="" if lead.strip() else lead,
        alone=head + ended,
    )


def _shared(one: str, other: str) -> str:
    """The longest text with which both begin."""
    pairs = zip(one, other, strict=False)
    return one[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]


def end_of_turn(frame: Frame, tokens: Mapping[str, int]) -> int | None:
    """Which of the tokens (text -> id) closes an assistant's turn in the history, blanks before it
    or not; None where none does.

    Where the last turn is left open, what follows an assistant's text is its end only if no user's
    turn opens with it.
    """
    for text, opens in ((frame.closing, ""), (frame.between, frame.alone)):
        found = first_token(text.lstrip(), tokens)
        if found is not None and text.lstrip().startswith(found) and found not in opens:
            return tokens[found]
    return None


def first_token(text: str, tokens: Mapping[str, int]) -> str | None:
    """The token that the text spells first, the longest of those that begin there."""
    places = [(text.index(token), -len(token), token) for token in tokens if token in text]
    return min(places)[2] if places else None


def marks_of(tokenizer: Any) -> dict[str, int]:
    """The added tokens that may be a format's, by text: not blanks, and not words of a text."""
    return {
        one.content: token
        for token, one in tokenizer.added_tokens_decoder.items()
        if one.special or (len(one.content) > 2 and not re.fullmatch(r"[\w\s]*", one.content))
    }


def control_tokens(tokenizer: Any, frame: Frame, ends: Sequence[int]) -> set[int]:
    """The tokens that no text may spell: the special ones, those that end an answer, and those that
    the template sets around a user's text and in front of an answer, special or not. "<think>" in
    an answer is none of them."""
    special = {token for token, one in tokenizer.added_tokens_decoder.items() if one.special}
    marks = marks_of(tokenizer)
    cue = first_token(frame.cue, marks)
    around = {token for text, token in marks.items() if text in frame.alone or text == cue}
    return special | around | {*ends}


def role_markers(frame: Frame, tokens: Mapping[str, int]) -> re.Pattern[str] | None:
    """Role markers of a chat template that are plain text, such as "[/INST]": what opens a turn
    without a control token. None where there is no such marker."""
    opens = [text.strip(" ").rstrip() for text in (frame.opening, frame.cue)]
    plain = [text for text in opens if len(text.strip()) > 1 and first_token(text, tokens) is None]
    return re.compile("|".join(map(re.escape, plain))) if plain else None
