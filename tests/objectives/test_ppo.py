"""PPO by hand: the clip at both sides, the value clip, the shaped reward, GAE, whitening, and a whole loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from grao_bench.core.types import Needs, PolicyOutput
from grao_bench.objectives import load_objective
from grao_bench.objectives.ppo import clipped_surrogate, gae, shaped_rewards, value_loss

from ..small import padded, rectangle


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_ratio_is_clipped_only_where_it_gains_too_much():
    """Ratios 1.5, 0.5, 1.5, 0.5 with A = 1, 1, -1, -1 and a clip of 0.2.

    min(rA, clip(r)A): min(1.5, 1.2) = 1.2, min(0.5, 0.8) = 0.5, min(-1.5, -1.2) = -1.5, min(-0.5, -0.8) = -0.8.
    The gradient in log pi is rA = 0.5 and -1.5 where r itself is the minimum, and 0 where the clip is.
    """
    logp = vector(1.5, 0.5, 1.5, 0.5).log().requires_grad_()
    gain = clipped_surrogate(logp, torch.zeros(4, dtype=torch.float64), vector(1, 1, -1, -1), 0.2, 0.2)
    assert gain.tolist() == pytest.approx([1.2, 0.5, -1.5, -0.8], abs=1e-15)
    gain.sum().backward()
    assert logp.grad.tolist() == pytest.approx([0.0, 0.5, -1.5, 0.0], abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("apart", [30.0, 150.0, 2000.0])
def test_a_ratio_beyond_every_number_is_clipped(dtype, apart):
    """Log-ratio +150: with A = 1 the value is 1.2 and the slope 0. With A = -1 the ratio itself
    counts: large, finite, and its slope still lowers the answer's likelihood."""
    logp = torch.full((2,), apart, dtype=dtype, requires_grad=True)
    A = torch.tensor([1.0, -1.0], dtype=dtype)
    gain = clipped_surrogate(logp, torch.zeros(2, dtype=dtype), A, 0.2, 0.2)
    gain.sum().backward()
    assert gain[0].item() == pytest.approx(1.2)
    assert logp.grad[0] == 0
    assert gain.isfinite().all()
    assert logp.grad.isfinite().all()
    assert gain[1].item() <= -math.exp(20)
    assert logp.grad[1].item() == pytest.approx(-math.exp(20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_token_that_the_old_policy_never_draws_is_clipped(dtype):
    """log pi_old = -inf: 1.2, nothing and a number that is large, with no NaN among the slopes."""
    logp = torch.full((3,), -1.0, dtype=dtype, requires_grad=True)
    never = torch.full((3,), -torch.inf, dtype=dtype)
    gain = clipped_surrogate(logp, never, torch.tensor([1.0, 0.0, -1.0], dtype=dtype), 0.2, 0.2)
    gain.sum().backward()
    assert gain[:2].tolist() == pytest.approx([1.2, 0.0], rel=4e-3)
    assert gain.isfinite().all()
    assert gain[2] < -1e20
    assert logp.grad.tolist() == [0.0, 0.0, 0.0]


def test_the_clip_may_differ_by_side():
    """Low 0.1, high 0.3: A = 1 at r = 1.5 gives 1.3, A = -1 at r = 0.5 gives -0.9."""
    gain = clipped_surrogate(vector(1.5, 0.5).log(), vector(0, 0), vector(1, -1), 0.1, 0.3)
    assert gain.tolist() == pytest.approx([1.3, -0.9], abs=1e-15)


def test_the_value_may_move_by_its_clip_and_no_further():
    """V_old = 1, R = 2, clip 0.2; V = 1.5, 0.5, 1.1.

    1.5 is clipped to 1.2: max(0.5^2, 0.8^2)/2 = 0.32 and no gradient. 0.5 moved away from R: max(1.5^2, (0.8 - 2)^2)/2 = 1.125 with
    gradient V - R = -1.5. 1.1 is inside: 0.9^2/2 = 0.405, gradient -0.9.
    """
    V = vector(1.5, 0.5, 1.1).requires_grad_()
    loss = value_loss(V, vector(1, 1, 1), vector(2, 2, 2), 0.2)
    assert loss.tolist() == pytest.approx([0.32, 1.125, 0.405], abs=1e-15)
    loss.sum().backward()
    assert V.grad.tolist() == pytest.approx([0.0, -1.5, -0.9], abs=1e-15)


def test_the_reward_lands_on_the_last_real_token_and_the_kl_on_every_one():
    """kl = 0.1. Answer 1: log pi - log ref = 0.5, -0.5 gives -0.05, +0.05, and its R = 1 makes the last 1.05. Answer 2 (one token):
    -0.1 * 2 - 3 = -3.2. Padding stays 0, whatever stands there."""
    mask = torch.tensor([[[True, True, False], [True, False, False]]])
    logp = torch.tensor([[[-1.0, -2.0, 99.0], [-1.0, 99.0, 99.0]]], dtype=torch.float64)
    reference = torch.tensor([[[-1.5, -1.5, 7.0], [-3.0, 7.0, 7.0]]], dtype=torch.float64)
    shaped = shaped_rewards(torch.tensor([[1.0, -3.0]]), logp, reference, mask, kl=0.1)
    expected = torch.tensor([[[-0.05, 1.05, 0.0], [-3.2, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(shaped, expected, atol=1e-15, rtol=0)


def test_gae_at_lambda_one_is_the_return_less_the_value():
    """r = 0, 0, 1 and V = 0.5, 0.25, 0 with gamma = lambda = 1: every return is 1, so A = 0.5, 0.75, 1."""
    A = gae(padded([[[0, 0, 1]]]), padded([[[0.5, 0.25, 0.0]]]), torch.ones(1, 1, 3, dtype=torch.bool), 1.0, 1.0)
    assert A.tolist() == [[[0.5, 0.75, 1.0]]]


def test_gae_at_lambda_zero_is_the_one_step_error():
    """gamma = 0.5: delta = 0 + 0.5 * 0.25 - 0.5, 0 + 0 - 0.25, 1 - 0."""
    A = gae(padded([[[0, 0, 1]]]), padded([[[0.5, 0.25, 0.0]]]), torch.ones(1, 1, 3, dtype=torch.bool), 0.5, 0.0)
    assert A.tolist() == [[[-0.375, -0.25, 1.0]]]


def test_gae_is_the_double_sum():
    """arXiv 1506.02438, Eq. 16 written out, on ragged answers with anything in the padding."""
    random, lengths, gamma, lam = torch.Generator().manual_seed(0), [[5, 1, 3], [2, 4, 5]], 0.9, 0.8
    r, V = torch.randn(2, 2, 3, 5, generator=random, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(lengths)[..., None]
    A = gae(r, V, mask, gamma, lam)
    for p, row in enumerate(lengths):
        for k, n in enumerate(row):
            delta = [r[p, k, t] + (gamma * V[p, k, t + 1] if t + 1 < n else 0) - V[p, k, t] for t in range(n)]
            expected = [sum((gamma * lam) ** (u - t) * delta[u] for u in range(t, n)).item() for t in range(n)]
            assert A[p, k].tolist() == pytest.approx([*expected, *[0.0] * (5 - n)], abs=1e-14)


BATCH = rectangle(Needs(rollouts=1), [[2]]).fill(
    rewards=torch.tensor([[1.0]], dtype=torch.float64),
    old_logp=padded([[[-1.0, -1.0]]]),
    reference_logp=padded([[[-1.0, -1.0]]]),
    old_values=padded([[[0.5, 0.0]]]),
)
PPO = load_objective("ppo", rollouts=1, gamma=1.0, lam=1.0, clip=0.2, value_clip=0.2, value_coef=0.5)


def test_prepare():
    """No KL, R = 1, V = 0.5, 0: returns 1, 1, so A = 0.5, 1, whose mean is 0.75 and unbiased variance 0.125: whitened -+0.25/0.353553."""
    batch = PPO.prepare(BATCH)
    assert batch.returns.tolist() == [[[1.0, 1.0]]]
    torch.testing.assert_close(batch.advantages, padded([[[-(0.5**0.5), 0.5**0.5]]]), atol=1e-6, rtol=0)


def test_a_whole_loss():
    """Both ratios 1.5 and A = -+0.7071068: min(-1.0606602, -0.8485281) and min(1.0606602, 0.8485281), so the mean gain is -0.1060660.

    V = 0.5, 0.5 from 0.5, 0 with returns 1, 1: 0.25/2 = 0.125, and max(0.25, (0.2 - 1)^2)/2 = 0.32; mean 0.2225, times 0.5 = 0.11125.
    """
    moved = PolicyOutput(BATCH.old_logp + math.log(1.5), {"values": padded([[[0.5, 0.5]]])})
    loss = PPO.loss(moved, PPO.prepare(BATCH))
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx({"policy": 0.1060660, "value": 0.11125}, abs=1e-6)
    assert loss.stats["clipped"].tolist() == [1.0]
    assert loss.stats["value_error"].tolist() == [0.5]


def test_every_token_has_the_same_say():
    """Answers of 1 and 3 tokens with V = 0 = old values, gamma = lambda = 1, R = 1: 1/2 on each of 4 tokens, however they lie: mean 0.5."""
    batch = rectangle(Needs(rollouts=2), [[1, 3]])
    zero = torch.zeros(batch.mask.shape, dtype=torch.float64)
    batch = batch.fill(rewards=torch.ones(1, 2, dtype=torch.float64), old_logp=zero, reference_logp=zero, old_values=zero)
    values = torch.where(batch.mask, 0.0, 9.0).double().requires_grad_()
    loss = PPO.loss(PolicyOutput(zero, {"values": values}), PPO.prepare(batch))
    assert loss.parts["value"].item() == pytest.approx(0.5 * 0.5, abs=1e-15)
    loss.parts["value"].sum().backward()
    assert values.grad.tolist() == [[[-0.125, 0.0, 0.0], [-0.125, -0.125, -0.125]]]


def test_a_policy_that_drifts_from_the_reference_pays_for_it():
    """kl = 0.5, R = 0, one answer of two tokens with log pi - log ref = 1, 0: rewards -0.5, 0, so the returns are -0.5, 0."""
    batch = BATCH.fill(rewards=torch.zeros(1, 1, dtype=torch.float64), reference_logp=padded([[[-2.0, -1.0]]]))
    assert replace(PPO, kl=0.5).prepare(batch).returns.tolist() == [[[-0.5, 0.0]]]


def test_two_prompts_two_answers_three_tokens():
    """No KL, V_old = 0, gamma = lambda = 1: every token's return is its answer's R, 1 on 1 + 1 tokens and -1 on 2 + 3.

    Mean -3/7 and unbiased variance (7 - 9/7)/6 = 20/21, so A = 10/7 sqrt(21/20) = 1.4638501 and -4/7 sqrt(21/20) = -0.5855400.
    At ratio 1 prompt 1 loses -2/7 (1.4638501 - 2 * 0.5855400) = -0.0836486 and prompt 2 the opposite. V = 0.5, clipped to 0.2:
    max(0.25, 0.64)/2 = 0.32 where R = 1, max(2.25, 1.44)/2 = 1.125 where it is -1; 0.5 * 2/7 * (0.32 + 2 * 1.125) = 0.3671429 and
    0.5 * 2/7 * (3 * 1.125 + 0.32) = 0.5278571.
    """
    batch = rectangle(Needs(rollouts=2), [[1, 2], [3, 1]])
    zero = torch.zeros(batch.mask.shape, dtype=torch.float64)
    batch = batch.fill(rewards=torch.tensor([[1.0, -1], [-1, 1]]).double(), old_logp=zero, reference_logp=zero - 1, old_values=zero)
    objective = replace(PPO, rollouts=2, kl=0.0)
    loss = objective.loss(PolicyOutput(zero, {"values": zero + 0.5}), objective.prepare(batch))
    assert loss.parts["policy"].tolist() == pytest.approx([-0.0836486, 0.0836486], abs=1e-7)
    assert loss.parts["value"].tolist() == pytest.approx([0.3671429, 0.5278571], abs=1e-7)
    assert loss.stats["clipped"].tolist() == [0.0, 0.0]
    assert loss.stats["value_error"].tolist() == [(0.5 + 1.5) / 2] * 2


def test_the_clip_is_counted_beyond_it_on_either_side():
    """Ratios 0.7, 0.9, 1.1 with a clip of 0.2: one of three."""
    batch = rectangle(Needs(rollouts=1), [[3]])
    zero = torch.zeros(batch.mask.shape, dtype=torch.float64)
    batch = batch.fill(rewards=torch.ones(1, 1).double(), old_logp=zero - 1, reference_logp=zero, old_values=zero)
    policy = PolicyOutput(torch.tensor([[[0.7, 0.9, 1.1]]]).double().log() - 1, {"values": zero})
    assert PPO.loss(policy, PPO.prepare(batch)).stats["clipped"].tolist() == pytest.approx([1 / 3], abs=1e-15)


def test_a_policy_that_has_not_moved_is_not_clipped_by_any_clip():
    """Ratio 1 lies on a clip of 0, not beyond it."""
    policy = PolicyOutput(BATCH.old_logp, {"values": BATCH.old_values})
    assert replace(PPO, clip=0.0).loss(policy, PPO.prepare(BATCH)).stats["clipped"].tolist() == [0.0]


def test_needs_and_updates_follow_the_fields():
    needs = replace(PPO, rollouts=3).needs
    assert needs == Needs(rollouts=3, rewards=True, old_logp="prepare", reference_logp=True, values=True)
    updates = replace(PPO, epochs=3, minibatches=2, value_only_steps=4).updates
    assert (updates.epochs, updates.minibatches, updates.value_only_steps) == (3, 2, 4)
