"""What the sets read from files share: why a row is left out, where a text falls when a set is split, and
how many rows are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.text.dialogue import render


class Fault(StrEnum):
    """Why a row is left out. A row with several faults is counted under the first, in this order."""

    LAST_TURN = "last turn not the Assistant's"
    PROMPTS_DIFFER = "prompts differ"
    NO_PROMPT = "no prompt"
    EMPTY = "empty answer"
    IDENTICAL = "identical answers"
    TIED = "no answer better than another"
    HELD_OUT = "training row with a held-out prompt"
    DEV_IN_TEST = "dev row with a test prompt"


def find_fault(
    prompt: Sequence[Turn],
    chosen: str | None,
    rejected: str | None,
    demonstrations: Sequence[str] = (),
) -> Fault | None:
    """What is wrong with a prompt and the answers that it has, or None; texts are stripped.

    A prompt must hold some text and end with the user's turn: an answer to the Assistant's own words is not an answer.
    """
    if not prompt or prompt[-1].role != "user" or not any(turn.text for turn in prompt):
        return Fault.NO_PROMPT
    if "" in (chosen, rejected, *demonstrations):
        return Fault.EMPTY
    return Fault.IDENTICAL if chosen is not None and chosen == rejected else None


def position(text: str, seed: int, salt: str) -> float:
    """A number in [0, 1) that depends on the text, the seed and the salt alone: where the text falls when a set is split."""
    digest = hashlib.sha256(f"{salt}\n{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def check_fraction(name: str, value: float) -> None:
    """UserError unless 0 <= value < 1."""
    if not 0 <= value < 1:
        raise UserError(f"data.{name}={value}: must be at least 0 and below 1")


def limit(examples: Sequence[Example], count: int | None, seed: int) -> tuple[Example, ...]:
    """At most `count` examples, chosen by the hash of their ids, in their old order; None keeps all."""
    if count is None or count >= len(examples):
        return tuple(examples)
    if count < 1:
        raise UserError(f"data.max_examples={count}: must be at least 1, or null for all")
    kept = {example.id for example in sorted(examples, key=lambda example: position(example.id, seed, "limit"))[:count]}
    return tuple(example for example in examples if example.id in kept)


def documents(examples: Iterable[Example]) -> list[str]:
    """The dialogues in HH text format, one document for each answer that there is: chosen,
    rejected, demonstrations; of a prompt without answers the prompt."""
    found = []
    for example in examples:
        answers = (example.chosen, example.rejected, *example.demonstrations)
        known = [answer for answer in answers if answer is not None]
        found += [render((*example.prompt, Turn("assistant", answer))) for answer in known]
        if not known:
            found.append(render(example.prompt))
    return found
