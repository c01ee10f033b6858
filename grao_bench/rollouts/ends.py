"""Where an answer ends: at a token that ends it, or before a text that begins what follows it."""

from __future__ import annotations

from collections.abc import Sequence

from grao_bench.interfaces import Codec

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

    def kept(self, ids: Sequence[int]) -> int | None:
        """Of an answer whose last id completes a stop string, the first in it: how many ids stand
        before that, the most whose text ends there or earlier. None where it completes none.

        A token, or a character of several tokens, that lies across the border is left out.
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
        before = whole[: min(start for start in starts if start >= 0)]
        prefixes = range(len(ids) - 1, 0, -1)
        return next((m for m in prefixes if before.startswith(self.codec.decoded(ids[:m]))), 0)


def ended(
    ids: Sequence[int],
    codec: Codec,
    stops: StopStrings,
) -> tuple[tuple[int, ...], str, bool]:
    """(tokens, text, finished) of an answer from what was sampled, as far as it went: up to and
    with the first token that ends it, before the first stop string, or all of it, unfinished.

    Where the stop string comes first of all, the first id stays beside the empty text: every
    answer has a token to train on, here the one that left nothing to be said.
    """
    for t, token in enumerate(ids):
        if token in codec.stop_tokens:
            return _answer(ids, t + 1, codec, finished=True)
        if stops and stops.may_complete(token):
            kept = stops.kept(ids[: t + 1])
            if kept is not None:
                return _answer(ids, kept, codec, finished=True)
    return _answer(ids, len(ids), codec, finished=False)


def _answer(
    ids: Sequence[int],
    count: int,
    codec: Codec,
    finished: bool,
) -> tuple[tuple[int, ...], str, bool]:
    return tuple(ids[: max(1, count)]), codec.text(ids[:count]), finished
