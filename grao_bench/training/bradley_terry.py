"""Training a reward model from preference pairs (Bradley-Terry; Ouyang et al. 2022, arXiv 2203.02155, Eq. 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from grao_bench.core.batching import check_ids, make_batch, to_device
from grao_bench.core.errors import UserError
from grao_bench.core.ops import stream_seed
from grao_bench.core.types import Answer, Batch, Example, Loss, Needs
from grao_bench.models.scorer import Scorer, score_rows
from grao_bench.text.tokens import TextCodec
from grao_bench.training.gradient import gradient_step
from grao_bench.training.optimizer import AdamW

PAIR = Needs(chosen=True, rejected=True)
"""The slots of a pair's batch."""
ADVICE = "lower training.lr, or look at the pairs"


def bradley_terry(r_w: Float[Tensor, "P"], r_l: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
    """-log sigmoid(r(y_w) - r(y_l)) per pair."""
    return -logsigmoid(r_w - r_l)


def pair_loss(scores: Float[Tensor, "P K"], batch: Batch) -> Loss:
    """Bradley-Terry over the scores of a batch's chosen and rejected answers; stats: the margin,
    and how often it is above 0."""
    r_w, r_l = scores[:, batch.column("chosen")], scores[:, batch.column("rejected")]
    margin = (r_w - r_l).detach()
    stats = {"margin": margin, "accuracy": (margin > 0).to(margin.dtype)}
    return Loss(parts={"bradley_terry": bradley_terry(r_w, r_l)}, stats=stats)


@dataclass(frozen=True, kw_only=True)
class RewardTraining:
    """epochs over the pairs in batches of batch_size, with AdamW (its values as in
    conf/optimizer).

    tokens_per_forward bounds a micro-batch's tokens (a pair's prompt counts once); a longer pair
    goes alone, checkpointed. gradient_checkpointing keeps only each layer's input for the backward
    pass of every one.
    checkpoint_every: steps between checkpoints, from which an interrupted training goes on; 0
    writes none.
    """

    epochs: int
    batch_size: int
    tokens_per_forward: int
    gradient_checkpointing: bool
    checkpoint_every: int
    lr: float
    betas: Sequence[float]
    eps: float
    weight_decay: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: int
    clip_norm: float

    @property
    def optimizer(self) -> AdamW:
        """The same values for the head that is new and for the rest."""
        return AdamW(
            lr=self.lr,
            value_lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            clip_norm=self.clip_norm,
        )

    def check(self) -> None:
        """UserError for a value that can't be."""
        least = {"epochs": 1, "batch_size": 1, "tokens_per_forward": 1, "checkpoint_every": 0}
        for key, bound in least.items():
            if getattr(self, key) < bound:
                raise UserError(f"training.{key}={getattr(self, key)}: must be at least {bound}")
        if not self.lr > 0:
            raise UserError(f"training.lr={self.lr}: must be above 0")
        try:
            self.optimizer.check()
        except UserError as error:
            raise UserError(f"training.{str(error).removeprefix('optimizer.')}") from None

    def steps(self, pairs: int) -> int:
        """Optimiser updates on this many pairs."""
        return self.epochs * -(-pairs // self.batch_size)


@dataclass(frozen=True)
class Pair:
    """A pair as the model reads it: one prompt's ids, and both answers to it."""

    id: str
    prompt: tuple[int, ...]
    chosen: Answer
    rejected: Answer

    @property
    def equal(self) -> bool:
        """Whether the model sees its answers as one and the same."""
        return self.chosen.tokens == self.rejected.tokens

    @property
    def length(self) -> int:
        """The prompt with the longer answer, in tokens."""
        return len(self.prompt) + max(len(self.chosen.tokens), len(self.rejected.tokens))


def read_pairs(codec: TextCodec, examples: Sequence[Example], max_tokens: int) -> list[Pair]:
    """The examples, which have rejected answers, in ids; each answer with its prompt in
    max_tokens. A pair whose answers are equal there teaches nothing: see `Pair.equal`."""
    pairs = []
    for example in examples:
        texts = [(example.reference, True), (example.rejected or "", True)]
        prompt, both = codec.judged(example.id, example.prompt, texts, max_tokens)
        pairs.append(Pair(example.id, prompt.tokens, *both))
    return pairs


class RewardTrainer:
    """The state of a reward model's training: scorer, optimiser, schedule, steps done. No random
    state: the order derives from (seed, epoch)."""

    def __init__(self, scorer: Scorer, training: RewardTraining, pairs: int) -> None:
        self.scorer, self.training, self.clip_norm = scorer, training, training.clip_norm
        self.steps = training.steps(pairs)
        self.optimizer, self.schedule = training.optimizer.build(scorer, self.steps)
        self.step = 0

    @property
    def module(self) -> torch.nn.Module:
        """What a gradient step moves."""
        return self.scorer


def fit_reward_model(
    trainer: RewardTrainer,
    pairs: Sequence[Pair],
    seed: int,
) -> Iterator[dict[str, float]]:
    """Train from the trainer's step to the last, yielding a step's metrics after it.

    The caller logs, checkpoints and stops. What goes wrong at a step raises UserError before
    anything is updated.
    """
    training, device = trainer.training, trainer.scorer.model.device
    lengths = [pair.length for pair in pairs]
    seeds = [stream_seed(seed, "pairs", epoch) for epoch in range(training.epochs)]
    order = [rows for each in seeds for rows in batches(lengths, training.batch_size, each)]
    for rows in order[trainer.step :]:
        batch = to_device(pair_batch([pairs[row] for row in rows], trainer.scorer), device)
        metrics = gradient_step(
            trainer,
            batch,
            training.tokens_per_forward,
            lambda part: pair_loss(trainer.scorer(part), part),
            ADVICE,
        )
        trainer.step += 1
        yield metrics


def pair_batch(pairs: Sequence[Pair], scorer: Scorer) -> Batch:
    """[P 2 T] with the slots chosen and rejected. UserError for an id that the model has not."""
    for pair in pairs:
        highest = max(*pair.prompt, *pair.chosen.tokens, *pair.rejected.tokens)
        check_ids(pair.id, highest, scorer.model.config)
    prompts, ids = [pair.prompt for pair in pairs], [pair.id for pair in pairs]
    return make_batch(prompts, [[pair.chosen, pair.rejected] for pair in pairs], ids, PAIR, 0)


def pair_margins(
    scorer: Scorer,
    pairs: Sequence[Pair],
    tokens_per_forward: int,
) -> Float[np.ndarray, "N"]:
    """r(chosen) - r(rejected) of each pair."""
    both = [(pair, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    rows = [(pair.prompt, answer.tokens) for pair, answer in both]
    scores = np.array(score_rows(scorer, rows, tokens_per_forward)).reshape(-1, 2)
    differences: np.ndarray = scores[:, 0] - scores[:, 1]
    return differences


def batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """All rows once: shuffled, cut into pools of 20 batches, sorted by length inside a pool, batches shuffled."""
    random = np.random.default_rng(seed)
    order, widths = random.permutation(len(lengths)), np.array(lengths)
    size = 20 * batch_size
    pools = [order[start : start + size] for start in range(0, len(order), size)]
    found = [
        pool[np.argsort(widths[pool], kind="stable")][start : start + batch_size].tolist()
        for pool in pools
        for start in range(0, len(pool), batch_size)
    ]
    return [found[i] for i in random.permutation(len(found))]
