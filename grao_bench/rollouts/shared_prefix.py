"""Rollouts that compute each prompt once: its answers share its keys and values, finished rows leave, and waiting prompts take over.

Every random number is a function of (seed, prompt id, occurrence, sample index, position) alone,
never of the batch it is drawn in, so runs that share a seed share their randomness prompt by
prompt, whatever else is in their batches. The occurrence tells a prompt that stands in a step
several times from itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from grao_bench.core.interfaces import Codec, Sampled, Sampling
from grao_bench.core.types import Answer, Prompt
from grao_bench.models.attention import pack_prompts, prepared_mask, use_shared_prefix
from grao_bench.models.router import without_router_loss
from grao_bench.rollouts.cache import EAGER, GRAPHED, Buckets, Prefill, Span
from grao_bench.rollouts.decoder import Decoder
from grao_bench.rollouts.ends import StopStrings, ended
from grao_bench.rollouts.prompts import check_prompts, check_settings, not_numbers, synced
from grao_bench.rollouts.sampler import Draw, Draws, NextToken

PREFILL_TOKENS = 8192
"""Prompts are prefilled together up to this many tokens."""
REFILL_SHARE = 8
"""Waiting prompts take over when one slot in this many is free."""


@dataclass(frozen=True, kw_only=True)
class SharedPrefixRollout:
    """How training and evaluation sample (see `Sampling`); answers_per_call bounds the rows decoded together.

    max_seconds: what one call may take before unfinished answers are returned as they are, with at least one token each; null for no
    deadline. With one, results depend on how fast the machine is. cuda_graphs: on a GPU, replay each decoding step as one CUDA graph.
    """

    revision: ClassVar[int] = 1

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: list[str] | tuple[str, ...] | None
    answers_per_call: int = field(compare=False)
    max_seconds: float | None
    cuda_graphs: bool

    @property
    def tells_logp(self) -> bool:
        """Of every token, raw and as it was drawn."""
        return True

    def build(self, codec: Codec) -> SharedPrefixEngine:
        """An engine. UserError for calls without rows or without time."""
        check_settings(self.answers_per_call, self.max_seconds)
        buckets = GRAPHED if self.cuda_graphs else EAGER
        return SharedPrefixEngine(codec, self.answers_per_call, self.max_seconds, buckets)


class SharedPrefixEngine:
    """Prefill once per prompt, decode n answers, drop rows as they finish, refill them while prompts wait.

    `draws` makes at the beginning of a call what chooses its tokens: `Draws` or something around
    it.
    """

    def __init__(
        self,
        codec: Codec,
        answers_per_call: int,
        max_seconds: float | None = None,
        buckets: Buckets = EAGER,
    ) -> None:
        self.codec, self.answers_per_call, self.max_seconds = codec, answers_per_call, max_seconds
        self.buckets = buckets
        self.policy: Sampled | None = None
        self.step = 0
        self.draws: Callable[[Sequence[Prompt], int, Sampling, int, torch.device], Draw] = Draws
        self._decoder: Decoder | None = None

    @property
    def reproducible(self) -> bool:
        """Yes, where no deadline cuts answers."""
        return self.max_seconds is None

    @property
    def model(self) -> Any:
        """The policy's; UserError before the first `sync`."""
        return synced(self.policy)

    def sync(self, policy: Sampled, step: int) -> None:
        """Draw from this policy's own weights, which are read where they lie."""
        self.policy, self.step = policy, step

    def sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        """n answers for each prompt, in the prompts' order; with each token's log-probabilities.

        UserError, naming the example, for an empty prompt, one that leaves no room for the answer in the model's context, no room for an
        answer at all, ids that the model doesn't have, or logits that are not numbers.
        """
        if n == 0 or not prompts:
            return [[] for _ in prompts]
        check_prompts(prompts, sampling, self.codec, self.model.config)
        use_shared_prefix(self.model)
        # prompts of similar length share a width
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].tokens))
        with torch.inference_mode():
            answers = _Decoding(self, [prompts[i] for i in order], n, sampling, seed).run()
        drawn: list[list[Answer]] = [[] for _ in prompts]
        for rank, i in enumerate(order):
            drawn[i] = answers[rank * n : (rank + 1) * n]
        return drawn

    def decoder(self, slots: int, n: int, prompts: int, prompt_capacity: int, answer_capacity: int) -> Decoder:
        """An empty decoder of that capacity: the last call's, where its graphs can be used again."""
        kept, self._decoder = self._decoder, None
        if kept is None or not kept.fits(self.model, slots, n, prompt_capacity, answer_capacity):
            kept = Decoder(self.model, slots, n, prompts, prompt_capacity, answer_capacity, self.buckets)
        kept.cache.clear()
        self._decoder = kept if kept.graphs else None
        return kept


