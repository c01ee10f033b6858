"""Small tensor operations that several parts share, and the one place where seeds are derived."""

from __future__ import annotations

import hashlib
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a named random stream ("order", "rollouts", step, ...). The same on every machine and process."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sign_with_ties(difference: float, margin: float) -> float:
    """+1, 0 or -1. A tie is a difference of 0 or closer to it than the margin; exactly the margin decides."""
    # scores are often sums of hundredths: rounding keeps a difference of exactly the margin out of the tie
    gap = round(difference, 9)
    return 0.0 if gap == 0 or abs(gap) < margin else (1.0 if gap > 0 else -1.0)


LARGEST_REWARD = torch.finfo(torch.float32).max


def is_reward(number: float) -> bool:
    """Whether a number is one that a batch can hold: finite, in float32 too."""
    return math.isfinite(number) and abs(number) <= LARGEST_REWARD


def masked_sum(x: Float[Tensor, "*n T"], mask: Bool[Tensor, "*n T"]) -> Float[Tensor, "*n"]:
    """Sum over the last axis where mask is True."""
    return torch.where(mask, x, 0.0).sum(-1)


def masked_mean(x: Float[Tensor, "*n T"], mask: Bool[Tensor, "*n T"]) -> Float[Tensor, "*n"]:
    """Mean over the last axis where mask is True; 0 where nothing is."""
    return masked_sum(x, mask) / mask.sum(-1).clamp(min=1)


ROUNDING = 1e-6
"""The relative difference below which two rewards are the same number: about sixteen of float32's
half steps of 6e-8, what a sum of a few weighted parts may collect."""
TIE = 5e-10
"""The same where rewards cancel to nearly 0: what `sign_with_ties` rounds away."""


def equal_but_for_rounding(lowest: float, highest: float) -> bool:
    """Whether two numbers, such as a group's lowest and highest reward, differ by rounding only."""
    return highest - lowest <= max(TIE, ROUNDING * max(abs(lowest), abs(highest)))


def no_signal(
    rewards: Float[Tensor, "P G"],
    judged: Bool[Tensor, "P G"] | None = None,
) -> Bool[Tensor, "P"]:
    """Groups whose judged rewards (None: all) are equal but for rounding, or of which at most one
    was judged: see `equal_but_for_rounding`.

    Decided by max and min: the sigma of eight float32 rewards of 0.1 is 7e-9, not 0.
    """
    judged = torch.ones_like(rewards, dtype=torch.bool) if judged is None else judged
    wide = rewards.double()
    highest = wide.masked_fill(~judged, -torch.inf).amax(-1)
    lowest = wide.masked_fill(~judged, torch.inf).amin(-1)
    size = torch.maximum(highest.abs(), lowest.abs())
    return (highest - lowest <= (ROUNDING * size).clamp(min=TIE)) | ~judged.any(-1)


def group_moments(
    rewards: Float[Tensor, "P G"],
    judged: Bool[Tensor, "P G"] | None = None,
    correction: int = 0,
) -> tuple[Float[Tensor, "P 1"], Float[Tensor, "P 1"]]:
    """Mean and deviation of each group's judged rewards (None: all), in float64: in float32 the
    mean of rewards one rounding step apart may lie outside them, and every advantage then has the
    same sign.

    correction: 0 is the population's deviation (1/n, GRAO Eq. 4), 1 the sample's (1/(n - 1)). Of
    one judged reward the deviation is 0, of none both are.
    """
    judged = torch.ones_like(rewards, dtype=torch.bool) if judged is None else judged
    wide, count = rewards.double(), judged.sum(-1, keepdim=True)
    mu = masked_sum(wide, judged)[:, None] / count.clamp(min=1)
    squares = masked_sum((wide - mu) ** 2, judged)[:, None]
    return mu, (squares / (count - correction).clamp(min=1)).sqrt()


