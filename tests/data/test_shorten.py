"""Which turns and words are left of a dialogue that is too long, by counting words alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from grao_bench.core.types import Turn
from grao_bench.text.shorten import shortened

DIALOGUE = (
    Turn("system", "s1 s2"),
    Turn("user", "a b c"),
    Turn("assistant", "d e"),
    Turn("user", "f"),
    Turn("assistant", "g h"),
    Turn("user", "i j k"),
)
OWN_SYSTEM_TURN = 2


def starts(text: str) -> list[int]:
    return [found.start() for found in re.finditer(r"\S+", text)]


def left(turns: Sequence[Turn], limit: int) -> str | None:
    """The words that are left within `limit`, where each is one and a system turn that the format
    adds by itself is two; "-" before them says that it is gone."""

    def length(some: Sequence[Turn], bare: bool) -> int:
        own = 0 if bare or some[0].role == "system" else OWN_SYSTEM_TURN
        return own + sum(len(turn.text.split()) for turn in some)

    found = shortened(turns, lambda some, bare: length(some, bare) <= limit, starts)
    if found is None:
        return None
    some, bare = found
    return ("- " if bare else "") + "|".join(turn.text for turn in some)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (13, "s1 s2|a b c|d e|f|g h|i j k"),
        (12, "s1 s2|f|g h|i j k"),
        (8, "s1 s2|f|g h|i j k"),
        (7, "s1 s2|i j k"),
        (5, "s1 s2|i j k"),
        (4, "s1 s2|j k"),
        (3, "s1 s2|k"),
        (2, "- j k"),
        (1, "- k"),
        (0, None),
    ],
)
def test_whole_turns_go_first_then_words_then_the_system_turn(limit: int, words: str | None) -> None:
    assert left(DIALOGUE, limit) == words


@pytest.mark.parametrize(
    ("limit", "words"),
    [(8, "f|g h|i j k"), (7, "i j k"), (4, "j k"), (3, "k"), (2, "- j k"), (1, "- k"), (0, None)],
)
def test_a_system_turn_of_the_format_s_own_goes_where_it_leaves_no_room(limit: int, words: str | None) -> None:
    assert left(DIALOGUE[1:], limit) == words


def test_of_turns_running_by_one_speaker_the_older_go_first() -> None:
    turns = Turn("user", "a b"), Turn("user", "c d"), Turn("user", "e")
    assert left(turns, 5) == "c d|e"
    assert left(turns, 4) == "e"
    assert left((Turn("system", "s1 s2 s3"),), 2) == "s2 s3"
