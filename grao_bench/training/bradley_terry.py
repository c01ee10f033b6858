"""Training a reward model from preference pairs (Bradley-Terry; Ouyang et al. 2022, arXiv 2203.02155, Eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from grao_bench.errors import UserError
from grao_bench.ops import stream_seed
from grao_bench.rewards.reward_model import PairEncoder, classify
from grao_bench.types import Example


def bradley_terry(r_w: Float[Tensor, "P"], r_l: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
    """-log sigmoid(r(y_w) - r(y_l)) per pair."""
    return -logsigmoid(r_w - r_l)


@dataclass(frozen=True, kw_only=True)
class RewardTraining:
    """epochs over the pairs in batches of batch_size, AdamW at learning_rate decaying linearly to 0."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float

    def check(self) -> None:
        """UserError for a value that can't be."""
        for key, right, rule in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("clip_norm", self.clip_norm > 0, "above 0"),
        ):
            if not right:
                raise UserError(f"training.{key}={getattr(self, key)}: must be {rule}")


def fit_reward_model(
    model: Any,
    encoder: PairEncoder,
    pairs: Sequence[Example],
    training: RewardTraining,
    seed: int,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train the classifier in place. Each pair's two answers are scored in one forward pass, pairs of similar length together."""
    encoded = [(encoder.ids(e.prompt, e.reference, True), encoder.ids(e.prompt, e.rejected or "", True)) for e in pairs]
    steps = training.epochs * -(-len(pairs) // training.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    step = 0
    for epoch in range(training.epochs):
        for rows in _batches([max(map(len, pair)) for pair in encoded], training.batch_size, stream_seed(seed, "pairs", epoch)):
            scores = classify(model, [encoded[row][side] for side in (0, 1) for row in rows], encoder.tokenizer)
            loss = bradley_terry(scores[: len(rows)], scores[len(rows) :]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if on_step is not None:
                on_step(step, steps, loss.item())


def pair_margins(model: Any, encoder: PairEncoder, pairs: Sequence[Example], batch_size: int) -> np.ndarray:
    """r(chosen) - r(rejected) of each pair, [N]."""
    margins = np.zeros(len(pairs))
    order = sorted(range(len(pairs)), key=lambda row: len(pairs[row].reference) + len(pairs[row].rejected or ""))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        texts = [
            (pairs[row], text) for side in (0, 1) for row in rows for text in [(pairs[row].reference, pairs[row].rejected or "")[side]]
        ]
        with torch.no_grad():
            scores = classify(model, [encoder.ids(example.prompt, text, True) for example, text in texts], encoder.tokenizer)
        margins[rows] = (scores[: len(rows)] - scores[len(rows) :]).cpu().numpy()
    return margins


def _batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """All rows once: shuffled, cut into pools of 20 batches, sorted by length inside a pool, batches shuffled."""
    random = np.random.default_rng(seed)
    order, widths = random.permutation(len(lengths)), np.array(lengths)
    pools = [order[start : start + 20 * batch_size] for start in range(0, len(order), 20 * batch_size)]
    batches = [
        pool[np.argsort(widths[pool], kind="stable")][start : start + batch_size].tolist()
        for pool in pools
        for start in range(0, len(pool), batch_size)
    ]
    return [batches[i] for i in random.permutation(len(batches))]
