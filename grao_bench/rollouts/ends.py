"""Where an answer ends: at a token that ends it, or before a text that begins what follows it."""

from __future__ import annotations

from collections.abc import Sequence

from grao_bench.core.interfaces import Codec

CONTEXT = 8
"""Tokens before a stop string that are decoded with it: what a decoder does to the first tokens of
a text (half a character, a blank left out) is over by then."""


class StopStrings:
    """Finds stop strings in answers as they grow, in the text of their ids with control tokens
    spelled out. A stop string may begin and end within tokens.

    Only a token that can complete one is looked at, and of the answer before it as many tokens as
    a stop string has bytes, and CONTEXT.
    """

    def __init__(self, codec: Codec, strings: Sequence[str]) -> None:
        self.codec, self.strings = codec, tuple(strings)
        self._last = {string[-1] for string in self.strings}
        # a blank at the beginning of a text may be left out: alone, a token doesn't tell of it
        self._any = any(each.isspace() for each in self._last)
        self._window = max((len(each.encode()) for each in self.strings), default=0) + CONTEXT
        self._known: dict[int, bool] = {}

    def __bool__(self) -> bool:
        return bool(self.strings)

    def may_complete(self, token: int) -> bool:
        """Whether a stop string can end with this token: False is certain."""
        if token not in self._known:
            text = self.codec.decoded((token,))
            found = self._any or "\ufffd" in text or not self._last.isdisjoint(text)
            self._known[token] = found
        return self._known[token]

    def before(self, ids: Sequence[int]) -> tuple[int, str] | None:
        """Of an answer whose last id completes a stop string: what stands before the first in it,
        as how many ids and as a text. None where it completes none.

        The ids are the most whose text ends there or earlier: a token that lies across the border
        (".\\n\\n" before "Human:") is left out of them, and its part of the answer is in the text.
        """
        if not ids or not self.may_complete(ids[-1]):
            return None
        window = self.codec.decoded(ids[-self._window :])
        if not any(string in window for string in self.strings):
            return None
        whole = self.codec.decoded(ids)
        starts = [whole.find(string) for string in self.strings]
        if max(starts) < 0:
            return None
        text = whole[: min(start for start in starts if start >= 0)]
        prefixes = range(len(ids) - 1, 0, -1)
        fitting = (m for m in prefixes if text.startswith(self.codec.decoded(ids[:m])))
        return next(fitting, 0), text.strip()


def ended(
    ids: Sequence[int],
    codec: Codec,
    stops: StopStrings,
) -> tuple[tuple[int, ...], str, bool]:
    """(tokens, text, finished) of an answer from what was sampled, as far as it went: up to and
    with the first token that ends it, before the first stop string, or all of it, unfinished.

    Where no id stands before the stop string the first stays, beside a text that is empty or a part
    of it: every answer has a token to train on.
    """
    for t, token in enumerate(ids):
        if token in codec.stop_tokens:
            return tuple(ids[: t + 1]), codec.text(ids[: t + 1]), True
        if stops and stops.may_complete(token):
            before = stops.before(ids[: t + 1])
            if before is not None:
                return tuple(ids[: max(1, before[0])]), before[1], True
    return tuple(ids), codec.text(ids), False
