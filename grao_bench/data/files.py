"""Any set in files: prompts alone, or with answers to them, in whatever layout people have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from grao_bench.core.interfaces import Dataset
from grao_bench.core.types import SLOTS
from grao_bench.data.columns import Columns
from grao_bench.data.folders import find_sources
from grao_bench.data.messages import tool_turns
from grao_bench.data.pairs import documents
from grao_bench.data.reading import How, Opened, ReadRow
from grao_bench.data.sets import SPLITS, Cut, Cutting, as_dataset, cut_set


@dataclass(frozen=True)
class FilesData:
    """Rows of files: JSON lines, JSON arrays, CSV, parquet, Arrow, packed or not; docs/data.md.

    train, dev, test: a file, a glob, a folder (of files, or of `datasets`' save_to_disk), or a list
    of them. A folder whose files are named for their splits gives dev and test too. layout: "auto",
    or a name of `layouts.LAYOUTS`. columns: for a set with names of its own. tool_turns: "refuse",
    or "text" for tools' turns kept as text. What no layout reads becomes the example's metadata:
    reward functions get it by its name.

    Where `test` or `dev` is null it is cut from `train` by dialogue (`splits.dialogue_keys`), so
    that no dialogue is on two sides; training rows of a dialogue that is in a dev or test file of
    its own are left out. Rows left out are counted by reason (`pairs.Fault`). An id is
    `<name>-<split's file>-<row from 0>`. `max_examples` limits each split.
    """

    revision: ClassVar[int] = 1
    provides: ClassVar[frozenset[str]] = frozenset(slot.name for slot in SLOTS)

    name: str
    train: str | list[str]
    dev: str | list[str] | None
    test: str | list[str] | None
    layout: str
    columns: Columns
    tool_turns: str
    dev_fraction: float
    test_fraction: float
    seed: int
    max_examples: int | None

    def open(self) -> dict[str, tuple[Opened, ...]]:
        """The sources of each split that has any of its own, and their layouts. UserError where a
        file is absent, of a kind or in a layout that is not known."""
        given = {split: getattr(self, split) for split in SPLITS}
        return {split: self._how.open(found) for split, found in find_sources(given).items()}

    def read(self, split: str) -> Iterator[ReadRow]:
        """Every row of a split's own files, with its place: an example, or why it is left out."""
        yield from self._how.read(self.open().get(split, ()), f"{self.name}-{split}", self.name)

    def build(self) -> Dataset:
        """Reads the files; UserError names the file and line of a row that does not fit, or the
        split that is empty."""
        opened = self.open()
        return as_dataset(self.name, self._cut(opened), opened, self._cutting)

    def corpus(self) -> list[str]:
        """The training dialogues in HH text format: see `pairs.documents`."""
        return documents(self._cut(self.open()).splits["train"])

    def siblings(self) -> tuple[FilesData, ...]:
        """Itself alone."""
        return (self,)

    def _cut(self, opened: Mapping[str, Sequence[Opened]]) -> Cut:
        return cut_set(self.name, opened, self._how, self._cutting, str(self.train))

    @property
    def _how(self) -> How:
        return How(self.layout, self.columns, tool_turns(self.tool_turns))

    @property
    def _cutting(self) -> Cutting:
        return Cutting(self.dev_fraction, self.test_fraction, self.seed, self.max_examples)
