"""The HH text format: "\\n\\nHuman: ...\\n\\nAssistant: ...", from turns and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grao_bench.core.types import Role, Turn

OPENING = "\n\nAssistant:"
"""What a prompt in HH format ends with: the answer, with its leading space, is written right after it."""
NEXT_TURN = "\n\nHuman:"
"""Where an answer in HH format is over: a base model goes on with a turn of the user's."""

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_SPELT = re.compile(r"\n{2,}(?=(?:Human|Assistant):)")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_MARKERS: dict[Role, str] = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}


def render(turns: Sequence[Turn]) -> str:
    """Turns in HH format. The format knows no system role: such a turn stands as plain text where
    it is, without a marker.

    A role marker that a text spells is text (`as_text`): there are as many markers as turns.
    """
    system = (turn.role == "system" for turn in turns)
    return "".join(
        as_text("\n\n" + turn.text) if alone else _MARKERS[turn.role] + as_text(turn.text)
        for turn, alone in zip(turns, system, strict=True)
    )


def as_text(text: str) -> str:
    """The text with one newline, not two or more, before what would else be a role marker; any
    other text as it is."""
    return _SPELT.sub("\n", text)


def split_turns(dialogue: str) -> tuple[Turn, ...]:
    """The turns of a dialogue in HH format, texts stripped; empty when the text does not open with a role marker.

    A marker is exactly "\\n\\nHuman:" or "\\n\\nAssistant:". "Humans:", or "Human:" within a line, belongs to the turn around it.
    Two turns running by one speaker stay two turns.
    """
    before, *parts = _MARKER.split(dialogue)
    if before.strip():
        return ()
    return tuple(Turn(_ROLES[name], text.strip()) for name, text in zip(parts[::2], parts[1::2], strict=True))
