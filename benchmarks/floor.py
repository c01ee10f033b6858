"""The least that a GRPO step can cost: floating-point operations and bytes counted, over rates measured on this machine.

Counted is only what is needed: each prompt once per group, no padding, the LM head on what predicts an answer token, attention over
the tokens that are there, and a backward pass of twice the forward's products. A multiplication and an addition are two operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.pipe import Clock
from benchmarks.workload import Shape, Task


@dataclass(frozen=True)
class Needed:
    """Operations of a pass: those of the layers (attention among them) and those of the LM head; `bytes` that it must at least read."""

    layers: float
    head: float
    bytes: float = 0.0

    @property
    def total(self) -> float:
        """Operations."""
        return self.layers + self.head

    def seconds(self, rates: Rates) -> float:
        """The floor: the products at their measured rates, or the bytes at theirs, whichever takes longer."""
        return max(self.layers / rates.layers + self.head / rates.head, self.bytes / rates.bytes)


@dataclass(frozen=True)
class Rates:
    """What this machine does: operations per second in the layers' and the head's products, bytes read per second, and with which
    setting of torch's float32 matmul precision the products were fastest."""

    layers: float
    head: float
    bytes: float
    matmul: str


def layer_weights(shape: Shape) -> int:
    """Weights in one layer's products: queries, keys, values, output, and the three of the gated MLP."""
    keys = shape.kv_heads * (shape.hidden // shape.heads)
    return shape.hidden * (2 * shape.hidden + 2 * keys + 3 * shape.ff)


def rollout_needs(shape: Shape, tasks: Sequence[Task], most: int, bytes_per_number: int) -> Needed:
    """Of sampling these tasks' answers of at most `most` tokens. The last token of an answer is drawn but never read.

    Bytes: every decode step of the longest answer reads the weights once, each group's prompt keys and values once, and each running
    answer's own.
    """
    layers = head = 0.0
    cached = 0  # tokens whose keys and values are read
    lengths = [[min(length, most) for length in task.lengths] for task in tasks]
    for task, row in zip(tasks, lengths, strict=True):
        layers += _span(shape, 0, task.prompt_tokens) + sum(_span(shape, task.prompt_tokens, length - 1) for length in row)
        head += 2 * shape.hidden * shape.vocab * (1 + sum(length - 1 for length in row))
        cached += task.prompt_tokens * (max(row) - 1) + sum(length * (length - 1) // 2 for length in row)
    weights = shape.layers * layer_weights(shape) + shape.hidden * shape.vocab
    keys = 2 * shape.layers * shape.kv_heads * (shape.hidden // shape.heads)
    steps = max(length for row in lengths for length in row)
    return Needed(layers, head, float(bytes_per_number) * (steps * weights + cached * keys))


def train_needs(shape: Shape, tasks: Sequence[Task], most: int) -> Needed:
    """Of the forward and backward pass over these tasks' answers: three times the forward's products."""
    layers = head = 0.0
    for task in tasks:
        row = [min(length, most) for length in task.lengths]
        layers += _span(shape, 0, task.prompt_tokens) + sum(_span(shape, task.prompt_tokens, length - 1) for length in row)
        head += 2 * shape.hidden * shape.vocab * sum(row)
    return Needed(3 * layers, 3 * head)


def _span(shape: Shape, before: int, count: int) -> float:
    """Operations of `count` tokens that come after `before` others: their products, and their attention to all up to themselves."""
    attended = count * before + count * (count + 1) // 2
    return 2.0 * shape.layers * (count * layer_weights(shape) + 2 * shape.hidden * attended)


def measure_rates(shape: Shape, device: str, dtype: str, seconds: float = 0.3) -> Rates:
    """Time the model's own products: 1024 rows through a layer's four, and 256 (on a GPU 4096) through the head's."""
    found = []
    clock = Clock(device)
    for setting in ("highest", "medium") if dtype == "float32" else ("highest",):
        with _matmul(setting):
            kind = getattr(torch, dtype)
            keys = shape.kv_heads * (shape.hidden // shape.heads)
            widths = [
                (shape.hidden, shape.hidden + 2 * keys),
                (shape.hidden, shape.hidden),
                (shape.hidden, 2 * shape.ff),
                (shape.ff, shape.hidden),
            ]
            rows, head_rows = (16384, 4096) if clock.cuda else (1024, 256)
            layers = _product_rate([(rows, *width) for width in widths], kind, clock, device, seconds)
            head = _product_rate([(head_rows, shape.hidden, shape.vocab)], kind, clock, device, seconds)
        found.append((layers, head, setting))
    layers, head, setting = max(found)
    return Rates(layers, max(rate for _, rate, _ in found), _read_rate(shape, clock, device, dtype, seconds), setting)


def fastest_of(one: Rates, other: Rates) -> Rates:
    """Each rate at its better measurement."""
    layers, matmul = max((one.layers, one.matmul), (other.layers, other.matmul))
    return Rates(layers, max(one.head, other.head), max(one.bytes, other.bytes), matmul)


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


@contextmanager
def _matmul(setting: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
