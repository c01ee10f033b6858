"""The objectives, one file and one YAML each. A new one needs no edit here: its YAML names it."""

from __future__ import annotations

from typing import Any

from grao_bench.core.interfaces import Objective
from grao_bench.core.specs import conf_dir, load

__all__ = ["conf_dir", "load_objective"]


def load_objective(name: str, /, **overrides: Any) -> Objective:
    """The objective of conf/objective/<name>.yaml, with some fields changed; the same YAML that Hydra reads, without Hydra.

    UserError for an unknown name or field.
    """
    objective: Objective = load(f"objective/{name}", **overrides)
    return objective
