"""GSM8K: grade-school word problems whose answers end with "#### n" (Cobbe et al. 2021, arXiv 2110.14168), from the hub or local files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.types import Example, Turn
from grao_bench.data.folders import of_dataset
from grao_bench.data.lines import RowError, text_field
from grao_bench.data.pairs import Fault, check_fraction, documents, find_fault, limit, position
from grao_bench.data.sources import Source, open_source
from grao_bench.data.splits import anchors, without

_FINAL = re.compile(r"####\s*[-+−]?\s?\$?\s?[-−]?\.?\d")
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class GSM8KData:
    """Questions with worked solutions: `chosen` is the solution, which ends with "#### n"; there is no `rejected`.

    `path`: null for the hub's `hub_id`, configuration "main"; or a local folder with train.jsonl[.gz] and test.jsonl[.gz] (rows
    {"question", "answer"}, the upstream layout); or one such file, of which `test_fraction` of the questions become the test split.
    `dev_fraction` of the training questions go to dev. Both are cut by dialogue (`splits`), so equal questions stay together.
    Training rows whose question is in the test file are left out and counted, as are empty rows.

    calculator: the solutions' annotations <<48/2=24>> are kept or stripped. instruction: put after each question on a line of its own,
    so that a model that never saw the set knows how to end; null for none. An id is `<name>-<file>-<row from 0>`.
    """

    revision: ClassVar[int] = 1
    provides: ClassVar[frozenset[str]] = frozenset({"chosen"})

    name: str
    path: str | None
    hub_id: str
    dev_fraction: float
    test_fraction: float
    calculator: Literal["keep", "strip"]
    instruction: str | None
    seed: int
    max_examples: int | None

    def build(self) -> Dataset:
        """Reads the files; UserError names the file and line of a row that does not fit, or the split that is empty."""
        splits, dropped = self._splits()
        train, dev, test = (limit(splits[split], self.max_examples, self.seed) for split in ("train", "dev", "test"))
        return Dataset(self.name, "gsm8k", train, dev, test, {fault.value: dropped[fault] for fault in Fault})

    def corpus(self) -> list[str]:
        """The training questions and solutions in HH text format."""
        return documents(self._splits()[0]["train"])

    def siblings(self) -> tuple[GSM8KData, ...]:
        """Itself alone."""
        return (self,)

    def _splits(self) -> tuple[dict[str, list[Example]], Counter[str]]:
        check_fraction("dev_fraction", self.dev_fraction)
        check_fraction("test_fraction", self.test_fraction)
        dropped: Counter[str] = Counter(dict.fromkeys(Fault, 0))
        one = _one_file(self.path)
        splits: dict[str, list[Example]] = {"train": [], "dev": [], "test": [] if one else self._read("test", dropped)}
        every = without(self._read("train", dropped), splits["test"], dropped)
        for example, anchor in zip(every, anchors(every, _question), strict=True):
            if one and position(anchor, self.seed, "test") < self.test_fraction:
                splits["test"].append(example)
            else:
                dev = position(anchor, self.seed, "dev") < self.dev_fraction
                splits["dev" if dev else "train"].append(example)
        for split, examples in splits.items():
            if not examples:
                key = f"data.{split}_fraction" if split == "dev" or (split == "test" and one) else "the rows"
                raise UserError(f"{self.path or self.hub_id}: no rows are left for {split}; look at {key}")
        return splits, dropped

    def _read(self, split: str, dropped: Counter[str]) -> list[Example]:
        """The examples of one file; rows left out are added to `dropped`."""
        source = _on_hub(self.hub_id, split) if self.path is None else _in_files(Path(self.path).expanduser(), split)
        examples = []
        for number, (place, row) in enumerate(source.rows()):
            try:
                question, answer = self._texts(row)
            except RowError as error:
                raise UserError(f"{source.place(place)}: {error}") from None
            prompt = (Turn("user", question if not self.instruction else f"{question}\n{self.instruction}"),)
            fault = Fault.NO_PROMPT if not question else find_fault(prompt, answer, None)
            if fault:
                dropped[fault] += 1
            else:
                examples.append(Example(f"{self.name}-{split}-{number:05d}", prompt, answer, None, "gsm8k"))
        return examples

    def _texts(self, row: dict[str, Any]) -> tuple[str, str]:
        question, answer = text_field(row, "question").strip(), text_field(row, "answer").strip()
        if answer and not _FINAL.search(answer):
            raise RowError('"answer" holds no "#### number"; end it with one, or use data=jsonl with prompt and chosen')
        return question, _CALCULATOR.sub("", answer) if self.calculator == "strip" else answer


def _question(example: Example) -> str:
    return example.prompt[0].text


def _one_file(path: str | None) -> bool:
    return path is not None and path.endswith(_SUFFIXES)


def _in_files(path: Path, split: str) -> Source:
    if path.name.endswith(_SUFFIXES):
        return open_source(path)
    file = next((file for suffix in _SUFFIXES if (file := path / f"{split}{suffix}").is_file()), None)
    if file is None:
        raise UserError(
            f"{path / split}.jsonl[.gz]: no such file; data.path must name a folder with train.jsonl and test.jsonl, one .jsonl file, "
            "or be null for the hub"
        )
    return open_source(file)


def _on_hub(hub_id: str, split: str) -> Source:
    from datasets import load_dataset  # heavy, and not needed for local files

    try:
        rows = load_dataset(hub_id, "main", split=split)
    except Exception as error:  # the library raises a dozen kinds: no network, no such set, no such split, a broken cache
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"data.hub_id={hub_id}: {split} could not be loaded ({reason}); for a local copy set data.path") from None
    return of_dataset(rows, f"{hub_id} {split}")
