"""Token ids for a person to read: as text with control tokens marked, and one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from grao_bench.text.tokens import TextCodec

_EDGE, _AROUND = 24, 8
"""Tokens that are spelt at both ends of many; tokens before a text that are decoded with it."""


@dataclass(frozen=True)
class Shown:
    """Renders token ids of one codec. Control tokens stand in ‹ ›, so that a text which spells
    one can be told from the token."""

    codec: TextCodec
    control: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        added = self.codec.tokenizer.added_tokens_decoder.items()
        special = {token for token, one in added if one.special}
        object.__setattr__(self, "control", frozenset({*special, *self.codec.stop_tokens}))

    def name(self, token: int) -> str:
        """A control token by its name, any other as the vocabulary spells it."""
        spelt = str(self.codec.tokenizer.convert_ids_to_tokens(token))
        return f"‹{spelt}›" if token in self.control else spelt

    def text(self, before: Sequence[int], tokens: Sequence[int]) -> str:
        """What the tokens add to the text of those before them."""
        shown, context = "", list(before[-_AROUND:])
        for control, run in groupby(tokens, key=lambda token: token in self.control):
            some = list(run)
            shown += "".join(map(self.name, some)) if control else self._added(context, some)
            context = [*context, *some][-_AROUND:]
        return shown

    def ids(self, tokens: Sequence[int]) -> str:
        """Each token's id and spelling; of many those at both ends."""
        spelt = [f"{token}:{self.name(token)}" for token in tokens]
        if len(spelt) > 2 * _EDGE:
            left_out = f"... {len(spelt) - 2 * _EDGE} more ..."
            spelt = [*spelt[:_EDGE], left_out, *spelt[-_EDGE:]]
        return "  ".join(spelt)

    def end_of(self, prompt: Sequence[int]) -> str:
        """The last tokens of a prompt, one by one."""
        return self.ids(prompt[-_AROUND:])

    def _added(self, before: list[int], tokens: list[int]) -> str:
        """A blank at the beginning is shown, which a text of its own would lose."""
        known, whole = self._plain(before), self._plain([*before, *tokens])
        return whole[len(known) :] if whole.startswith(known) else self._plain(tokens)

    def _plain(self, tokens: Sequence[int]) -> str:
        tokenizer = self.codec.tokenizer
        return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


def quoted(text: str) -> str:
    """The text with a bar before each line, so that it can't be taken for the page's own, and with
    what a terminal would obey, such as escapes and marks of direction, spelled out."""
    return "\n".join(f"│ {line}" for line in _OBEYED.sub(_spelled, text).split("\n"))


_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]",
)


def _spelled(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
