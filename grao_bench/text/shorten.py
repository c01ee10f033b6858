"""A dialogue that is too long, shortened as people would: whole turns first, then words."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile

from grao_bench.core.types import Turn

Fits = Callable[[Sequence[Turn], bool], bool]
"""(turns, whether without a system turn that the format adds by itself) -> whether they fit."""
Starts = Callable[[str], Sequence[int]]
"""Where a text may be cut: the characters at which its tokens begin, in order."""


def shortened(
    turns: Sequence[Turn],
    fits: Fits,
    starts: Starts,
) -> tuple[tuple[Turn, ...], bool] | None:
    """The turns that are left, and whether they stand without the format's own system turn.

    Oldest turns go first, whole, so that a user's is the first one left; then words of the last
    turn, from its left. The system turn stays, unless it leaves no room for a word of the last
    turn: then it goes, whole. None where even so nothing fits.
    """
    system = tuple(takewhile(lambda turn: turn.role == "system", turns[:-1]))
    spoken = tuple(turns[len(system) :])
    last = spoken[-1]
    tails = [i for i, turn in enumerate(spoken) if turn.role == "user" or i == len(spoken) - 1]
    cuts = [start for start in starts(last.text) if last.text[start:].strip()]

    def tail(place: int) -> tuple[Turn, ...]:
        return spoken[place:]

    def cut(start: int) -> tuple[Turn, ...]:
        return (replace(last, text=last.text[start:].lstrip()),)

    for head, bare, places, left in (
        (system, False, tails, tail),
        (system, False, cuts, cut),
        ((), True, tails, tail),
        ((), True, cuts, cut),
    ):
        first = bisect_left(
            places,
            True,
            key=lambda place: fits((*head, *left(place)), bare),
        )
        if first < len(places):
            return (*head, *left(places[first])), bare
    return None


def words(text: str) -> list[int]:
    """`Starts` where nothing is known of tokens: at each word."""
    return [found.start() for found in re.finditer(r"\S+", text)]
