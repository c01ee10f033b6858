"""Any set on the hub, or a folder laid out as one, in whatever layout people have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from grao_bench.core.interfaces import Dataset
from grao_bench.core.types import SLOTS
from grao_bench.data.columns import Columns
from grao_bench.data.folders import load_from_hub
from grao_bench.data.messages import tool_turns
from grao_bench.data.pairs import documents
from grao_bench.data.reading import How, Opened, ReadRow
from grao_bench.data.sets import Cut, Cutting, as_dataset, cut_set


@dataclass(frozen=True)
class HubData:
    """A set by its id, loaded with `datasets`: configuration, splits and revision as on its page.

    split: what is trained on. dev_split, test_split: null where they are cut from it. What comes
    from the network is kept in the library's cache; HF_HUB_OFFLINE=1 reads that alone. All other
    fields as `files.FilesData` has them. An id is `<name>-<train, dev or test>-<row from 0>`.
    """

    code_revision: ClassVar[int] = 1
    provides: ClassVar[frozenset[str]] = frozenset(slot.name for slot in SLOTS)

    name: str
    id: str
    config: str | None
    split: str
    dev_split: str | None
    test_split: str | None
    revision: str | None
    layout: str
    columns: Columns
    tool_turns: str
    dev_fraction: float
    test_fraction: float
    seed: int
    max_examples: int | None

    def open(self) -> dict[str, tuple[Opened, ...]]:
        """The sources of each split that has one of its own, and their layouts. UserError where the
        set can't be loaded, or is in no known layout."""
        given = {"train": self.split, "dev": self.dev_split, "test": self.test_split}
        return {
            split: self._how.open([load_from_hub(self.id, self.config, name, self.revision)])
            for split, name in given.items()
            if name is not None
        }

    def read(self, split: str) -> Iterator[ReadRow]:
        """Every row of a split's own source, with its place: an example, or why it is left out."""
        yield from self._how.read(self.open().get(split, ()), f"{self.name}-{split}", self.name)

    def build(self) -> Dataset:
        """Loads the splits; UserError names the row that does not fit, or the split that is
        empty."""
        opened = self.open()
        return as_dataset(self.name, self._cut(opened), opened, self._cutting)

    def corpus(self) -> list[str]:
        """The training dialogues in HH text format: see `pairs.documents`."""
        return documents(self._cut(self.open()).splits["train"])

    def siblings(self) -> tuple[HubData, ...]:
        """Itself alone."""
        return (self,)

    def _cut(self, opened: Mapping[str, Sequence[Opened]]) -> Cut:
        return cut_set(self.name, opened, self._how, self._cutting, self.id)

    @property
    def _how(self) -> How:
        return How(self.layout, self.columns, tool_turns(self.tool_turns))

    @property
    def _cutting(self) -> Cutting:
        return Cutting(self.dev_fraction, self.test_fraction, self.seed, self.max_examples)
