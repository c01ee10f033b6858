"""Splits by content: what makes two rows one dialogue, and who stands on which side."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from grao_bench.data.pairs import Fault, position
from grao_bench.types import Example


def dialogue_keys(examples: Sequence[Example]) -> list[str]:
    """For each example a key; equal keys are one dialogue: the same first turn."""
    return [example.prompt[0].text for example in examples]


def without(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    dropped: Counter[str],
    fault: Fault = Fault.HELD_OUT,
) -> list[Example]:
    """The examples of no dialogue that is held out; the others are counted in `dropped`."""
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
