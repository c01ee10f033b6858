"""This machine's rates in a model's own products, for the floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.floor import Rates, layer_weights
from benchmarks.pipe import Clock
from benchmarks.workload import Shape
from grao_bench.core.process import process_settings


def measure_rates(shape: Shape, device: str, dtype: str, seconds: float = 0.3) -> Rates:
    """Time the model's own products, on the float32 path that our engine takes
    (`process_settings`): 1024 rows (on a GPU 16384) through a layer's four, and 256 (on a GPU 4096)
    through the head's.

    `seconds`: how long each product is repeated.
    """
    clock, kind = Clock(device), getattr(torch, dtype)
    keys = shape.kv_heads * (shape.hidden // shape.heads)
    widths = [
        (shape.hidden, shape.hidden + 2 * keys),
        (shape.hidden, shape.hidden),
        (shape.hidden, 2 * shape.ff),
        (shape.ff, shape.hidden),
    ]
    rows, head_rows = (16384, 4096) if clock.cuda else (1024, 256)
    with process_settings(torch.get_num_threads()):
        layer = [(rows, *width) for width in widths]
        head = [(head_rows, shape.hidden, shape.vocab)]
        return Rates(
            layers=_product_rate(layer, kind, clock, device, seconds),
            head=_product_rate(head, kind, clock, device, seconds),
            bytes=_read_rate(shape, clock, device, dtype, seconds),
            matmul=torch.get_float32_matmul_precision(),
        )


def _product_rate(sizes: Sequence[tuple[int, int, int]], kind: torch.dtype, clock: Clock, device: str, seconds: float) -> float:
    pairs = [(torch.randn(m, k, dtype=kind, device=device), torch.randn(n, k, dtype=kind, device=device)) for m, k, n in sizes]

    def run() -> None:
        for left, right in pairs:
            torch.nn.functional.linear(left, right)

    return sum(2.0 * m * k * n for m, k, n in sizes) / _fastest(run, clock, seconds)


def _read_rate(shape: Shape, clock: Clock, device: str, dtype: str, seconds: float) -> float:
    """Bytes per second of reading as many numbers as the model has weights, the faster of a sum and a matrix-vector product."""
    numbers = shape.layers * layer_weights(shape) + shape.hidden * shape.vocab
    weights = torch.randn(numbers // shape.hidden, shape.hidden, dtype=getattr(torch, dtype), device=device)
    vector = weights[0].clone()
    best = min(_fastest(weights.sum, clock, seconds), _fastest(lambda: weights @ vector, clock, seconds))
    return weights.numel() * weights.element_size() / best


def _fastest(run: Callable[[], object], clock: Clock, seconds: float) -> float:
    """The least seconds of a call, of as many as fit into `seconds` and at least three."""
    run()
    begun, best, count = clock.now(), float("inf"), 0
    while count < 3 or clock.now() - begun < seconds:
        start = clock.now()
        run()
        best = min(best, clock.now() - start)
        count += 1
    return best
