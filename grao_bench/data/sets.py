"""From the sources of each split to a `Dataset`: what own files and the hub's sets share."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.types import Example
from grao_bench.data.pairs import Fault, check_fraction, limit
from grao_bench.data.reading import How, Opened, examples_of
from grao_bench.data.splits import cut, repeated_references, without
from grao_bench.text.dialogue import render

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Cutting:
    """How a set is cut: the shares of training dialogues that go to dev and test where these have
    no rows of their own, the seed of the cut, and the most examples of each split."""

    dev_fraction: float
    test_fraction: float
    seed: int
    max_examples: int | None

    def shares(self, own: Mapping[str, object]) -> dict[str, float]:
        """Of test and dev those that are cut from train, and how much of it."""
        asked = {"test": self.test_fraction, "dev": self.dev_fraction}
        shares = {split: share for split, share in asked.items() if split not in own}
        for split, share in shares.items():
            check_fraction(f"{split}_fraction", share)
        if len(shares) == 2:
            check_fraction("dev_fraction + data.test_fraction", sum(shares.values()))
        return shares


@dataclass(frozen=True)
class Cut:
    """A set's examples by split, and how many rows were left out, by reason."""

    splits: Mapping[str, list[Example]]
    dropped: Counter[str]


def cut_set(
    name: str,
    opened: Mapping[str, Sequence[Opened]],
    how: How,
    cutting: Cutting,
    where: str,
) -> Cut:
    """Read every split's sources, and cut what has none of its own from train. UserError names the
    place of a row that does not fit, or the split that is empty."""
    shares = cutting.shares(opened)
    dropped: Counter[str] = Counter(dict.fromkeys(Fault, 0))
    read: dict[str, list[Example]] = {}
    with uncollected():
        for split, sources in opened.items():
            rows = how.read(sources, f"{name}-{split}", name)
            read[split] = examples_of(rows, f"{split} in {where}", dropped)
    test = read.get("test", [])
    dev = without(read.get("dev", []), test, dropped, Fault.DEV_IN_TEST)
    train = without(read["train"], [*dev, *test], dropped)
    parts = cut(train, shares, lambda example: render(example.prompt), cutting.seed)
    splits = {"dev": dev, "test": test} | parts
    for split in SPLITS:
        if not splits[split]:
            fix = _fix(split, len(train), len(read["train"]), shares)
            raise UserError(f"{where}: no rows are left for {split}; {fix}")
    return Cut(splits, dropped)


def tell(dataset: Dataset) -> None:
    """Log how a set was read; the commands print it, once."""
    for note in dataset.notes:
        logging.getLogger(__name__).info(note)


def _readings(opened: Sequence[Opened]) -> list[str]:
    """How the sources are read, a line for those of one kind and layout."""
    alike: dict[str, list[str]] = {}
    for one in opened:
        said = f"{one.source.kind}, read as {one.layout.name}: {one.layout.about}"
        alike.setdefault(said, []).append(one.source.name)
    more = {said: f" and {len(names) - 1} more" for said, names in alike.items() if names[1:]}
    return [f"{names[0]}{more.get(said, '')}: {said}" for said, names in alike.items()]


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection within: of a million small objects that all stay, each collection
    looks at all."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _fix(split: str, rows: int, read: int, shares: Mapping[str, float]) -> str:
    """What to do about an empty split: `rows` of the `read` training rows were left to cut."""
    if split == "train" and read > rows == 0:
        return f"the dialogues of its {read} rows are all in dev or test; give other rows"
    if split not in shares and not (split == "train" and rows):
        return "add rows"
    if split == "train":
        given = " and ".join(f"data.{one}" for one in shares)
        return f"its {rows} rows are too few dialogues to cut; add rows or give {given}"
    if shares[split]:
        return f"its {rows} rows are too few dialogues to cut; add rows or give data.{split}"
    return f"raise data.{split}_fraction, add rows or give data.{split}"


def as_dataset(
    name: str,
    found: Cut,
    opened: Mapping[str, Sequence[Opened]],
    cutting: Cutting,
) -> Dataset:
    """The set, each split limited, with a note on the layouts and on references that training
    repeats."""
    most, seed = cutting.max_examples, cutting.seed
    kept = {split: limit(found.splits[split], most, seed) for split in SPLITS}
    held_out = (*kept["dev"], *kept["test"])
    notes = _readings([one for sources in opened.values() for one in sources])
    repeated = repeated_references(kept["train"], held_out)
    if repeated:
        notes.append(f"{repeated} of {len(held_out)} dev and test references stand in training too")
    dropped = {fault.value: found.dropped[fault] for fault in Fault}
    return Dataset(name, name, kept["train"], kept["dev"], kept["test"], dropped, tuple(notes))
