"""PPO with a learned value head and a KL-shaped reward (Schulman et al. 2017, arXiv 1707.06347; Ziegler et al. 2019, arXiv 1909.08593)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grao_bench.core.ops import kl_k1, masked_mean, ratio, token_mean_weights, whiten
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.objectives.limits import FRACTION, NOT_NEGATIVE, require, require_rollouts


def clipped_surrogate(
    logp: Float[Tensor, "*n"], old_logp: Float[Tensor, "*n"], A: Float[Tensor, "*n"], low: float, high: float
) -> Float[Tensor, "*n"]:
    """min(r A, clip(r, 1 - low, 1 + high) A) with r = pi / pi_old, per token, to be maximised (arXiv 1707.06347, Eq. 7)."""
    r = ratio(logp, old_logp)
    return torch.minimum(r * A, r.clamp(1 - low, 1 + high) * A)


def shaped_rewards(
    R: Float[Tensor, "P K"],
    logp: Float[Tensor, "P K T"],
    reference_logp: Float[Tensor, "P K T"],
    mask: Bool[Tensor, "P K T"],
    kl: float,
) -> Float[Tensor, "P K T"]:
    """-kl (log pi - log ref) on every token, plus the answer's reward on its last one (Ziegler et al., Eq. 2). 0 outside the mask.

    TRL 1.12 adds the reward one position past the end token, where it has a value of its own; here the last token carries it.
    """
    shaped = torch.where(mask, -kl * kl_k1(logp, reference_logp), 0.0)
    last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
    return shaped.scatter_add(-1, last, R[..., None].to(shaped))


def gae(
    r: Float[Tensor, "P K T"], V: Float[Tensor, "P K T"], mask: Bool[Tensor, "P K T"], gamma: float, lam: float
) -> Float[Tensor, "P K T"]:
    """A_t = sum_l (gamma lambda)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t, V = 0 past the end (arXiv 1506.02438, Eq. 16)."""
    V = torch.where(mask, V, 0.0)
    V_next = torch.nn.functional.pad(V[..., 1:], (0, 1))
    delta = torch.where(mask, r + gamma * V_next - V, 0.0)
    advantages, running = [], torch.zeros_like(delta[..., 0])
    for t in reversed(range(delta.shape[-1])):
        running = delta[..., t] + gamma * lam * running
        advantages.append(running)
    return torch.where(mask, torch.stack(advantages[::-1], -1), 0.0)


def value_loss(V: Float[Tensor, "*n"], V_old: Float[Tensor, "*n"], returns: Float[Tensor, "*n"], clip: float) -> Float[Tensor, "*n"]:
    """1/2 max((V - R)^2, (clip(V, V_old +- clip) - R)^2) per token."""
    clipped = torch.clamp(V, V_old - clip, V_old + clip)
    return 0.5 * torch.maximum((V - returns) ** 2, (clipped - returns) ** 2)


@dataclass(frozen=True, kw_only=True)
class PPO:
    """rollouts: answers per prompt (each its own trajectory). kl: coefficient of k1 in the reward. gamma, lam: GAE's.

    clip: of the ratio; value_clip: of the value's move; value_coef: weight of the value loss. epochs x minibatches updates per batch.
    value_only_steps: the first steps move the value head alone, because advantages from an untrained value are noise.

    An answer that was not `batch.judged` has no return to learn: its tokens weigh 0 in both losses
    and are in no mean, neither the whitening's nor the losses'.
    """

    revision: ClassVar[int] = 1

    name: str
    rollouts: int
    kl: float
    gamma: float
    lam: float
    clip: float
    value_clip: float
    value_coef: float
    epochs: int
    minibatches: int
    value_only_steps: int

    def __post_init__(self) -> None:
        require_rollouts(self)
        require(self, kl=NOT_NEGATIVE, gamma=FRACTION, lam=FRACTION)
        require(self, clip=NOT_NEGATIVE, value_clip=NOT_NEGATIVE, value_coef=NOT_NEGATIVE, value_only_steps=NOT_NEGATIVE)

    @property
    def needs(self) -> Needs:
        return Needs(rollouts=self.rollouts, rewards=True, old_logp="prepare", reference_logp=True, values=True)

    @property
    def updates(self) -> Updates:
        return Updates(epochs=self.epochs, minibatches=self.minibatches, value_only_steps=self.value_only_steps)

    def prepare(self, batch: Batch) -> Batch:
        r = shaped_rewards(batch.rewards, batch.old_logp, batch.reference_logp, batch.mask, self.kl)
        A = gae(r, batch.old_values, batch.mask, self.gamma, self.lam)
        learned = batch.mask & batch.judged[..., None]
        return batch.fill(
            advantages=whiten(A, learned),
            returns=torch.where(batch.mask, A + batch.old_values, 0.0),
            token_weights=token_mean_weights(learned),
        )

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        weights = batch.token_weights.to(policy.logp)
        surrogate = clipped_surrogate(policy.logp, batch.old_logp, batch.advantages, self.clip, self.clip)
        value = value_loss(policy.values, batch.old_values, batch.returns, self.value_clip)
        r = ratio(policy.logp.detach(), batch.old_logp)
        error = masked_mean((policy.values - batch.returns).detach().abs(), batch.mask)
        return Loss(
            parts={
                "policy": -(weights * surrogate).sum((1, 2)),
                "value": self.value_coef * (weights * value).sum((1, 2)),
            },
            stats={
                "clipped": masked_mean(((r - 1).abs() > self.clip).to(r), batch.mask).mean(-1),
                "value_error": masked_mean(error, batch.judged),
            },
        )
