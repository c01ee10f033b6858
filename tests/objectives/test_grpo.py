"""GRPO by hand (arXiv 2402.03300, Eq. 3), and every reading of its family."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from grao_bench.core.types import Needs, PolicyOutput
from grao_bench.objectives import load_objective
from grao_bench.objectives.grpo import group_advantages, kl_penalty, token_weights

from ..small import padded, rectangle

BATCH = rectangle(Needs(rollouts=2), [[1, 2]]).fill(
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
    torch.testing.assert_close(group_advantages(R, "population"), torch.tensor(expected, dtype=torch.float64), atol=1e-15, rtol=0)


STDS = ("population", "sample", "none", "batch")


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reward", [0.1, -1.0, 0.0, 1 / 3])
def test_equal_rewards_teach_nothing(reward, std, dtype):
    """Eight equal rewards: exactly 0, though their computed mean and sigma may not be theirs and 0; beside a group that has a signal."""
    R = torch.full((2, 8), reward, dtype=dtype)
    R[1, 3] += 1
    A = group_advantages(R, std)
    assert A[0].tolist() == [0.0] * 8
    assert A[1, 3] > 0
    assert A.dtype == dtype


@pytest.mark.parametrize("std", STDS)
def test_one_answer_has_no_advantage(std):
    """Over one prompt or three: a group of one has no deviation."""
    assert group_advantages(torch.tensor([[1.0]]), std).tolist() == [[0.0]]
    assert group_advantages(torch.tensor([[1.0], [2.0], [4.0]]), std).tolist() == [[0.0]] * 3


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        ("population", (1.0, 1.0)),
        ("sample", (1 / (math.sqrt(2) + 1e-4), 2 / (math.sqrt(8) + 1e-4))),
        ("none", (1.0, 2.0)),
        ("batch", (1 / (math.sqrt(14 / 3) + 1e-4), 2 / (math.sqrt(14 / 3) + 1e-4))),
    ],
)
def test_advantages_by_every_deviation(std, expected):
    """R = (0, 2) and (1, 5): means 1 and 3, deviations from them -+1 and -+2. Population variances 1 and 4, sample's 2 and 8; all four
    rewards have mean 2 and unbiased variance (4 + 0 + 1 + 9)/3 = 14/3."""
    A = group_advantages(torch.tensor([[0.0, 2.0], [1.0, 5.0]], dtype=torch.float64), std)
    a, b = expected
    assert A.flatten().tolist() == pytest.approx([-a, a, -b, b], abs=1e-15)


def test_a_sample_deviation_in_float32_is_computed_in_float64():
    """Rewards d = 32 float32 steps apart, above what counts as rounding: their sample deviation is
    d/sqrt(2), so A = -+(d/2)/(d/sqrt(2) + 1e-4); in float32 d/2 would be off by a 64th."""
    a, b = torch.tensor(0.1), torch.tensor(0.1 + 32 * 2**-27)
    d = b.double().item() - a.double().item()
    A = group_advantages(torch.stack([a, b])[None], "sample")[0, 1].item()
    assert pytest.approx(d / 2 / (d / 2**0.5 + 1e-4), rel=1e-4) == A


GOLDEN = rectangle(Needs(rollouts=2), [[1, 3], [2, 1]]).fill(
    rewards=torch.tensor([[1.0, -1.0], [0.5, 1.5]], dtype=torch.float64),
    old_logp=padded([[[-1.0], [-1.0, -2.0, -3.0]], [[-2.0, -1.0], [-0.5]]]),
)
RATIOS = padded([[[1.5], [0.5, 1.0, 1.5]], [[1.1, 0.9], [0.5]]])
"""A = (1, -1) and (-1, 1). min(r A, clip(r, 0.8, 1.2) A) per token, which is also r's gain but where a clip holds (*):
1.2* | -0.8*, -1, -1.5 and -1.1, -0.9 | 0.5. Sums over the answers: 1.2, -3.3 and -2, 0.5."""


def golden(name="grpo", **fields):
    """(the policy part per prompt, its gradient's value per token, prompt by prompt)."""
    objective = load_objective(name, rollouts=2, kl=0.0, **fields)
    logp = (GOLDEN.old_logp + torch.where(GOLDEN.mask, RATIOS, 1.0).log()).requires_grad_()
    loss = loss_of(logp, GOLDEN, objective)
    loss.total.sum().backward()
    return loss.total.tolist(), logp.grad


@pytest.mark.parametrize(
    ("reduction", "max_tokens", "loss", "weights"),
    [
        ("answer_mean", None, [-(1.2 - 3.3 / 3) / 2, -(-2 / 2 + 0.5) / 2], [1 / 6, 1 / 4, 1 / 2]),
        ("token_mean", None, [-(1.2 - 3.3) * 2 / 7, -(-2 + 0.5) * 2 / 7], [2 / 7] * 3),
        ("constant_length", 4, [-(1.2 - 3.3) / 8, -(-2 + 0.5) / 8], [1 / 8] * 3),
    ],
)
def test_two_prompts_two_answers_three_tokens(reduction, max_tokens, loss, weights):
    """Answer mean: each sum over its length, then over two. Token mean: N = 7 and P = 2. Constant: over 2 * 4. The gradient is -w r A
    where r itself is the minimum, 0 where its clip is."""
    value, gradient = golden(reduction=reduction, max_tokens=max_tokens)
    assert value == pytest.approx(loss, abs=1e-14)
    a, b, c = weights
    expected = padded([[[0.0], [0.0, a * 1.0, a * 1.5]], [[b * 1.1, b * 0.9], [-c * 0.5]]])
    torch.testing.assert_close(gradient, expected, atol=1e-14, rtol=0)


def test_the_weights_alone():
    """Of GOLDEN's mask: 1/(2 |o|), 2/7, and 1/(2 * 10)."""
    a, b, c = (token_weights(GOLDEN.mask, *reading) for reading in (("answer_mean", None), ("token_mean", None), ("constant_length", 10)))
    torch.testing.assert_close(a, padded([[[1 / 2], [1 / 6] * 3], [[1 / 4] * 2, [1 / 2]]]))
    torch.testing.assert_close(b, torch.where(GOLDEN.mask, 2 / 7, 0.0).double())
    torch.testing.assert_close(c, torch.where(GOLDEN.mask, 0.05, 0.0).double())


def test_clip_higher():
    """DAPO's 0.28: the one ratio held at 1.2 is held at 1.28, and prompt 1's loss falls by 0.08 * 2/7."""
    value, _ = golden("dapo")
    assert value == pytest.approx([-(1.28 - 3.3) * 2 / 7, 3 / 7], abs=1e-14)


def test_one_ratio_per_answer():
    """Log-ratios log 4 and 0 of two tokens: the answer's ratio is the geometric mean, 2. A = -1, nothing clipped below: the gain is -2.

    The loss is 2/G = 1; both tokens get d loss / d log pi = 2/(2 * 2) = 0.5, whichever moved. The other answer, ratio 1 with A = 1,
    gives -1/2 and a gradient of -1/2.
    """
    logp = (BATCH.old_logp + padded([[[0.0], [math.log(4), 0.0]]])).requires_grad_()
    loss = loss_of(logp, BATCH, replace(GRPO, kl=0.0, ratio="sequence"))
    assert loss.total.item() == pytest.approx(0.5, abs=1e-15)
    assert loss.stats["clipped"].item() == 0.5
    loss.total.sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([-0.5, 0, 0.5, 0.5], abs=1e-15)


def test_a_clip_per_answer_silences_the_whole_answer():
    """Log-ratios log 4 and 0 with A = 1: the answer's ratio 2 is held at 1.28, so neither token has a gradient; per token one would."""
    batch = BATCH.fill(rewards=-BATCH.rewards)
    for ratio, expected in (("sequence", [0.5, 0, 0, 0]), ("token", [0.5, 0, 0, -0.25])):
        logp = (batch.old_logp + padded([[[0.0], [math.log(4), 0.0]]])).requires_grad_()
        loss_of(logp, batch, replace(GRPO, kl=0.0, ratio=ratio)).total.sum().backward()
        assert logp.grad.flatten().tolist() == pytest.approx(expected, abs=1e-15), ratio


KL_READINGS = [(estimator, gradient) for estimator in ("k1", "k2", "k3") for gradient in ("as_loss", "corrected")]
D, R = math.log(2), 1.5
VALUE_AND_GRADIENT = {
    ("k1", "as_loss"): (D, 1.0),
    ("k2", "as_loss"): (D**2 / 2, D),
    ("k3", "as_loss"): (0.5 + D - 1, 1 - 0.5),
    ("k1", "corrected"): (R * D, R * (1 + D)),
    ("k2", "corrected"): (R * D**2 / 2, R * (D**2 / 2 + D)),
    ("k3", "corrected"): (R * (0.5 + D - 1), R * D),
}


@pytest.mark.parametrize(("estimator", "gradient"), KL_READINGS)
def test_every_kl_term_and_its_gradient(estimator, gradient):
    """log pi - log ref = log 2 and r = 1.5: k1 = 0.6931, k2 = 0.2402, k3 = e^-d + d - 1 = 0.1931; corrected they are 1.5 times as much.

    d/d log pi: 1, d, 1 - e^-d = 0.5; of r k it is r k + r k', which for k3 comes to r d exactly.
    """
    logp = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    old = logp.detach() - math.log(R)
    penalty = kl_penalty(logp, logp.detach() - D, torch.exp(logp - old), estimator, gradient)
    penalty.sum().backward()
    assert (penalty.item(), logp.grad.item()) == pytest.approx(VALUE_AND_GRADIENT[estimator, gradient], abs=1e-14)


def kl(p, q):
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize(("estimator", "gradient"), KL_READINGS)
def test_what_each_kl_term_teaches_on_policy(estimator, gradient):
    """Averaged over a distribution small enough to enumerate, at pi = pi_old: which divergence the term's gradient is that of."""
    random = torch.Generator().manual_seed(1)
    logits, reference = torch.randn(2, 5, generator=random, dtype=torch.float64)
    reference = reference.log_softmax(-1)
    logp = logits.requires_grad_().log_softmax(-1)
    old = logp.detach()
    term = (old.exp() * kl_penalty(logp, reference, torch.exp(logp - old), estimator, gradient)).sum()
    half_square = (logp.exp() * 0.5 * (logp - reference) ** 2).sum()
    expected = {
        ("k1", "as_loss"): 0.0 * logp.sum(),
        ("k2", "as_loss"): kl(logp, reference),
        ("k3", "as_loss"): kl(reference, logp),
        ("k1", "corrected"): kl(logp, reference),
        ("k2", "corrected"): half_square,
        ("k3", "corrected"): kl(logp, reference),
    }[estimator, gradient]
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (term, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-14, rtol=0)
    if estimator != "k2":
        assert term.item() == pytest.approx(kl(logp, reference).item(), abs=1e-14)
    if (estimator, gradient) != ("k1", "as_loss"):
        assert ours.abs().max() > 0.05


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_corrected_terms_are_the_kl_under_an_older_policys_samples(estimator):
    """Value and gradient, where pi_old is neither pi nor the reference."""
    random = torch.Generator().manual_seed(2)
    logits, reference, old = torch.randn(3, 5, generator=random, dtype=torch.float64)
    reference, old = reference.log_softmax(-1), old.log_softmax(-1)
    logp = logits.requires_grad_().log_softmax(-1)
    term = (old.exp() * kl_penalty(logp, reference, torch.exp(logp - old), estimator, "corrected")).sum()
    torch.testing.assert_close(term, kl(logp, reference), atol=1e-14, rtol=0)
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (term, kl(logp, reference)))
    torch.testing.assert_close(ours, theirs, atol=1e-14, rtol=0)


