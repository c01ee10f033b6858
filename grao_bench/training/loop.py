"""The training loop: draw, collect, prepare, update, yield. It knows no objective by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import fmean
from typing import ClassVar, Literal

import numpy as np
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Objective, Ranks
from grao_bench.core.ops import stream_seed
from grao_bench.core.records import StepRecord
from grao_bench.core.types import Batch, Example, Loss, Needs, PolicyOutput, occurrences
from grao_bench.models.policy import Policy
from grao_bench.training.collect import Collector, collect
from grao_bench.training.gradient import gradient_step
from grao_bench.training.optimizer import MODEL, AdamW
from grao_bench.training.ranks import ALONE


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

    revision: ClassVar[int] = 1

    steps: int
    prompts_per_step: int | None
    answers_per_step: int
    max_prompt_tokens: int
    max_answer_tokens: int
    long_references: Literal["cut", "drop"]
    tokens_per_forward: int = field(compare=False)
    gradient_checkpointing: bool = field(compare=False)
    probe_every: int
    probe_prompts: int
    keep: Literal["last", "best_dev"]
    checkpoint_every: int = field(compare=False)

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


def fewer_minibatches(objective: Objective, budget: Budget) -> str:
    """What to tell whoever asks for more minibatches than a step has prompts, whose answers stay
    together; "" where they can be made."""
    asked, prompts = objective.updates.minibatches, budget.prompts(objective.needs)
    if asked <= prompts:
        return ""
    what = f"a step has {prompts} prompt{'s' if prompts > 1 else ''}, so {prompts} can be made"
    only = "; with a batch's only update the ratio is 1 and no clip acts"
    fix = "give more prompts a step (budget.answers_per_step or budget.prompts_per_step)"
    alone = only if objective.updates.made(prompts) == 1 else ""
    return f"objective.minibatches={asked}: {what}{alone}; {fix}"


class Trainer:
    """The state of a run: policy, optimiser, schedule, steps done. No random state: every draw derives from (seed, step)."""

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        optimizer: AdamW,
        budget: Budget,
        ranks: Ranks = ALONE,
    ) -> None:
        self.policy, self.objective, self.budget, self.ranks = policy, objective, budget, ranks
        self.clip_norm = optimizer.clip_norm
        each = objective.updates.made(budget.prompts(objective.needs))
        self.optimizer, self.schedule = optimizer.build(policy, budget.steps * each)
        self.step = 0

    @property
    def module(self) -> torch.nn.Module:
        """What a gradient step moves."""
        return self.policy


def train(
    trainer: Trainer,
    collector: Collector,
    examples: Sequence[Example],
    seed: int,
    on_batch: Callable[[Batch], None] | None = None,
) -> Iterator[StepRecord]:
    """Train from the trainer's step to the budget's last, yielding a record after each. on_batch
    sees each step's batch, filled and prepared, before anything is updated.

    The caller logs, evaluates, checkpoints and stops. What goes wrong at a step raises UserError before anything is updated.
    """
    objective, budget = trainer.objective, trainer.budget
    needs, updates = objective.needs, objective.updates
    while trainer.step < budget.steps:
        step = trainer.step + 1
        whole = draw(examples, budget.prompts(needs), step, seed)
        again = occurrences(example.id for example in whole)
        mine = trainer.ranks.mine([*zip(whole, again, strict=True)])
        drawn, again = [example for example, _ in mine], [before for _, before in mine]
        if needs.rollouts:
            collector.engine.sync(trainer.policy, trainer.step)
        stream = stream_seed(seed, "rollouts", step)
        policy, done = trainer.policy, trainer.step
        batch, metrics = collect(collector, policy, drawn, needs, updates, stream, done, again)
        batch = prepared(objective, replace(batch, step=step, steps=budget.steps))
        if on_batch is not None:
            on_batch(batch)
        passes: list[dict[str, float]] = []
        for epoch in range(updates.epochs):
            for rows in minibatches(batch.size, updates.minibatches, stream_seed(seed, "minibatches", step, epoch)):
                passes.append(update(trainer, batch.select(rows), value_only=step <= updates.value_only_steps))
                # from here on the policy is not the one that sampled
                batch = batch.fill(sampler_logp=None)
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


def prepared(objective: Objective, batch: Batch) -> Batch:
    """The batch after the objective's `prepare`, without gradient. Old log-probabilities that were
    asked for the loss alone are not there before it, however many updates the batch gets."""
    hidden = objective.needs.old_logp == "loss" and "old_logp" in batch
    with torch.no_grad():
        ready = objective.prepare(batch.fill(old_logp=None) if hidden else batch)
    return ready.fill(old_logp=batch.old_logp) if hidden else ready


def update(trainer: Trainer, batch: Batch, value_only: bool) -> dict[str, float]:
    """One optimiser update on a batch with the objective's loss. value_only: the language model
    does not move."""
    mismatch: list[float] = []

    def loss_of(part: Batch) -> Loss:
        guess = _expected_gradient(trainer, part, batch.size)
        out = trainer.policy(part, entropy=trainer.objective.needs.entropy, expected=guess)
        if "sampler_logp" in part:
            mismatch.append(_mismatch(out.logp.detach(), part) / _rollout_tokens(batch))
        return _loss(trainer.objective, out, part)

    metrics = gradient_step(
        trainer,
        batch,
        trainer.budget.tokens_per_forward,
        loss_of,
        advice="lower optimizer.lr, or look at the rewards",
        held=(MODEL,) if value_only else (),
    )
    return ({"sampler_mismatch": sum(mismatch)} if mismatch else {}) | metrics


def _loss(objective: Objective, out: PolicyOutput, part: Batch) -> Loss:
    """The objective's loss and the model's own. Old log-probabilities that only the loss reads are,
    at a batch's only update, the ones at hand."""
    if objective.needs.old_logp == "loss" and "old_logp" not in part:
        part = part.fill(old_logp=out.logp.detach())
    loss = objective.loss(out, part)
    if twice := loss.parts.keys() & out.model_losses.keys():
        raise UserError(f"loss part {min(twice)}: the model has a loss of this name; rename it")
    return replace(loss, parts=loss.parts | dict(out.model_losses))


def _expected_gradient(trainer: Trainer, part: Batch, size: int) -> torch.Tensor | None:
    """[P K T]: d loss / d logp, where it depends on nothing that the policy will say (SFT, GRAO,
    and GRPO at a batch's only update, where its ratio is 1): taken at log-probabilities of 0."""
    needs, policy = trainer.objective.needs, trainer.policy
    if not needs.linear_in_logp or not torch.is_grad_enabled():
        return None
    logp = torch.zeros(part.tokens.shape, dtype=policy.logp_dtype, device=part.tokens.device)
    filled = {"values": needs.values, "entropy": needs.entropy}
    said = {name: torch.zeros_like(logp) for name, asked in filled.items() if asked}
    loss = _loss(trainer.objective, PolicyOutput(logp.requires_grad_(), said), part)
    total = loss.total.sum() / size
    if not total.requires_grad:  # it reads nothing but values or entropies
        return None
    return torch.autograd.grad(total, logp, allow_unused=True)[0]


def _mismatch(logp: torch.Tensor, batch: Batch) -> float:
    """Sum over the rollouts' tokens of |the loss's log-prob - that of what they were drawn from|:
    rounding, unless the two are different distributions (temperature, top_p, top_k, min_p)."""
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
