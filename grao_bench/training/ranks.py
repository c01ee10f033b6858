"""Who trains together. Today one process, alone; `interfaces.Ranks` is where several will stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grao_bench.core.interfaces import Row


@dataclass(frozen=True)
class Alone:
    """One process: every row is its own."""

    index: int = 0
    count: int = 1

    def mine(self, rows: Sequence[Row]) -> Sequence[Row]:
        """All of them."""
        return rows


ALONE = Alone()
