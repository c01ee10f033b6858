"""The shared tensor operations, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grao_bench.core.ops import (
    answer_mean_weights,
    constant_length_weights,
    equal_but_for_rounding,
    group_moments,
    kl_k1,
    kl_k2,
    kl_k3,
    masked_mean,
    masked_sum,
    no_signal,
    ratio,
    sign_with_ties,
    standardise,
    stream_seed,
    token_mean_weights,
    whiten,
)

MASK = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
NAN = math.nan


def test_a_stream_seed_is_the_same_on_every_machine():
    """The first 8 bytes of sha256("7/rollouts/3"), big end first, halved: printf 7/rollouts/3 | sha256sum gives 22f5e4c6494313eb..."""
    assert stream_seed(7, "rollouts", 3) == 0x22F5E4C6494313EB // 2


def test_stream_seeds_differ_by_seed_name_and_step_and_fit_63_bits():
    seeds = [stream_seed(seed, name, step) for seed in range(5) for name in ("order", "rollouts") for step in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


@pytest.mark.parametrize(
    ("difference", "margin", "sign"),
    [
        (0.3, 0.0, 1),
        (-0.3, 0.0, -1),
        (0.0, 0.0, 0),
        (0.05, 0.1, 0),
        (-0.05, 0.1, 0),
        (0.1, 0.1, 1),
        (-0.1, 0.1, -1),
        (0.3 - 0.2, 0.1, 1),  # 0.09999999999999998
        (0.2 - 0.3, 0.1, -1),
        (4e-10, 0.0, 0),
        (2e-9, 0.0, 1),
        (-2e-9, 0.0, -1),
    ],
)
def test_a_difference_below_the_margin_is_a_tie(difference, margin, sign):
    """Exactly the margin decides, and a rounding error of sums of hundredths does not."""
    assert sign_with_ties(difference, margin) == sign
    assert isinstance(sign_with_ties(difference, margin), float)


def test_masked_sum_and_mean_read_only_what_the_mask_shows():
    """Rows 1+2, 5 and nothing: sums 3, 5, 0; means 1.5, 5, and 0 rather than 0/0."""
    x = torch.tensor([[1.0, 2.0, NAN], [5.0, NAN, NAN], [NAN, NAN, NAN]], dtype=torch.float64)
    assert masked_sum(x, MASK).tolist() == [3.0, 5.0, 0.0]
    assert masked_mean(x, MASK).tolist() == [1.5, 5.0, 0.0]


def test_masked_mean_sends_no_gradient_outside_the_mask():
    """d mean / d x_t = 1/|x| on real tokens and 0 elsewhere."""
    x = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    masked_mean(x, MASK).sum().backward()
    assert x.grad.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_group_without_signal_is_one_whose_rewards_are_equal():
    rewards = torch.tensor([[1.0, 1.0, 1.0], [0.1, 0.1, 0.1], [1.0, 1.0, 0.5]])
    assert no_signal(rewards).tolist() == [True, True, False]


def test_group_moments_are_of_the_population():
    """(1, 1, 1, -1): mean 2/4, variance (3 * 0.25 + 2.25) / 4 = 0.75 (the sample's would be 1)."""
    mu, sigma = group_moments(torch.tensor([[1.0, 1.0, 1.0, -1.0]], dtype=torch.float64))
    assert mu.tolist() == [[0.5]]
    assert sigma.item() == pytest.approx(math.sqrt(0.75), abs=1e-15)


JUDGED = torch.tensor([[True, True, False, False], [False, True, False, False], [False] * 4])
SAID = torch.tensor([[1.0, 0.0, 7.0, NAN], [1.0, 3.0, 0.0, 0.0], [5.0] * 4])


def test_moments_are_over_what_was_judged():
    """1 and 0 with two others: mean 1/2, population deviation 1/2, the sample's 1/sqrt 2. Of one
    reward the deviation is 0, of none both are."""
    for correction, sigma in ((0, 0.5), (1, 0.5**0.5)):
        mu, found = group_moments(SAID, JUDGED, correction)
        assert mu.flatten().tolist() == [0.5, 3.0, 0.0]
        assert found.flatten().tolist() == pytest.approx([sigma, 0.0, 0.0], abs=1e-15)
    assert no_signal(SAID, JUDGED).tolist() == [False, True, True]


def test_what_was_not_judged_has_no_advantage():
    """Whatever stands there. +1 and -1 of the two that were."""
    found = standardise(SAID, *group_moments(SAID, JUDGED), no_signal(SAID, JUDGED), JUDGED)
    assert found.tolist() == [[1.0, -1.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]


def test_standardise_is_exactly_zero_in_a_silent_group_and_has_no_epsilon_elsewhere():
    """(0, 4) with mu 2 and sigma 2 is (-1, 1) exactly; a silent group is 0 whatever its moments are."""
    rewards = torch.tensor([[0.0, 4.0], [0.1, 0.1]])
    mu, sigma = torch.tensor([[2.0], [0.0]]), torch.tensor([[2.0], [7e-9]])
    assert standardise(rewards, mu, sigma, torch.tensor([False, True])).tolist() == [[-1.0, 1.0], [0.0, 0.0]]


NEXT = float(np.nextafter(np.float32(0.1), np.float32(1)))


@pytest.mark.parametrize(
    "group",
    [
        [0.1 + 0.2, 0.3, 0.3, 0.3],  # 0.30000000000000004
        [0.1, NEXT, 0.1, 0.1],  # float32's next number
        [-1e6, -1e6 - 0.5, -1e6, -1e6],
        [0.3 - 0.1 - 0.2, 0.0, 0.0, 0.0],  # -2.8e-17, where the parts cancel
        [1e-12, 0.0, 0.0, 0.0],
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rewards_that_differ_by_rounding_alone_are_no_signal(group, dtype):
    rewards = torch.tensor([group], dtype=dtype)
    assert no_signal(rewards).tolist() == [True]
    advantages = standardise(rewards, *group_moments(rewards), no_signal(rewards))
    assert advantages.tolist() == [[0.0] * 4]
    assert equal_but_for_rounding(min(group), max(group))


@pytest.mark.parametrize("group", [[1.0, 1.00001], [-1000.0, -1000.01], [1e-8, 0.0], [0.0, 1e-3]])
def test_rewards_that_differ_by_more_are_a_signal(group):
    """A hundred thousandth of the largest, or 1e-8."""
    rewards = torch.tensor([group], dtype=torch.float64)
    assert no_signal(rewards).tolist() == [False]
    advantages = standardise(rewards, *group_moments(rewards), no_signal(rewards))
    assert advantages.abs().tolist() == [pytest.approx([1.0, 1.0])]
    assert not equal_but_for_rounding(min(group), max(group))


def test_rewards_a_few_rounding_steps_apart_are_standardised_exactly():
    """Seven float32 rewards a and one twenty steps on: the group is (0 x 7, 1 x 1) up to scale, so
    mu = 1/8, sigma = sqrt(7)/8 and the advantages are -1/sqrt(7) and sqrt(7), whose sum is 0."""
    a = np.float32(0.1)
    rewards = torch.tensor([[a] * 7 + [a + 20 * np.spacing(a)]])
    advantages = standardise(rewards, *group_moments(rewards), no_signal(rewards))
    assert advantages.dtype == torch.float32
    torch.testing.assert_close(advantages, torch.tensor([[-(7**-0.5)] * 7 + [7**0.5]]), atol=1e-6, rtol=0)


def test_whitening():
    """1, 2, 3 have mean 2 and unbiased variance 1, so they become -1, 0, 1 (less the 1e-8 under the root); padding stays 0."""
    x = torch.tensor([[1.0, 2.0], [3.0, 1e6]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(whiten(x, mask), torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), atol=1e-7, rtol=0)


def test_whitening_a_single_entry_or_equal_entries_gives_zero():
    one = torch.tensor([True, False])
    assert whiten(torch.tensor([5.0, 9.0]), one).tolist() == [0.0, 0.0]
    assert whiten(torch.tensor([3.0, 3.0]), torch.tensor([True, True])).tolist() == [0.0, 0.0]


def test_both_kl_estimators_average_to_the_kl():
    """sum_x pi(x) k(x) = KL(pi || ref) = sum_x pi(x) log(pi(x) / ref(x)) exactly, for a distribution small enough to enumerate."""
    random = torch.Generator().manual_seed(0)
    logp, reference = torch.randn(2, 6, generator=random, dtype=torch.float64).log_softmax(-1)
    kl = torch.nn.functional.kl_div(reference, logp, log_target=True, reduction="sum")
    assert kl > 0.1
    torch.testing.assert_close((logp.exp() * kl_k1(logp, reference)).sum(), kl, atol=1e-14, rtol=0)
    torch.testing.assert_close((logp.exp() * kl_k3(logp, reference)).sum(), kl, atol=1e-14, rtol=0)


def test_k3_is_never_negative_and_k1_is():
    """At log pi - log ref = 1: k1 = 1, k3 = e^-1 + 1 - 1 = e^-1. At -1: k1 = -1, k3 = e - 2."""
    logp, reference = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    assert kl_k1(logp, reference).tolist() == [1.0, -1.0, 0.0]
    assert kl_k3(logp, reference).tolist() == pytest.approx([math.exp(-1), math.e - 2, 0.0], abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_ratio_is_the_exponential_to_the_last_bit_up_to_its_bound(dtype):
    """Value and gradient; from there on a straight line."""
    x = torch.cat([torch.linspace(-120, 20, 4001, dtype=dtype), torch.randn(999, dtype=dtype)])
    x = x.requires_grad_()
    zero = torch.zeros_like(x)
    found, expected = ratio(x, zero), torch.exp(x - zero)
    assert torch.equal(found, expected)
    below = x < 20
    gradients = [torch.autograd.grad(y.sum(), x)[0][below] for y in (found, expected)]
    assert torch.equal(*gradients)
    far = torch.tensor([21.0, 150.0, 1e4], dtype=dtype, requires_grad=True)
    line = ratio(far, torch.zeros_like(far))
    torch.testing.assert_close(line, math.exp(20) * (far - 19))
    (slope,) = torch.autograd.grad(line.sum(), far)
    torch.testing.assert_close(slope, torch.full_like(far, math.exp(20)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_k3_is_finite_and_pushes_back_however_far_the_policy_is(dtype):
    """log pi = -100 under a reference of -1: e^99 is no float32. The slope is 1 - e^20, up."""
    logp = torch.tensor([-100.0, -2000.0, -1.0], dtype=dtype, requires_grad=True)
    k3 = kl_k3(logp, torch.tensor([-1.0, -1.0, -2000.0], dtype=dtype))
    k3.sum().backward()
    assert k3[:2].min() > 1e9
    assert k3[1] > k3[0]
    assert k3[2].item() == pytest.approx(1998.0)
    expected = torch.tensor([1 - math.exp(20)] * 2 + [1.0], dtype=dtype)
    torch.testing.assert_close(logp.grad, expected)


def test_k2_is_half_the_square():
    """At log pi - log ref = 2 and -1: 2 and 1/2."""
    logp, reference = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0])
    assert kl_k2(logp, reference).tolist() == [2.0, 0.5]


def test_answer_mean_weights_give_every_answer_the_same_say():
    """K = 2 answers of 2 and 1 tokens: 1/(2*2) on each token of the first, 1/(2*1) on the second's; an empty answer weighs nothing."""
    mask = torch.tensor([[[True, True], [True, False]], [[False, False], [True, True]]])
    assert answer_mean_weights(mask).tolist() == [[[0.25, 0.25], [0.5, 0.0]], [[0.0, 0.0], [0.25, 0.25]]]


def test_token_mean_weights_give_every_token_the_same_say():
    """P = 2 prompts with 3 and 1 tokens: 2/4 on each token, so that the mean over prompts of the weighted sums is the mean over tokens."""
    mask = torch.tensor([[[True, True], [True, False]], [[False, False], [True, False]]])
    weights = token_mean_weights(mask)
    assert weights.tolist() == [[[0.5, 0.5], [0.5, 0.0]], [[0.0, 0.0], [0.5, 0.0]]]
    assert weights.sum((1, 2)).mean() == 1


def test_constant_length_weights_are_one_number():
    """K = 2 and a length of 8: 1/16 on every token, 0 elsewhere; in float64."""
    weights = constant_length_weights(torch.tensor([[[True, True], [True, False]]]), 8)
    assert weights.tolist() == [[[0.0625, 0.0625], [0.0625, 0.0]]]
    assert weights.dtype == torch.float64
