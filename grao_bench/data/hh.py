"""HH-RLHF: Anthropic's human preferences over two answers (Bai et al. 2022, arXiv 2204.05862), from the hub or from a local folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.types import Example, Turn
from grao_bench.data.folders import of_dataset
from grao_bench.data.lines import RowError, text_field
from grao_bench.data.pairs import Fault, check_fraction, documents, find_fault, limit, position
from grao_bench.data.sources import Source, open_source
from grao_bench.data.splits import anchors, without
from grao_bench.text.dialogue import split_turns

SUBSETS = ("helpful", "harmless")
Pair = tuple[tuple[Turn, ...], str, str]

FOLDER_VARIABLE = "GRAO_BENCH_HH"
"""The environment variable that names the local folder where `data.path` is null."""


@dataclass(frozen=True)
class HHData:
    """helpful-base or harmless-base, its test file as test, its train file split into train and dev by dialogue (`splits`).

    `path` is a local folder in the upstream layout, `<subset>-base/{train,test}.jsonl[.gz]`; null takes the environment variable
    GRAO_BENCH_HH, and without that the hub's `hub_id` with data_dir `<subset>-base`. `dev_fraction` of the first turns (so about
    that share of rows) goes to dev. `max_examples` limits each of train, dev and test; null keeps all. It does not touch the corpus.

    Each dialogue is split at its role markers. The prompt is everything before the last turn, with all its turns; the answers are
    the two sides' last turns. Two turns running by one speaker are kept as two turns within a prompt, for that is what the raters
    saw. Where they stand at the end of one side the prompts differ, and the row goes.
    Left out and counted by reason (`pairs.Fault`): last turn not the Assistant's, prompts differ, no prompt, empty answer,
    identical answers, and training rows of a dialogue that is in the test file. Rows with equal prompts stay separate examples;
    an id is `<subset>-base-<file>-<row from 0>`.
    """

    revision: ClassVar[int] = 1
    provides: ClassVar[frozenset[str]] = frozenset({"chosen", "rejected"})

    name: str
    subset: str
    path: str | None
    hub_id: str
    dev_fraction: float
    seed: int
    max_examples: int | None

    def build(self) -> Dataset:
        """Reads the two files; UserError when one is absent, malformed (with file:line) or leaves a split empty."""
        if self.subset not in SUBSETS:
            raise UserError(f"data.subset={self.subset}: must be one of {', '.join(SUBSETS)}")
        check_fraction("dev_fraction", self.dev_fraction)
        dropped: Counter[str] = Counter(dict.fromkeys(Fault, 0))
        test = self._read("test", dropped)
        development = without(self._read("train", dropped), test, dropped)
        train, dev = self._cut(development)
        if not train or not dev:
            empty = "dev" if train else "train"
            raise UserError(f"{self._where()}: no rows are left for {empty}; data.dev_fraction={self.dev_fraction} does not fit the file")
        return Dataset(
            name=self.name,
            subset=self.subset,
            train=limit(train, self.max_examples, self.seed),
            dev=limit(dev, self.max_examples, self.seed),
            test=limit(test, self.max_examples, self.seed),
            dropped={fault.value: dropped[fault] for fault in Fault},
        )

    def corpus(self) -> list[str]:
        """The training dialogues of helpful-base and of harmless-base, so that one base serves both sets.

        Both sides of each pair are in it, as two documents: a base that had read the chosen side alone would already be an SFT
        model. A dialogue whose first turn is in dev or test of either subset is left out.
        """
        sets = [replace(sibling, max_examples=None).build() for sibling in self.siblings()]
        held_out = [example for each in sets for example in each.dev + each.test]
        train = [example for each in sets for example in each.train]
        return documents(without(train, held_out, Counter()))

    def siblings(self) -> tuple[HHData, ...]:
        """The helpful and the harmless set, in this order; the one that is not `self` is named hh_<subset>."""
        return tuple(self if subset == self.subset else replace(self, name=f"hh_{subset}", subset=subset) for subset in SUBSETS)

    def _cut(self, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
        """(train, dev) of a file, by dialogue."""
        sides: tuple[list[Example], list[Example]] = ([], [])
        for example, anchor in zip(examples, anchors(examples, _first_turn), strict=True):
            sides[position(anchor, self.seed, "dev") < self.dev_fraction].append(example)
        return sides

    def _folder(self) -> Path | None:
        folder = self.path or os.environ.get(FOLDER_VARIABLE)
        return Path(folder).expanduser() if folder else None

    def _where(self) -> str:
        return f"{self._folder() or self.hub_id}/{self.subset}-base"

    def _read(self, split: str, dropped: Counter[str]) -> list[Example]:
        """The examples of one upstream file; rows left out are added to `dropped`."""
        folder, data_dir = self._folder(), f"{self.subset}-base"
        source = _on_hub(self.hub_id, data_dir, split) if folder is None else _in_folder(folder, data_dir, split)
        examples, number = [], -1
        for number, (place, row) in enumerate(source.rows()):
            try:
                pair = read_pair(text_field(row, "chosen"), text_field(row, "rejected"))
            except RowError as error:
                raise UserError(f"{source.place(place)}: {error}") from None
            if isinstance(pair, Fault):
                dropped[pair] += 1
            else:
                prompt, chosen, rejected = pair
                examples.append(Example(f"{data_dir}-{split}-{number:05d}", prompt, chosen, rejected, self.subset))
        if not examples:
            raise UserError(f"{self._where()}/{split}: none of the {number + 1} rows is usable; rows must be dialogues in HH format")
        return examples


def read_pair(chosen: str, rejected: str) -> Pair | Fault:
    """The prompt (all turns before the last) and the two answers of a row's dialogues, or why the row is of no use.

    Splitting at the markers, not at the end of the common prefix, keeps an opening that both answers share in the answers.
    """
    one, other = split_turns(chosen), split_turns(rejected)
    if any(not turns or turns[-1].role != "assistant" for turns in (one, other)):
        return Fault.LAST_TURN
    if one[:-1] != other[:-1]:
        return Fault.PROMPTS_DIFFER
    prompt, answers = one[:-1], (one[-1].text, other[-1].text)
    return find_fault(prompt, *answers) or (prompt, *answers)


def _first_turn(example: Example) -> str:
    return example.prompt[0].text


def _in_folder(folder: Path, data_dir: str, split: str) -> Source:
    base = folder / data_dir / f"{split}.jsonl"
    path = next((path for path in (base, base.with_name(base.name + ".gz")) if path.is_file()), None)
    if path is None:
        raise UserError(
            f"{base}[.gz]: no such file; data.path (or the environment variable {FOLDER_VARIABLE}) must name a folder that holds "
            "helpful-base/ and harmless-base/, each with train.jsonl[.gz] and test.jsonl[.gz]"
        )
    return open_source(path)


def _on_hub(hub_id: str, data_dir: str, split: str) -> Source:
    from datasets import load_dataset  # heavy, and not needed for a local folder

    try:
        rows = load_dataset(hub_id, data_dir=data_dir, split=split)
    except Exception as error:  # the library raises a dozen kinds: no network, no such set, no such split, a broken cache
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"data.hub_id={hub_id}: {data_dir}/{split} could not be loaded ({reason}); "
            f"for a local copy set data.path=<folder> or the environment variable {FOLDER_VARIABLE}"
        ) from None
    return of_dataset(rows, f"{hub_id} {data_dir}/{split}")
