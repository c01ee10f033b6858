"""What a process has one of and a cell must own: torch's switches, and models loaded for many.

    with process_settings(threads=1):
        cell = build(experiment)
        for record in train(cell.trainer, cell.collector, cell.examples, experiment.seed): ...

Entered once around building and running a cell. So two cells in one process, in either order, give
the bytes that each gives alone.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from grao_bench.core.precision import fast_float32

T = TypeVar("T")
_loaded: ContextVar[dict[Hashable, Any] | None] = ContextVar("loaded", default=None)


@contextmanager
def process_settings(
    threads: int,
    float32: Literal["fastest", "highest"] = "fastest",
) -> Iterator[None]:
    """torch's threads on the CPU, and its float32 products on the fastest path that keeps their
    precision (`fast_float32`) or on the one that always does.

    On leaving, both are what they were, and models that were loaded for all who ask
    (`loaded_once`) are let go. What is not here needs no owner: the attention that transformers is
    given stands under a name of its own, the same for every model, and every draw has a generator
    of its own.
    """
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    token = _loaded.set({})
    try:
        torch.set_num_threads(threads)
        if float32 == "fastest":
            fast_float32()
        else:
            torch.set_float32_matmul_precision("highest")
        yield
    finally:
        _loaded.reset(token)
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def loaded_once(key: Hashable, load: Callable[[], T]) -> T:
    """What `load` gives: the first time within the innermost `process_settings`, and the same
    object from then on for an equal key. Outside of any, it is loaded at each call.
    """
    found = _loaded.get()
    if found is None:
        return load()
    if key not in found:
        found[key] = load()
    kept: T = found[key]
    return kept


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process held since `reset_peak_memory`, on a GPU as its allocator
    counts it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident * (1 if sys.platform == "darwin" else 2**10)


def reset_peak_memory() -> None:
    """Begin the peak anew, for a grid's worker runs one cell after another. Where the system can't, it stays the worker's own."""
    for device in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
