"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300, Eq. 3), and its family, each member a choice of readings.

With r the ratio pi / pi_old, A the advantage and w the token weights of the reduction, per prompt, to be minimised:

    sum_i sum_t w_it [ -min(r_it A_i, clip(r_it, 1 - low, 1 + high) A_i) + kl k_it ]

- `std`: what A_i = (R_i - mean) is divided by. See `group_advantages`.
- `reduction`: w. See `token_weights`.
- `ratio`: `token`, or `sequence`: GSPO's one ratio per answer. See `ratio_logps`.
- `kl_estimator`, `kl_gradient`: k. See `kl_penalty`.

    GRPO           population, answer_mean, token, k3 as_loss
    Dr. GRPO       none, constant_length, kl = 0 (Liu et al. 2025, arXiv 2503.20783)
    DAPO           clip_high = 0.28, token_mean, kl = 0 (Yu et al. 2025, arXiv 2503.14476)
    GSPO           sequence, with a narrow clip (Zheng et al. 2025, arXiv 2507.18071)
    TRL's default  sample, token_mean, kl = 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grao_bench.core.errors import UserError
from grao_bench.core.ops import (
    answer_mean_weights,
    constant_length_weights,
    group_moments,
    kl_k1,
    kl_k2,
    kl_k3,
    masked_mean,
    no_signal,
    ratio,
    standardise,
    token_mean_weights,
)
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.objectives.limits import ABOVE_ZERO, NOT_NEGATIVE, require, require_rollouts
from grao_bench.objectives.ppo import clipped_surrogate

Std = Literal["population", "sample", "none", "batch"]
Reduction = Literal["answer_mean", "token_mean", "constant_length"]
Ratio = Literal["token", "sequence"]
KLEstimator = Literal["k1", "k2", "k3"]
KLGradient = Literal["as_loss", "corrected"]

TRL_EPSILON = 1e-4


def group_advantages(
    R: Float[Tensor, "P G"],
    std: Std,
    judged: Bool[Tensor, "P G"] | None = None,
) -> Float[Tensor, "P G"]:
    """A_i = (R_i - mean of its group) / s; exactly 0 in a group whose rewards are all equal. s by reading:

        population  sqrt(sum_i (R_i - mean)^2 / G)                                   no epsilon
        sample      sqrt(sum_i (R_i - mean)^2 / (G - 1)) + 1e-4                      TRL's scale_rewards="group"
        none        1                                                                TRL's "none"; Dr. GRPO
        batch       sqrt(sum_pi (R_pi - mean of all)^2 / (P G - 1)) + 1e-4           TRL's "batch", over the P prompts of the batch

    The paper says "std" and not which. TRL computes in the rewards' dtype, this in float64. Sums,
    G and P G are those of the `judged` answers (None: all); the others have A = 0.
    """
    judged = torch.ones_like(R, dtype=torch.bool) if judged is None else judged
    mu, sigma = group_moments(R, judged, correction=1 if std == "sample" else 0)
    if std == "sample":
        sigma = sigma + TRL_EPSILON
    elif std == "batch":
        _, whole = group_moments(R.view(1, -1), judged.view(1, -1), correction=1)
        sigma = (whole + TRL_EPSILON).expand_as(mu)
    elif std == "none":
        sigma = torch.ones_like(mu)
    return standardise(R, mu, sigma, no_signal(R, judged), judged)


def token_weights(mask: Bool[Tensor, "P G T"], reduction: Reduction, max_tokens: int | None) -> Float[Tensor, "P G T"]:
    """w per prompt, so that the batch's loss is the mean over its P prompts; constants are taken over the whole batch. By reading:

    answer_mean      1 / (G |o_i|)            GRPO: mean over an answer's tokens, then over answers
    token_mean       P / N                    N tokens in the whole batch: TRL's "dapo" (N over all accumulated micro-batches); its
                                              "bnpo" has N of one micro-batch, which is the same where a batch isn't cut
    constant_length  1 / (G max_tokens)       Dr. GRPO: no answer's length enters
    """
    if max_tokens is not None:  # given where it is constant_length's, and only there
        return constant_length_weights(mask, max_tokens)
    return {"answer_mean": answer_mean_weights, "token_mean": token_mean_weights}[reduction](mask)


def ratio_logps(
    logp: Float[Tensor, "P G T"], old_logp: Float[Tensor, "P G T"], mask: Bool[Tensor, "P G T"], ratio: Ratio
) -> tuple[Float[Tensor, "P G T"], Float[Tensor, "P G T"]]:
    """(a, b) whose e^(a - b) is the ratio r at each token. By reading:

    token     pi(o_it | .) / pi_old(o_it | .)
    sequence  (pi(o_i) / pi_old(o_i))^(1/|o_i|), the same at each token of o_i (GSPO, arXiv 2507.18071, Eq. 7); its gradient reaches
              every token of the answer
    """
    if ratio == "token":
        return logp, old_logp
    a, b = masked_mean(logp, mask), masked_mean(old_logp, mask)
    return a[..., None].expand_as(logp), b[..., None].expand_as(logp)


