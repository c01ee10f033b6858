"""The key-value cache of answers being decoded: each prompt's part once for all its answers, each answer's own part in a slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grao_bench.models.attention import PackedLayout


@dataclass(frozen=True)
class Buckets:
    """What a step computes on is rounded up: rows, and key positions of prompts and of answers, so that few shapes occur.

    Rows are a multiple of `rows`, below it a power of two; or, with `coarse`, a power of two of at least `rows`, with every prompt still in
    use given as many places as an answer number has, so that a shape changes only when the number of rows has halved.
    """

    rows: int
    prompt: int
    answer: int
    coarse: bool


EAGER = Buckets(rows=8, prompt=32, answer=16, coarse=False)
GRAPHED = Buckets(rows=8, prompt=128, answer=128, coarse=True)
UNSEEN = 2**40
"""The position of a key that is not there: in every query's future."""


@dataclass(frozen=True)
class Prefill:
    """The layout of packed prompts; it also keeps what each layer attends to, in order: keys [1 Hkv N D] and values [1 Hkv N Dv]."""

    inner: PackedLayout
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """See `Layout`."""
        self.layers.append((key, value))
        return self.inner.attend(query, key, value, scaling, window)


@dataclass(frozen=True)
class Span:
    """Rows to be added: where their prompt lies among the packed ones, how long it is, and how many answers to it begin."""

    start: int
    length: int
    answers: int