def test_with_one_ratio_per_answer_that_ratio_corrects_the_kl():
    """Log-ratios log 4 and 0, so r = 2 at both tokens of o_2; log pi - log ref = log 2 and 0 there, 0 on o_1.

    k1 corrected sums to 2 log 2 over |o_2| = 2 and G = 2: 0.1 * log(2)/2. As TRL 1.16 has it.
    """
    logp = BATCH.old_logp + padded([[[0.0], [math.log(4), 0.0]]])
    batch = BATCH.fill(reference_logp=logp - padded([[[0.0], [math.log(2), 0.0]]]))
    loss = loss_of(logp, batch, replace(GRPO, ratio="sequence", kl_estimator="k1", kl_gradient="corrected"))
    assert loss.parts["kl"].item() == pytest.approx(0.1 * math.log(2) / 2, abs=1e-15)


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
    loss = loss_of(logp, BATCH.fill(reference_logp=None), replace(GRPO, kl=0.0))
    assert loss.total.item() == pytest.approx(-0.065, abs=1e-15)
    assert list(loss.parts) == ["policy"]
    assert loss.stats["clipped"].item() == 1.0
    loss.total.sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([0, 0, 0, 0.375], abs=1e-15)


def test_k3_in_the_loss():
    """log ref - log pi = log 2 on o_1's only token: k3 = 2 - log 2 - 1 = 0.3068528; the loss holds kl * k3 / G = 0.1 * 0.1534264.

    d k3 / d log pi = 1 - e^(log ref - log pi) = -1, so the KL part's gradient there is -0.1/2, and 0 where the two agree.
    """
    batch = BATCH.fill(reference_logp=BATCH.old_logp + padded([[[math.log(2)], [0.0, 0.0]]]))
    logp = batch.old_logp.clone().requires_grad_()
    loss = loss_of(logp, batch)
    assert loss.parts["kl"].item() == pytest.approx(0.01534264, abs=1e-8)
    assert loss.stats["kl"].item() == pytest.approx(0.3068528 / 2, abs=1e-7)
    loss.parts["kl"].sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([-0.05, 0, 0, 0], abs=1e-15)