def standardise(
    rewards: Float[Tensor, "P N"],
    mu: Float[Tensor, "P 1"],
    sigma: Float[Tensor, "P 1"],
    silent: Bool[Tensor, "P"],
    judged: Bool[Tensor, "P N"] | None = None,
) -> Float[Tensor, "P N"]:
    """(R - mu) / sigma, and exactly 0 for what was not judged and in the `silent` groups, whose
    rewards are all equal (no epsilon anywhere)."""
    mute = silent[:, None] if judged is None else silent[:, None] | ~judged
    ratio = (rewards - mu) / torch.where(silent[:, None], 1.0, sigma)
    return torch.where(mute, 0.0, ratio).to(rewards)


def whiten(x: Float[Tensor, "*n"], mask: Bool[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Zero mean and unit variance over the True entries (unbiased variance + 1e-8, as TRL 1.12's PPO); 0 elsewhere."""
    count = mask.sum()
    mean = torch.where(mask, x, 0.0).sum() / count
    centred = torch.where(mask, x - mean, 0.0)
    variance = (centred**2).sum() / (count - 1).clamp(min=1)
    return centred * torch.rsqrt(variance + 1e-8)


LARGEST_LOG_RATIO = 20.0
"""From here on a ratio is continued as a straight line: e^20 = 5e8, beyond any clip, and far enough
from float32's end that a gradient of this size has a norm."""


FURTHEST = 1e20
"""Where that line ends: of a token that pi_old never draws the ratio stays finite, as infinity
times an advantage of 0 would be no number."""


def ratio(logp: Float[Tensor, "*n"], old_logp: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """pi / pi_old = e^(log pi - log pi_old); of a log-ratio x above L = LARGEST_LOG_RATIO
    e^L (1 + x - L), its tangent, which does not overflow (and ends at FURTHEST): e^x times the
    slope 0 that a clip leaves
    would be no number where e^x is infinite."""
    x = logp - old_logp
    beyond = (x - LARGEST_LOG_RATIO).clamp(min=0, max=FURTHEST)
    return torch.exp(x.clamp(max=LARGEST_LOG_RATIO)) * (1 + beyond)


def kl_k1(logp: Float[Tensor, "*n"], reference_logp: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log pi - log pi_ref: unbiased for KL(pi || pi_ref) under samples of pi (Schulman's k1)."""
    return logp - reference_logp


def kl_k2(logp: Float[Tensor, "*n"], reference_logp: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """(log pi - log pi_ref)^2 / 2 >= 0: a biased estimate of KL(pi || pi_ref) under samples of pi (Schulman's k2)."""
    return 0.5 * (logp - reference_logp) ** 2


def kl_k3(logp: Float[Tensor, "*n"], reference_logp: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """exp(log pi_ref - log pi) - (log pi_ref - log pi) - 1 >= 0: unbiased for KL(pi || pi_ref)
    under samples of pi (Schulman's k3). Finite, and rising, where exp would overflow: see `ratio`.
    """
    difference = reference_logp - logp
    return ratio(reference_logp, logp) - difference - 1


def answer_mean_weights(mask: Bool[Tensor, "P K T"]) -> Float[Tensor, "P K T"]:
    """Token weights of "mean over each answer's tokens, then over the K answers": 1 / (K |o_k|), in float64."""
    return mask.double() / mask.sum(-1, keepdim=True).clamp(min=1) / mask.shape[1]


def token_mean_weights(mask: Bool[Tensor, "P K T"]) -> Float[Tensor, "P K T"]:
    """Token weights whose per-prompt sums average, over the whole batch's P prompts, to the mean over its N tokens: P / N, in float64."""
    return mask.double() * mask.shape[0] / mask.sum().clamp(min=1)


def constant_length_weights(mask: Bool[Tensor, "P K T"], length: int) -> Float[Tensor, "P K T"]:
    """Token weights of "sum over each answer's tokens / length, then mean over the K answers": 1 / (K length), in float64."""
    return mask.double() / (mask.shape[1] * length)
