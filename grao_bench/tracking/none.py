"""No tracking: the run folder holds everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NoTracking:
    """Keeps nothing besides the run folder."""

    def build(self, folder: Path, group: str, job_type: str, name: str, config: Mapping[str, Any]) -> NullTracker:
        """A tracker that does nothing."""
        return NullTracker()


class NullTracker:
    """Does nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def finish(self, failed: bool = False) -> None:
        """Nothing."""