def test_only_what_lies_beyond_the_clip_is_counted_as_clipped():
    """Ratio 1 under clips of 0: none. GOLDEN's ratios: 1.5 of o_1; 0.5 and 1.5 of three; none of two; 0.5 of one."""
    loss = loss_of(BATCH.old_logp, BATCH, replace(GRPO, clip_low=0.0, clip_high=0.0))
    assert loss.stats["clipped"].tolist() == [0.0]
    logp = GOLDEN.old_logp + torch.where(GOLDEN.mask, RATIOS, 1.0).log()
    stats = loss_of(logp, GOLDEN, replace(GRPO, kl=0.0)).stats
    assert stats["clipped"].tolist() == pytest.approx([(1 + 2 / 3) / 2, 0.5], abs=1e-15)


def test_the_logged_kl_is_k3_whatever_is_trained_on():
    """log ref - log pi = log 2 on o_1: k3 = 2 - log 2 - 1, over two answers; k1 would be -log 2."""
    batch = BATCH.fill(reference_logp=BATCH.old_logp + padded([[[math.log(2)], [0.0, 0.0]]]))
    loss = loss_of(batch.old_logp, batch, replace(GRPO, kl_estimator="k1"))
    assert loss.stats["kl"].item() == pytest.approx((1 - math.log(2)) / 2, abs=1e-15)
    assert loss.parts["kl"].item() == pytest.approx(-0.1 * math.log(2) / 2, abs=1e-15)


def test_needs_follow_kl_and_updates_follow_their_fields():
    assert GRPO.needs.reference_logp
    assert not replace(GRPO, kl=0.0).needs.reference_logp
    assert replace(GRPO, epochs=3, minibatches=2).updates.count == 6
