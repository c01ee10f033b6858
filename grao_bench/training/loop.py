"""The training loop: draw, collect, prepare, update, yield. It knows no objective by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean
from typing import Literal

import numpy as np
import torch

from grao_bench.errors import UserError
from grao_bench.interfaces import Objective
from grao_bench.models.policy import Policy
from grao_bench.ops import stream_seed
from grao_bench.records import StepRecord
from grao_bench.training.collect import Collector, collect
from grao_bench.training.gradient import gradient_step
from grao_bench.training.optimizer import AdamW
from grao_bench.types import Batch, Example, Loss, Needs, PolicyOutput


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every objective may spend.

    A step has `prompts_per_step` prompts or, where that is null, as many as make `answers_per_step` answers, so that methods with one, two
    or G answers per prompt train on equally many. Lengths are in tokens; tokens_per_forward bounds a micro-batch's tokens (prompts once).
    long_references: an example whose reference exceeds max_answer_tokens is `cut` (unfinished, counted) or left out (`drop`, counted).
    gradient_checkpointing keeps only each layer's input for the backward pass: less memory, a third more time.
    probe_every: the dev batch (probe_prompts prompts) is measured every so many steps. keep: the `last` policy, or the `best_dev` by
    RAS on the dev batch. checkpoint_every: steps between checkpoints; 0 writes none.
    """

    steps: int
    prompts_per_step: int | None
    answers_per_step: int
    max_prompt_tokens: int
    max_answer_tokens: int
    long_references: Literal["cut", "drop"]
    tokens_per_forward: int
    gradient_checkpointing: bool
    probe_every: int
    probe_prompts: int
    keep: Literal["last", "best_dev"]
    checkpoint_every: int

    def check(self) -> None:
        """UserError for a number that can't be."""
        leasts = {
            "steps": 0,
            "answers_per_step": 1,
            "max_prompt_tokens": 2,
            "max_answer_tokens": 1,
            "tokens_per_forward": 1,
            "probe_prompts": 2,
        }
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise UserError(f"budget.{name}={getattr(self, name)}: must be at least {least}")
        for name in ("probe_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise UserError(f"budget.{name}={getattr(self, name)}: must be at least 0 (0: never)")
        if self.prompts_per_step is not None and self.prompts_per_step < 1:
            raise UserError(f"budget.prompts_per_step={self.prompts_per_step}: must be at least 1, or null")

    def prompts(self, needs: Needs) -> int:
        """Prompts per step for an objective with these needs: G rollouts count as G answers, a reference beside them as none."""
        return self.prompts_per_step or max(1, self.answers_per_step // (needs.rollouts or len(needs.slots)))


class Trainer:
    """The state of a run: policy, optimiser, schedule, steps done. No random state: every draw derives from (seed, step)."""

    def __init__(self, policy: Policy, objective: Objective, optimizer: AdamW, budget: Budget) -> None:
        self.policy, self.objective, self.budget = policy, objective, budget
        self.clip_norm = optimizer.clip_norm
        self.optimizer, self.schedule = optimizer.build(policy, budget.steps * objective.updates.count)
        self.step = 0

    @property
    def module(self) -> torch.nn.Module:
        """What a gradient step moves."""
        return self.policy


def train(trainer: Trainer, collector: Collector, examples: Sequence[Example], seed: int) -> Iterator[StepRecord]:
    """Train from the trainer's step to the budget's last, yielding a record after each.

    The caller logs, evaluates, checkpoints and stops. What goes wrong at a step raises UserError before anything is updated.
    """
    objective, budget = trainer.objective, trainer.budget
    needs, updates = objective.needs, objective.updates
    while trainer.step < budget.steps:
        step = trainer.step + 1
        drawn = draw(examples, budget.prompts(needs), step, seed)
        batch, metrics = collect(collector, trainer.policy, drawn, needs, updates, stream_seed(seed, "rollouts", step))
        with torch.no_grad():
            batch = objective.prepare(batch)
        passes: list[dict[str, float]] = []
        for epoch in range(updates.epochs):
            for rows in minibatches(batch.size, updates.minibatches, stream_seed(seed, "minibatches", step, epoch)):
                passes.append(update(trainer, batch.select(rows), value_only=step <= updates.value_only_steps))
                batch = replace(batch, sampler_logp=None)  # from here on the policy is not the one that sampled
        trainer.step = step
        metrics |= {key: fmean(entry[key] for entry in passes if key in entry) for key in passes[0]}
        yield StepRecord(
            step=step,
            metrics=metrics,
            prompts=batch.size,
            answers=batch.size * len(batch.slots),
            generated_tokens=int(batch.mask[:, batch.columns("rollout")].sum()),
            forward_tokens=updates.epochs * int(batch.prompt_mask.sum() + batch.mask.sum()),
        )


def update(trainer: Trainer, batch: Batch, value_only: bool) -> dict[str, float]:
    """One optimiser update on a batch with the objective's loss. value_only: the language model
    does not move."""
    mismatch: list[float] = []

    def loss_of(part: Batch) -> Loss:
        out = trainer.policy(part, expected=_expected_gradient(trainer, part, batch.size))
        if part.sampler_logp is not None:
            mismatch.append(_mismatch(out.logp.detach(), part) / _rollout_tokens(batch))
        if trainer.objective.needs.old_logp and part.old_logp is None:
            part = replace(part, old_logp=out.logp.detach())
        return trainer.objective.loss(out, part)

    metrics = gradient_step(
        trainer,
        batch,
        trainer.budget.tokens_per_forward,
        loss_of,
        advice="lower optimizer.lr, or look at the rewards",
        held=trainer.policy.parameter_groups()[0] if value_only else (),
    )
    return ({"sampler_mismatch": sum(mismatch)} if mismatch else {}) | metrics


def _expected_gradient(trainer: Trainer, part: Batch, size: int) -> torch.Tensor | None:
    """[P K T]: d loss / d logp at a guess of the log-probabilities, for a loss whose gradient does not depend on them.

    SFT and GRAO are linear in them, and GRPO's ratio is 1 at a batch's only update. Where a guess fails (DPO) none is made again.
    """
    if not trainer.policy.head.guesses_hold or not torch.is_grad_enabled():
        return None
    logp = torch.zeros(part.tokens.shape, dtype=trainer.policy.logp_dtype, device=part.tokens.device, requires_grad=True)
    values = None if trainer.policy.value_head is None else torch.zeros_like(logp, dtype=torch.float32)
    if trainer.objective.needs.old_logp and part.old_logp is None:
        part = replace(part, old_logp=logp.detach())
    loss = trainer.objective.loss(PolicyOutput(logp=logp, values=values), part).total.sum() / size
    return torch.autograd.grad(loss, logp)[0]


def _mismatch(logp: torch.Tensor, batch: Batch) -> float:
    """Sum over the rollouts' tokens of |the trainer's log-prob - the sampler's|."""
    assert batch.sampler_logp is not None
    k = batch.columns("rollout")
    return float((logp - batch.sampler_logp)[:, k].abs().sum())


def _rollout_tokens(batch: Batch) -> int:
    return int(batch.mask[:, batch.columns("rollout")].sum())


def draw(examples: Sequence[Example], count: int, step: int, seed: int) -> list[Example]:
    """The examples of a step (1-based): without replacement within an epoch, each epoch in an order of its own."""
    drawn = []
    for position in range((step - 1) * count, step * count):
        epoch, row = divmod(position, len(examples))
        drawn.append(examples[_order(len(examples), stream_seed(seed, "order", epoch))[row]])
    return drawn


def minibatches(size: int, count: int, seed: int) -> list[list[int]]:
    """Rows shuffled and cut into `count` chunks of nearly equal size (fewer when there are fewer rows); one chunk keeps the rows' order."""
    if count == 1:
        return [list(range(size))]
    order = np.random.default_rng(seed).permutation(size)
    return [sorted(chunk.tolist()) for chunk in np.array_split(order, min(count, size))]


@lru_cache(maxsize=4)  # a step draws from one epoch's order, or two
def _order(size: int, seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).permutation(size).tolist())