def kl_penalty(
    logp: Float[Tensor, "*n"], reference_logp: Float[Tensor, "*n"], r: Float[Tensor, "*n"], estimator: KLEstimator, gradient: KLGradient
) -> Float[Tensor, "*n"]:
    """k or r k, with k of a token drawn from pi_old and r = pi / pi_old differentiable. d = log pi - log pi_ref; s = grad log pi.

        reading          value                gradient             on-policy (r = 1) the gradient averages to
        k1 as_loss       d                    s                    0: nothing is penalised
        k2 as_loss       d^2 / 2              d s                  grad KL(pi || pi_ref), the reverse KL's
        k3 as_loss       e^-d + d - 1         (1 - e^-d) s         grad KL(pi_ref || pi), the forward KL's (DeepSeekMath's term)
        k1 corrected     r d                  r (1 + d) s          grad KL(pi || pi_ref)
        k2 corrected     r d^2 / 2            r (d^2 / 2 + d) s    grad E_pi[d^2 / 2], of no KL
        k3 corrected     r (e^-d + d - 1)     r d s                grad KL(pi || pi_ref) (TRL 1.16's use_bias_correction_kl, its default)

    Corrected, k1 and k3 average to KL(pi || pi_ref) under samples of pi_old too, and so do their gradients. With ratio=sequence r is the
    answer's, as in TRL, and the table's averages no longer hold exactly.
    """
    k = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}[estimator](logp, reference_logp)
    return {"as_loss": k, "corrected": r * k}[gradient]


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """rollouts: G. clip_low and clip_high bound the ratio at 1 - low and 1 + high. kl: coefficient of the penalty; 0 needs no reference.

    std, reduction, ratio, kl_estimator, kl_gradient: readings, named in this file's head. max_tokens: constant_length's constant, null in
    the other reductions. epochs and minibatches: optimiser updates per batch; with one update the ratio is 1 and the clip never acts.

    An answer that was not `batch.judged` has advantage 0 and is in no statistic; the KL term and
    the reductions' counts of answers and tokens see it as a sample like any other.
    """

    revision: ClassVar[int] = 1

    name: str
    rollouts: int
    std: Std
    reduction: Reduction
    max_tokens: int | None
    ratio: Ratio
    clip_low: float
    clip_high: float
    kl: float
    kl_estimator: KLEstimator
    kl_gradient: KLGradient
    epochs: int
    minibatches: int

    def __post_init__(self) -> None:
        require_rollouts(self)
        require(self, clip_low=NOT_NEGATIVE, clip_high=NOT_NEGATIVE, kl=NOT_NEGATIVE)
        if self.reduction == "constant_length":
            if self.max_tokens is None:
                raise UserError("objective.max_tokens=None: reduction=constant_length divides by it; set it to budget.max_answer_tokens")
            require(self, max_tokens=ABOVE_ZERO)
        elif self.max_tokens is not None:
            raise UserError(f"objective.max_tokens={self.max_tokens}: reduction={self.reduction} doesn't read it; set it to null")

    @property
    def needs(self) -> Needs:
        # at a batch's only update r is 1; of the penalties k1 as a loss alone has a constant slope
        flat_kl = self.kl == 0 or (self.kl_estimator, self.kl_gradient) == ("k1", "as_loss")
        return Needs(
            rollouts=self.rollouts,
            rewards=True,
            old_logp="loss",
            reference_logp=self.kl > 0,
            linear_in_logp=self.updates.count == 1 and flat_kl,
        )

    @property
    def updates(self) -> Updates:
        return Updates(epochs=self.epochs, minibatches=self.minibatches)

    def prepare(self, batch: Batch) -> Batch:
        return batch.fill(
            advantages=group_advantages(batch.rewards, self.std, batch.judged)[..., None],
            token_weights=token_weights(batch.mask, self.reduction, self.max_tokens),
        )

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        weights = batch.token_weights.to(policy.logp)
        logp, old_logp = ratio_logps(policy.logp, batch.old_logp, batch.mask, self.ratio)
        A = batch.advantages.to(logp).expand_as(logp)
        r = ratio(logp, old_logp)
        parts = {"policy": -(weights * clipped_surrogate(logp, old_logp, A, self.clip_low, self.clip_high)).sum((1, 2))}
        clipped = ((r < 1 - self.clip_low) | (r > 1 + self.clip_high)).to(r)
        stats = {"clipped": masked_mean(clipped, batch.mask).mean(-1)}
        if self.kl > 0:
            penalty = kl_penalty(policy.logp, batch.reference_logp, r, self.kl_estimator, self.kl_gradient)
            parts["kl"] = self.kl * (weights * penalty).sum((1, 2))
            # k3 whatever is trained on: one scale for every variant's log
            stats["kl"] = masked_mean(kl_k3(policy.logp, batch.reference_logp).detach(), batch.mask).mean(-1)
        return Loss(parts=parts, stats=stats)
