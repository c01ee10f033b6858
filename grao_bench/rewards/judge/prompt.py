"""A judge's prompt: a frame that the judged texts can't leave.

Every line of a judged text begins with "| " and no line of the frame does, so that no text can open or close a part of the frame; what
looks like one of the frame's labels, or like a chat format's own token, is broken up besides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from grao_bench.core.errors import UserError
from grao_bench.core.types import Role, Turn

Orders = Literal["both", "model_first", "reference_first"]
Order = Literal["model_first", "reference_first"]

VERDICTS = ("1 > 2", "1 = 2", "1 < 2")
"""What a judge may say: Text 1 is better, neither, Text 2."""
QUOTE = "| "
PLACES = ("context", "text_1", "text_2")
_PLACE = re.compile(r"\{(\w+)\}")
_ROLES: dict[Role, str] = {"system": "System", "user": "User", "assistant": "Assistant"}
_BRACKETS = "[［【〔"


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt file. `text` holds {context}, {text_1} and {text_2} once each, on lines of their own, and the three verdict strings."""

    name: str
    text: str

    def render(self, turns: Sequence[Turn], text_1: str, text_2: str) -> str:
        """The prompt for one pair. A placeholder spelt out in a text stays text."""
        filled = {
            "context": "\n".join(f"{_ROLES[turn.role]}:\n{self.quote(turn.text)}" for turn in turns),
            "text_1": self.quote(text_1),
            "text_2": self.quote(text_2),
        }
        return _PLACE.sub(lambda place: filled.get(place[1], place[0]), self.text)

    def ask(self, turns: Sequence[Turn], answer: str, reference: str, order: Order) -> str:
        """The prompt with the policy's answer and the reference in this order."""
        return self.render(turns, answer, reference) if order == "model_first" else self.render(turns, reference, answer)

    def quote(self, text: str) -> str:
        """A judged text, each of its lines behind the quote mark. Equal quotes mean equal texts, line ends aside."""
        # split at whatever a reader may take for a line end
        return "\n".join(QUOTE + self._broken_up(line) for line in text.splitlines() or [""])

    def _broken_up(self, line: str) -> str:
        # "<|im_start|>", "<｜User｜>": a server may read a format's own token where a text spells it out
        line = re.sub(r"<(\\*[|｜])", r"<\\\1", line)
        return self._labels.sub(r"\\\1", line) if self._labels is not None else line

    @cached_property
    def _labels(self) -> re.Pattern[str] | None:
        """The frame's own labels, the lines in brackets, however they are spaced, cased and bracketed; backslashes before are kept."""
        labels = re.findall(r"^\[([^\]\n]+)\]\s*$", self.text, re.MULTILINE)
        words = ["".join(rf"\s*{re.escape(letter)}" for letter in label if not letter.isspace()) for label in labels]
        return re.compile(rf"(\\*[{re.escape(_BRACKETS)}](?={'|'.join(words)}))", re.IGNORECASE) if words else None


def load_prompt(name: str) -> JudgePrompt:
    """`helpful` or `harmless`, or a file of your own. UserError where the file is absent or breaks the contract."""
    own = Path(__file__).parent / "prompts" / f"{name}.md"
    path = own if re.fullmatch(r"\w+", name) and own.exists() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(file.stem for file in own.parent.glob("*.md")))
        raise UserError(f"reward.prompt={name}: can't be read ({error}); give {known}, or a text file of your own") from None
    for place in PLACES:
        alone = [line for line in text.splitlines() if line == f"{{{place}}}"]
        if len(alone) != 1 or text.count(f"{{{place}}}") != 1:
            raise UserError(f"{path}: {{{place}}} must stand in it once, on a line of its own")
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(QUOTE.strip()):
            raise UserError(f"{path}:{number}: begins with {QUOTE.strip()!r}, which marks the judged texts' lines; begin it otherwise")
    missing = [verdict for verdict in VERDICTS if verdict not in text]
    if missing:
        raise UserError(f"{path}: must ask for exactly one of {', '.join(VERDICTS)}; {missing[0]!r} is not in it")
    return JudgePrompt(path.stem, text)


def prompt_digest(name: str) -> dict[str, str]:
    """Of a prompt's text, by its name."""
    return {name: hashlib.sha256(load_prompt(name).text.encode()).hexdigest()[:16]}


def orders_asked(orders: Orders) -> tuple[Order, ...]:
    """`both` is the two orders."""
    return ("model_first", "reference_first") if orders == "both" else (orders,)
