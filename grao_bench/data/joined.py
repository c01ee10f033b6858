"""Several sets as one: trained on, and probed, together. Evaluation is each set's own business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from grao_bench.core.interfaces import Dataset
from grao_bench.core.spec_interfaces import DataSpec


@dataclass(frozen=True, kw_only=True)
class JoinedData:
    """The rows of several sets that share a corpus and a judge, one set after another."""

    revision: ClassVar[int] = 1
    provides: ClassVar[frozenset[str]] = frozenset({"chosen", "rejected"})

    name: str
    parts: Sequence[DataSpec]

    def build(self) -> Dataset:
        """Each split of all of them."""
        sets = [part.build() for part in self.parts]
        return Dataset(
            name=self.name,
            subset="joined",
            train=tuple(row for one in sets for row in one.train),
            dev=tuple(row for one in sets for row in one.dev),
            test=tuple(row for one in sets for row in one.test),
            dropped={},
        )

    def corpus(self) -> list[str]:
        """The first set's, which the others share."""
        return self.parts[0].corpus()

    def judge(self) -> Any:
        """The first set's, which the others share."""
        return self.parts[0].judge()  # type: ignore[attr-defined]

    def siblings(self) -> tuple[JoinedData, ...]:
        """Itself alone."""
        return (self,)