class AnswerCache:
    """Rows, each a prompt and the answer tokens so far, in [0, alive). transformers' cache and the layout of a decoding step at once.

    An answer's queries meet its prompt's keys together with those of the prompt's other answers, in one product per prompt, so the
    keys of a prompt are kept and read once for all its answers. Prompts in use lie in [0, groups). Everything is allocated once, and stays
    where it is: `shape` says all that a step's kernels depend on beside the memory's contents. n: answers per prompt; prompts: how
    many the call has.
    """

    def __init__(
        self, slots: int, n: int, prompts: int, prompt_capacity: int, answer_capacity: int, device: torch.device, buckets: Buckets
    ) -> None:
        self.slots, self.n, self.device, self.buckets = slots, n, device, buckets
        # room for the call's prompts is enough where each is added once: one whose answers begin in turns is added each time. Coarse
        # buckets are a kept decoder's, and later calls have other numbers of prompts (`Decoder.fits` doesn't look at them).
        # Rounded up, since an unshared prompt has a row of its own
        at_once = not buckets.coarse and prompts * n <= slots
        self.prompt_slots = min(slots, _rounded(prompts, buckets)) if at_once else slots
        self.capacities = _up(prompt_capacity, buckets.prompt), _up(answer_capacity, buckets.answer)
        self.alive = self.clock = 0
        self.prompt_lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.positions = torch.zeros(0, 1, dtype=torch.long, device=device)
        # on the host: each row's prompt and the clock when it began, each prompt's length
        self._group_of, self._born, self._group_lengths = [0] * slots, [0] * slots, list[int]()
        self._prompts: list[tuple[Tensor, Tensor]] = []
        self._answers: dict[int, tuple[Tensor, Tensor]] = {}
        self._changed = True
        self._rows = self._groups = self._per_group = self._prompt_width = self._answer_width = self._held = self._layer = 0
        self._grouped = self._seen = False
        self._together = torch.zeros(slots * n, dtype=torch.long, device=device)
        self._apart = torch.zeros(slots, dtype=torch.long, device=device)
        # within a step: who may look where, and where new keys go, by what they depend on
        self._biases: dict[tuple[int | None, torch.dtype], Tensor] = {}
        self._places: dict[int, Tensor] = {}

    def add(self, prefill: Prefill, spans: Sequence[Span]) -> None:
        """Begin answers to packed prompts, in the rows after the last."""
        if not self._prompts:
            capacity = self.capacities[0]
            self._prompts = [
                (_buffer(keys, self.prompt_slots, capacity), _buffer(values, self.prompt_slots, capacity))
                for keys, values in prefill.layers
            ]
        first = len(self._group_lengths)
        for kept, new in zip(self._prompts, prefill.layers, strict=True):
            for buffer, packed in zip(kept, new, strict=True):
                for group, span in enumerate(spans, first):
                    buffer[group, :, : span.length] = packed[0, :, span.start : span.start + span.length]
        for group, span in enumerate(spans, first):
            self._group_lengths.append(span.length)
            rows = slice(self.alive, self.alive + span.answers)
            self._group_of[rows], self._born[rows] = [group] * span.answers, [self.clock] * span.answers
            self.prompt_lengths[rows] = span.length
            self.lengths[rows] = 0
            self.alive += span.answers
        self._changed = True

    def drop(self, finished: Sequence[int]) -> list[tuple[int, int]]:
        """Remove these rows (in increasing order); (source, target) of the rows from the end that take their places."""
        left = self.alive - len(finished)
        moves = _moves(finished, left, self.alive)
        if moves:
            width = self.clock - min(self._born[source] for source, _ in moves)
            for kept in self._answers.values():
                for buffer in kept:
                    for source, target in moves:
                        buffer[target, :, :width] = buffer[source, :, :width]
            for source, target in moves:
                self._group_of[target], self._born[target] = self._group_of[source], self._born[source]
            sources, targets = (torch.tensor(side, device=self.device) for side in zip(*moves, strict=True))
            for lengths in (self.prompt_lengths, self.lengths):
                lengths[targets] = lengths[sources]
        self.alive, self._changed = left, True
        self._drop_groups()
        return moves

    def _drop_groups(self) -> None:
        """Prompts without a row left give their places to those at the end."""
        used, count = set(self._group_of[: self.alive]), len(self._group_lengths)
        moves = _moves([group for group in range(count) if group not in used], len(used), count)
        for source, target in moves:
            length = self._group_lengths[target] = self._group_lengths[source]
            for kept in self._prompts:
                for buffer in kept:
                    buffer[target, :, :length] = buffer[source, :, :length]
        new = dict(moves)
        if moves:
            self._group_of[: self.alive] = [new.get(group, group) for group in self._group_of[: self.alive]]
        del self._group_lengths[len(used) :]

    def clear(self) -> None:
        """No row is left; the memory stays."""
        self.alive = self.clock = 0
        self._group_lengths.clear()
        self._changed = True

    def begin_step(self) -> None:
        """Settle what one more token for every row is computed on; `look` comes next."""
        if self._changed:
            self._held = self.clock - min(self._born[: self.alive])
            self._regroup(min(self.slots, _rounded(self.alive, self.buckets)))
        answer_width = _up(self._held + 1, self.buckets.answer)
        if self._changed or answer_width != self._answer_width:
            self._answer_width, self._changed = answer_width, False
            self._prompt_width = _up(max(self._group_lengths), self.buckets.prompt)
            self._seen = False

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Of a step: rows (those alive, rounded up; the others hold what was there before), prompts, rows per prompt, key positions."""
        return self._rows, self._groups, self._per_group, self._prompt_width, self._answer_width

    def look(self, again: bool = False) -> None:
        """The tensors of a step, from the memory alone. Key positions are kept while the shape is, unless they are asked for again."""
        if again or not self._seen:
            self._look()
            self._seen = True
        self.positions = (self.prompt_lengths[: self._rows] + self.lengths[: self._rows])[:, None]
        self._biases.clear()
        self._places.clear()
        self._layer = 0

    def end_step(self) -> None:
        """The rows have one token more."""
        self.lengths[: self.alive] += 1
        self.clock += 1
        self._held += 1

    def _look(self) -> None:
        """What a step computes on: views of the buffers, and each key's position."""
        rows, prompt_width, answer_width = self._rows, self._prompt_width, self._answer_width
        self._prompt_views = [_window(layer, self._groups, prompt_width) for layer in self._prompts]
        self._answer_views = {layer: _window(kept, rows, answer_width) for layer, kept in self._answers.items()}
        prompt, ends = torch.arange(prompt_width, device=self.device), self.prompt_lengths[:rows, None]
        answer = ends + torch.arange(answer_width, device=self.device)
        self._key_positions = torch.cat([torch.where(prompt < ends, prompt, UNSEEN), answer], 1)

    def _regroup(self, rows: int) -> None:
        """Who shares a prompt. Every prompt is given as many places as the one with the most rows; spare places repeat the first row."""
        self._rows = rows
        group_of, count = self._group_of[: self.alive], len(self._group_lengths)
        self._grouped = self.buckets.coarse or group_of != list(range(self.alive))
        if not self._grouped:
            self._groups, self._per_group = rows, 1
            return
        members: list[list[int]] = [[] for _ in range(count)]
        for row, group in enumerate(group_of):
            members[group].append(row)
        self._groups, self._per_group = count, max(map(len, members))
        if self.buckets.coarse:
            self._groups, self._per_group = min(self.prompt_slots, 4 ** -(-(count - 1).bit_length() // 2)), self.n
        together, apart = [0] * (self._groups * self._per_group), [0] * rows
        for group, of_group in enumerate(members):
            for k, row in enumerate(of_group):
                apart[row] = group * self._per_group + k
                together[apart[row]] = row
        self._together[: len(together)] = torch.tensor(together)
        self._apart[: len(apart)] = torch.tensor(apart)

    def _gather(self, x: Float[Tensor, "R Hkv g N"]) -> Float[Tensor, "G Hkv mg N"]:
        """Rows brought together with the others of their prompt."""
        if not self._grouped:
            return x
        _, heads, copies, width = x.shape
        gathered = x.index_select(0, self._together[: self._groups * self._per_group])
        together = gathered.view(self._groups, self._per_group, heads, copies, width)
        return together.transpose(1, 2).reshape(self._groups, heads, -1, width)

    def _scatter(self, x: Float[Tensor, "G Hkv mg N"]) -> Float[Tensor, "R Hkv g N"]:
        """The inverse of `_gather`."""
        if not self._grouped:
            return x
        _, heads, _, width = x.shape
        apart = x.view(self._groups, heads, self._per_group, -1, width).transpose(1, 2)
        return apart.reshape(self._groups * self._per_group, heads, -1, width).index_select(0, self._apart[: self._rows])

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one new token per row [R Hkv 1 D] at its length; returns the answers' part of what a step computes on [R Hkv N D]."""
        if layer_idx not in self._answers:
            self._answers[layer_idx] = _buffer(keys, self.slots, self.capacities[1]), _buffer(values, self.slots, self.capacities[1])
            self._answer_views[layer_idx] = _window(self._answers[layer_idx], self._rows, self._answer_width)
        for buffer, new in zip(self._answers[layer_idx], (keys, values), strict=True):
            buffer.view(-1, buffer.shape[3]).index_copy_(0, self._next_places(buffer.shape[1]), new.reshape(-1, buffer.shape[3]))
        return self._answer_views[layer_idx]

    def _next_places(self, heads: int) -> Int[Tensor, "RH"]:
        """Where the new keys of a step go in a buffer seen as one list of keys."""
        if heads not in self._places:
            starts = torch.arange(self._rows * heads, device=self.device).view(-1, heads) * self.capacities[1]
            self._places[heads] = (starts + self.lengths[: self._rows, None]).flatten()
        return self._places[heads]

    def _bias(self, window: int | None, dtype: torch.dtype) -> Float[Tensor, "R 1 1 N"]:
        """0 on the keys that a row's new token may see, -inf elsewhere."""
        key = (window, dtype)
        if key not in self._biases:
            unseen = self._key_positions > self.positions
            if window is not None:
                unseen |= self._key_positions <= self.positions - window
            self._biases[key] = torch.zeros(unseen.shape, dtype=dtype, device=self.device).masked_fill_(unseen, -torch.inf)[:, None, None]
        return self._biases[key]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """See `Layout`; N = 1, B = R, and keys and values are the answers' own."""
        (prompt_keys, prompt_values), self._layer = self._prompt_views[self._layer], self._layer + 1
        R, H, _, _ = query.shape
        heads, prompt_width = key.shape[1], prompt_keys.shape[2]
        # query heads that share a key head lie side by side, so that each key is read once for all of them
        query = query.reshape(R, heads, H // heads, -1)
        prompt_scores = self._scatter(self._gather(query) @ prompt_keys.transpose(2, 3))
        scores = torch.cat([prompt_scores, query @ key.transpose(2, 3)], -1)
        weights = torch.add(self._bias(window, query.dtype), scores, alpha=scaling).softmax(-1)
        out = self._scatter(self._gather(weights[..., :prompt_width]) @ prompt_values) + weights[..., prompt_width:] @ value
        return out.reshape(R, 1, H, -1)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Of no use beside explicit positions and masks, but asked for by some models."""
        return max((self._group_lengths[self._group_of[row]] + self.clock - self._born[row] for row in range(self.alive)), default=0)


def _moves(gone: Sequence[int], left: int, count: int) -> list[tuple[int, int]]:
    """(source, target) that close the gaps in [0, left) with what remains of [left, count)."""
    removed = set(gone)
    sources = (place for place in range(left, count) if place not in removed)
    return list(zip(sources, (place for place in gone if place < left), strict=True))


def _buffer(like: Tensor, slots: int, capacity: int) -> Tensor:
    # zeros, not empty: a masked key's weight is 0, and 0 times whatever was in memory might be nan
    return like.new_zeros(slots, like.shape[1], capacity, like.shape[3])


def _window(kept: tuple[Tensor, Tensor], rows: int, width: int) -> tuple[Tensor, Tensor]:
    keys, values = kept
    return keys[:rows, :, :width], values[:rows, :, :width]


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _rounded(rows: int, buckets: Buckets) -> int:
    power = 1 << (rows - 1).bit_length()
    if buckets.coarse:
        return max(buckets.rows, power)
    return _up(rows, buckets.rows) if rows > buckets.rows else power
