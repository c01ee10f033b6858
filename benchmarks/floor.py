"""The least that a GRPO step can cost: floating-point operations and bytes counted, over rates measured on this machine.

Counted is only what is needed: each prompt once per group, no padding, the LM head on what predicts an answer token, attention over
the tokens that are there, and a backward pass of twice the forward's products. A multiplication and an addition are two operations.
Imports no torch: the parent process of a benchmark counts too (`rates` measures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """What this machine does: operations per second in the layers' and the head's products, bytes
    read per second, and the setting of torch's float32 matmul precision that they were measured
    with: our engine's own, true float32 (grao_bench.core.precision)."""

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


def fastest_of(one: Rates, other: Rates) -> Rates:
    """Each rate at its better measurement."""
    layers, matmul = max((one.layers, one.matmul), (other.layers, other.matmul))
    return Rates(layers, max(one.head, other.head), max(one.bytes, other.bytes), matmul)
