"""grao_bench: which alignment objective is better, by how much, and is that real?"""

from typing import Any

__all__ = ["load", "load_objective"]


def __getattr__(name: str) -> Any:
    # lazily, so that reporting works where torch is not installed
    if name == "load":
        from grao_bench.core.specs import load

        return load
    if name == "load_objective":
        from grao_bench.objectives import load_objective

        return load_objective
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
