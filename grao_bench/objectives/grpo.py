"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300, Eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from grao_bench.objectives.ppo import clipped_surrogate
from grao_bench.ops import answer_mean_weights, group_moments, kl_k3, masked_mean, no_signal, standardise
from grao_bench.types import Batch, Loss, Needs, PolicyOutput, Updates


def group_advantages(R: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """(R_i - mean) / std over the group, population std; 0 where all rewards are equal. TRL has the sample std + 1e-4 here."""
    return standardise(R, *group_moments(R), no_signal(R))


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """rollouts: G. clip_low and clip_high bound the ratio at 1 - low and 1 + high. kl: coefficient of k3 in the loss; 0 needs no reference.

    epochs and minibatches: optimiser updates per batch; with one update the ratio is 1 and the clip never acts.
    """

    name: str
    rollouts: int
    clip_low: float
    clip_high: float
    kl: float
    epochs: int
    minibatches: int

    @property
    def needs(self) -> Needs:
        return Needs(rollouts=self.rollouts, rewards=True, old_logp=True, reference_logp=self.kl > 0)

    @property
    def updates(self) -> Updates:
        return Updates(epochs=self.epochs, minibatches=self.minibatches)

    def prepare(self, batch: Batch) -> Batch:
        assert batch.rewards is not None
        return replace(
            batch,
            advantages=group_advantages(batch.rewards)[..., None],
            token_weights=answer_mean_weights(batch.mask),
        )

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        assert batch.advantages is not None
        assert batch.old_logp is not None
        assert batch.token_weights is not None
        weights = batch.token_weights.to(policy.logp)
        surrogate = clipped_surrogate(
            policy.logp, batch.old_logp, batch.advantages.to(policy.logp).expand_as(policy.logp), self.clip_low, self.clip_high
        )
        parts = {"policy": -(weights * surrogate).sum((1, 2))}
        ratio = torch.exp(policy.logp.detach() - batch.old_logp)
        clipped = ((ratio < 1 - self.clip_low) | (ratio > 1 + self.clip_high)).to(ratio)
        stats = {"clipped": masked_mean(clipped, batch.mask).mean(-1)}
        if batch.reference_logp is not None:
            kl = kl_k3(policy.logp, batch.reference_logp)
            parts["kl"] = self.kl * (weights * kl).sum((1, 2))
            stats["kl"] = masked_mean(kl.detach(), batch.mask).mean(-1)
        return Loss(parts=parts, stats=stats)
