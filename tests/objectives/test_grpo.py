"""GRPO by hand: arXiv 2402.03300, Eq. 3, with population statistics and no epsilon."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from grao_bench.objectives import load_objective
from grao_bench.objectives.grpo import group_advantages
from grao_bench.types import Needs, PolicyOutput

from ..small import padded, rectangle

BATCH = replace(
    rectangle(Needs(rollouts=2), [[1, 2]]),
    rewards=torch.tensor([[1.0, -1.0]], dtype=torch.float64),
    old_logp=padded([[[-1.0], [-1.0, -2.0]]]),
    reference_logp=padded([[[-1.0], [-1.0, -2.0]]]),
)
GRPO = load_objective("grpo", rollouts=2, clip_low=0.2, clip_high=0.28, kl=0.1)


def loss_of(logp, batch=BATCH, objective=GRPO):
    return objective.loss(PolicyOutput(logp=logp), objective.prepare(batch))


def test_advantages():
    """(1, 0, 0, 1): mean 1/2, sigma 1/2. (1, -1, 0, 0): mean 0, variance 2/4, so +-sqrt 2. (1, 1, 1, -1): mean 1/2, sigma sqrt 0.75."""
    R = torch.tensor([[1.0, 0, 0, 1], [1, -1, 0, 0], [1, 1, 1, -1]], dtype=torch.float64)
    root = math.sqrt(2)
    expected = [[1, -1, -1, 1], [root, -root, 0, 0], [3**-0.5] * 3 + [-(3**0.5)]]
    torch.testing.assert_close(group_advantages(R), torch.tensor(expected, dtype=torch.float64), atol=1e-15, rtol=0)


@pytest.mark.parametrize("reward", [0.1, -1.0, 0.0, 1 / 3])
def test_equal_rewards_teach_nothing(reward):
    """Eight equal float32 rewards: exactly 0, though their computed sigma may not be."""
    assert group_advantages(torch.full((2, 8), reward)).tolist() == [[0.0] * 8] * 2


def test_at_ratio_one_the_loss_is_zero_and_the_gradient_is_not():
    """A = (1, -1): the mean gain is (1 - 1)/2 = 0; d loss / d logp = -A_i / (G |o_i|) = -1/2 on o_1's token, +1/4 on each of o_2's."""
    logp = BATCH.old_logp.clone().requires_grad_()
    loss = loss_of(logp)
    assert loss.parts["policy"].item() == pytest.approx(0.0, abs=1e-15)
    loss.total.sum().backward()
    assert logp.grad.tolist() == [[[-0.5, 0.0], [0.25, 0.25]]]


def test_the_clip_at_both_sides():
    """o_1 (A = 1) at ratio 1.5 is held at 1.28; o_2 (A = -1) at ratios 0.5 and 1.5: -max(0.5, 0.8) = -0.8, and -1.5 unclipped.

    The loss is -(1.28 + (-0.8 - 1.5)/2)/2 = -0.065; only the last token keeps a gradient: 1.5/(2 * 2) = 0.375.
    """
    logp = (BATCH.old_logp + padded([[[math.log(1.5)], [math.log(0.5), math.log(1.5)]]])).requires_grad_()
    loss = loss_of(logp, replace(BATCH, reference_logp=None), replace(GRPO, kl=0.0))
    assert loss.total.item() == pytest.approx(-0.065, abs=1e-15)
    assert list(loss.parts) == ["policy"]
    assert loss.stats["clipped"].item() == 1.0
    loss.total.sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([0, 0, 0, 0.375], abs=1e-15)


def test_k3_in_the_loss():
    """log ref - log pi = log 2 on o_1's only token: k3 = 2 - log 2 - 1 = 0.3068528; the loss holds kl * k3 / G = 0.1 * 0.1534264.

    d k3 / d log pi = 1 - e^(log ref - log pi) = -1, so the KL part's gradient there is -0.1/2, and 0 where the two agree.
    """
    batch = replace(BATCH, reference_logp=BATCH.old_logp + padded([[[math.log(2)], [0.0, 0.0]]]))
    logp = batch.old_logp.clone().requires_grad_()
    loss = loss_of(logp, batch)
    assert loss.parts["kl"].item() == pytest.approx(0.01534264, abs=1e-8)
    assert loss.stats["kl"].item() == pytest.approx(0.3068528 / 2, abs=1e-7)
    loss.parts["kl"].sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([-0.05, 0, 0, 0], abs=1e-15)


def test_needs_follow_kl_and_updates_follow_their_fields():
    assert GRPO.needs.reference_logp
    assert not replace(GRPO, kl=0.0).needs.reference_logp
    assert replace(GRPO, epochs=3, minibatches=2).updates.count == 6
