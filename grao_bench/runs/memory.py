"""What memory is held, in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def peak_of(memory: Mapping[str, int]) -> int:
    """Sampling and the gradient are never there at once."""
    sampling = memory["key-value cache"]
    gradient = memory["gradients"] + memory["activations"] + memory["logits chunks"]
    lasting = ("process", "weights", "reward", "optimiser", "masters")
    return sum(memory[name] for name in lasting) + max(sampling, gradient)


def weights_of(source: Any) -> int:
    """Bytes of the models that a reward holds."""
    found: dict[int, int] = {}
    waiting, seen = [source], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | torch.Tensor):
            continue
        seen.add(id(one))
        if isinstance(one, torch.nn.Module):
            found |= {id(p): p.numel() * p.element_size() for p in one.parameters()}
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif hasattr(one, "func"):  # a partial
            waiting += [one.func, *one.args, *one.keywords.values()]
        elif hasattr(one, "__self__"):
            waiting.append(one.__self__)
        elif type(one).__module__.startswith("grao_bench."):
            waiting += vars(one).values() if hasattr(one, "__dict__") else []
    return sum(found.values())