@dataclass(frozen=True)
class _Ready:
    """Prefilled prompts whose answers have yet to begin: the number of the first answer, where each prompt lies, its next-token logits."""

    first: int
    prefill: Prefill
    starts: list[int]
    lengths: list[int]
    logits: Tensor


class _Decoding:
    """One call of `sample`. Answers are numbered prompt by prompt; a row decodes one of them.

    `state` [2 slots], per row: the place in the flat outputs of the token to be drawn, and the last such place.
    """

    def __init__(self, engine: SharedPrefixEngine, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> None:
        self.model, self.codec, self.prompts, self.n, self.sampling = engine.model, engine.codec, prompts, n, sampling
        self.policy_step = engine.step
        self.device, self.T = self.model.device, sampling.max_new_tokens
        self.count = len(prompts) * n
        self.slots = min(max(1, engine.answers_per_call), self.count)
        self.deadline = None if engine.max_seconds is None else time.monotonic() + engine.max_seconds
        self.decoder = engine.decoder(self.slots, n, len(prompts), max(len(prompt.tokens) for prompt in prompts), self.T)
        self.cache = self.decoder.cache
        self.mask = prepared_mask(self.device)
        precision = torch.promote_types(self.model.dtype, torch.float32)
        self.tokens = torch.zeros(self.count * self.T, dtype=torch.long, device=self.device)
        self.logp = torch.zeros(2, self.count * self.T, dtype=precision, device=self.device)
        self.draw = engine.draws(prompts, n, sampling, seed, self.device)
        self.stops = torch.zeros(self.model.config.get_text_config().vocab_size, dtype=torch.bool, device=self.device)
        self.stops[list(self.codec.stop_tokens)] = True
        self.state = torch.zeros(2, self.slots, dtype=torch.long, device=self.device)
        self.answer_of, self.born = [0] * self.slots, [0] * self.slots
        self.drawn_of = [0] * self.count
        # where stop strings are looked for, what each answer has said so far
        self.stop_strings = StopStrings(self.codec, sampling.stop)
        self.said: list[list[int]] = [[] for _ in range(self.count if self.stop_strings else 0)]
        self.begun = self.prefilled = 0
        self.ready: _Ready | None = None

    def run(self) -> list[Answer]:
        """Every answer, prompt by prompt."""
        while self.cache.alive or self.begun < self.count:
            free = self.slots - self.cache.alive
            if self.begun < self.count and free * REFILL_SHARE >= self.slots:
                self._begin()
            if self.cache.alive:
                self._step()
        ids, (sampler, raw) = self.tokens.tolist(), self.logp.tolist()
        return [self._answer(i, ids, sampler, raw) for i in range(self.count)]

    def _begin(self) -> None:
        """Fill the free rows with answers that have not begun, and draw their first tokens."""
        while self.cache.alive < self.slots and self.begun < self.count:
            ready = self.ready = self.ready or self._prefill()
            n, low, first = self.n, self.cache.alive, self.begun - ready.first
            last = min(first + self.slots - low, len(ready.lengths) * n)
            prompts = range(first // n, (last - 1) // n + 1)
            counts = [min(last, (prompt + 1) * n) - max(first, prompt * n) for prompt in prompts]
            self.cache.add(
                ready.prefill, [Span(ready.starts[p], ready.lengths[p], count) for p, count in zip(prompts, counts, strict=True)]
            )
            answers = torch.arange(first, last, device=self.device)
            rows = slice(low, self.cache.alive)
            self.state[0, rows] = (ready.first + answers) * self.T
            self.state[1, rows] = self.state[0, rows] + self.T - 1
            self.answer_of[rows], self.born[rows] = range(ready.first + first, ready.first + last), [self.cache.clock] * (last - first)
            self.begun += last - first
            if last == len(ready.lengths) * n:
                self.ready = None
            self._draw(low, ready.logits.index_select(0, answers // n))

    def _prefill(self) -> _Ready:
        """The next prompts: as many as fill the free rows, within PREFILL_TOKENS."""
        wanted, chosen, total = -(-(self.slots - self.cache.alive) // self.n), list[tuple[int, ...]](), 0
        for prompt in self.prompts[self.prefilled : self.prefilled + wanted]:
            total += len(prompt.tokens)
            if chosen and total > PREFILL_TOKENS:
                break
            chosen.append(prompt.tokens)
        packed = pack_prompts(chosen, self.device)
        prefill = Prefill(packed)
        out = self.model(
            input_ids=packed.tokens,
            attention_mask=self.mask,
            position_ids=packed.positions,
            use_cache=False,
            logits_to_keep=packed.predictors,
            **without_router_loss(self.model.config),
            layout=prefill,
        )
        lengths = [len(tokens) for tokens in chosen]
        first, self.prefilled = self.prefilled * self.n, self.prefilled + len(chosen)
        return _Ready(first, prefill, [0, *accumulate(lengths)][:-1], lengths, out.logits[0])

    def _step(self) -> None:
        """One more token for every row."""
        self._draw(0, self.decoder.step()[: self.cache.alive])

    def _draw(self, low: int, logits: Tensor) -> None:
        """Draw the next token of every row from `low` on, and drop the rows that it finishes."""
        rows = slice(low, self.cache.alive)
        place, last = self.state[0, rows], self.state[1, rows]
        following = NextToken(logits, self.sampling)
        token = self.draw(following, place)
        sampler, raw = following.logp(token)
        self.tokens.index_copy_(0, place, token)
        self.logp[0].index_copy_(0, place, sampler)
        self.logp[1].index_copy_(0, place, raw)
        self.decoder.tokens[rows] = token
        over = self.stops.index_select(0, token) | (place == last) | raw.isnan()
        place += 1
        if self.deadline is not None and time.monotonic() >= self.deadline:
            over.fill_(True)
        finished = over.nonzero()[:, 0].tolist()
        if self.stop_strings:
            finished = sorted({*finished, *self._at_stop_strings(low, token.tolist())})
        if finished:
            self._retire([low + row for row in finished])

    def _at_stop_strings(self, low: int, tokens: list[int]) -> Iterator[int]:
        """Of the rows from `low` on, counted from there, those whose new token completes one."""
        for row, token in enumerate(tokens):
            said = self.said[self.answer_of[low + row]]
            said.append(token)
            if self.stop_strings.before(said) is not None:
                yield row

    def _retire(self, finished: list[int]) -> None:
        for row in finished:
            self.drawn_of[self.answer_of[row]] = self.cache.clock - self.born[row] + 1
        moves = self.cache.drop(finished)
        for source, target in moves:
            self.answer_of[target], self.born[target] = self.answer_of[source], self.born[source]
        if moves:
            sources, targets = (torch.tensor(side, device=self.device) for side in zip(*moves, strict=True))
            self.state[:, targets] = self.state[:, sources]
            self.decoder.tokens[targets] = self.decoder.tokens[sources]

    def _answer(self, answer: int, ids: list[int], sampler: list[float], raw: list[float]) -> Answer:
        first = answer * self.T
        last = first + self.drawn_of[answer]
        if any(value != value for value in raw[first:last]):
            raise not_numbers(self.prompts[answer // self.n].id)
        kept, text, finished = ended(ids[first:last], self.codec, self.stop_strings)
        last = first + len(kept)
        said = tuple(sampler[first:last]), tuple(raw[first:last])
        return Answer(text, kept, finished, *said, self.policy_step)
