"""Splits by content: what makes two rows one dialogue, and who stands on which side."""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from grao_bench.core.types import Example
from grao_bench.data.pairs import Fault, position


class _Plain(dict[int, str]):
    """For `str.translate`: apostrophes and what is not seen go, other punctuation is a blank."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))
        unseen = kind == "Cf" or chr(code) in "'\u2019"
        plain = "" if unseen else " " if kind[0] in "PZC" else chr(code)
        self[code] = plain
        return plain


_PLAIN = _Plain()


def normalised(text: str) -> str:
    """A text without the differences of case, blanks, punctuation and width; a text of nothing but
    punctuation keeps it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    folded = text.casefold()
    return " ".join(folded.translate(_PLAIN).split()) or " ".join(folded.split())


def dialogue_keys(examples: Sequence[Example]) -> list[str]:
    """For each example a key; equal keys are one dialogue: the same first turn by the user,
    normalised.

    A first turn that opens more than half of all examples (a greeting, a fixed instruction), or
    one of so few that no split could be made, says nothing: where different turns by the user
    follow it, the dialogues are told apart by the first that differs.
    """
    asked = [[turn.text for turn in example.prompt if turn.role == "user"] for example in examples]
    keys = [normalised(texts[0]) if texts else "" for texts in asked]
    for depth in range(1, max(map(len, asked), default=1)):
        counts = Counter(keys)
        few = len(counts) < 3
        wide = {key for key, count in counts.items() if few or 2 * count > len(keys)}
        if not wide:
            break
        following: dict[str, set[str]] = defaultdict(set)
        turns: list[str | None] = []
        for key, texts in zip(keys, asked, strict=True):
            turns.append(normalised(texts[depth]) if key in wide and len(texts) > depth else None)
            following[key] |= {turn for turn in turns[-1:] if turn is not None}
        for row, (key, turn) in enumerate(zip(list(keys), turns, strict=True)):
            if turn is not None and len(following[key]) > 1:
                keys[row] = f"{key}\n{turn}"
    return keys


def without(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    dropped: Counter[str],
    fault: Fault = Fault.HELD_OUT,
) -> list[Example]:
    """The examples of no dialogue that is held out; the others are counted in `dropped`."""
    if not held_out:
        return list(examples)
    keys = dialogue_keys([*held_out, *examples])
    out = set(keys[: len(held_out)])
    own = keys[len(held_out) :]
    kept = [example for example, key in zip(examples, own, strict=True) if key not in out]
    dropped[fault] += len(examples) - len(kept)
    return kept


def anchors(examples: Sequence[Example], text: Callable[[Example], str]) -> list[str]:
    """For each example the text whose `position` says where its dialogue falls: of its dialogue's
    texts the first in alphabetical order, so that one spelling alone falls where it always did."""
    keys = dialogue_keys(examples)
    first: dict[str, str] = {}
    texts = [text(example) for example in examples]
    for key, own in zip(keys, texts, strict=True):
        first[key] = min(own, first.get(key, own))
    return [first[key] for key in keys]


def cut(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    text: Callable[[Example], str],
    seed: int,
) -> dict[str, list[Example]]:
    """Examples by split: each share of the dialogues goes to its split, in their order, the rest to
    train. A split with a share that got none takes the dialogue next to it from train, where that
    keeps another."""
    found = anchors(examples, text)
    place = {anchor: position(anchor, seed, "split") for anchor in found}
    side: dict[str, str] = {}
    upto = 0.0
    for split, share in shares.items():
        for anchor, at in place.items():
            if upto <= at < upto + share:
                side[anchor] = split
        upto += share
    for split, share in shares.items():
        rest = sorted(place.keys() - side.keys(), key=lambda anchor: place[anchor])
        if share and split not in side.values() and len(rest) > 1:
            side[rest[0]] = split
    splits: dict[str, list[Example]] = {"train": [], **{split: [] for split in shares}}
    for example, anchor in zip(examples, found, strict=True):
        splits[side.get(anchor, "train")].append(example)
    return splits


def repeated_references(train: Iterable[Example], held_out: Iterable[Example]) -> int:
    """How many held-out examples have a reference that stands, to the letter, in training: as an
    answer, or as a turn of a prompt. Short answers are often shared by dialogues that are not."""
    said: set[str] = set()
    for example in train:
        answers = (example.chosen, example.rejected, *example.demonstrations)
        said.update(sys.intern(text) for text in answers if text)
        said.update(turn.text for turn in example.prompt if turn.role == "assistant")
    return sum(example.chosen in said for example in held_out if example.chosen)
