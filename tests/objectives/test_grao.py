"""GRAO by hand: arXiv 2508.07750, Eq. 3 term by term, Eq. 4 in both readings, and what the two imply exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.ops import masked_mean
from grao_bench.core.types import Needs, PolicyOutput
from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.objectives.grao import grao, grao_advantages, grao_clip0, grao_reference_only

from .. import oracle
from ..small import WORDS, moved, padded, rectangle, tiny_qwen2

READINGS = ("outputs", "outputs_and_reference")


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_equation_3_term_by_term():
    """J_o = (-1, -3), J_y = -2, A = (2, -1), A_y = 0.5, alpha = 1, beta = 0.5, lambda = 0.6.

    exploration (2 * -1 + -1 * -3)/2 = 0.5; imitation 0.5 * 0.5 * -2 = -0.5; regulariser
    0.6 * (2 * (-1 + 2) - (-3 + 2))/2 = 0.6 * 1.5 = 0.9.
    """
    gains = grao(row(-1, -3), row(-2), row(2, -1), row(0.5), 1.0, 0.5, 0.6)
    assert {name: gain.item() for name, gain in gains.items()} == pytest.approx(
        {"exploration": 0.5, "imitation": -0.5, "regulariser": 0.9}, abs=1e-15
    )


def test_alpha_weighs_exploration_alone():
    """alpha = 0 leaves the regulariser's own lambda A_i J(o_i) where it was."""
    gains = grao(row(-1, -3), row(-2), row(2, -1), row(0.5), 0.0, 0.5, 0.6)
    assert {name: gain.item() for name, gain in gains.items()} == pytest.approx(
        {"exploration": 0.0, "imitation": -0.5, "regulariser": 0.9}, abs=1e-15
    )


def test_equation_4_over_the_outputs():
    """R_o = (1, 1, 1, -1), R_y = 0: mu = 1/2, sigma^2 = (3 * 0.25 + 2.25)/4 = 0.75.

    So A_o = 1/sqrt 3 thrice and -sqrt 3, A_y = -1/sqrt 3.
    """
    A_o, A_y = grao_advantages(row(1, 1, 1, -1), row(0), "outputs")
    assert A_o[0].tolist() == pytest.approx([3**-0.5] * 3 + [-(3**0.5)], abs=1e-15)
    assert A_y.item() == pytest.approx(-(3**-0.5), abs=1e-15)


def test_equation_4_over_outputs_and_reference():
    """The same five rewards: mu = 2/5, sigma^2 = (3 * 0.36 + 1.96 + 0.16)/5 = 0.64.

    So A_o = 0.6/0.8 thrice and -1.4/0.8, A_y = -0.4/0.8.
    """
    A_o, A_y = grao_advantages(row(1, 1, 1, -1), row(0), "outputs_and_reference")
    assert A_o[0].tolist() == pytest.approx([0.75] * 3 + [-1.75], abs=1e-15)
    assert A_y.item() == pytest.approx(-0.5, abs=1e-15)


@pytest.mark.parametrize("group", READINGS)
@pytest.mark.parametrize("reward", [0.1, 1.0, -1.0, 0.0])
def test_equal_rewards_teach_nothing(group, reward):
    """Eight outputs and a reference with one float32 reward: exactly 0, where sigma = 7e-9 would make advantages of -1."""
    A_o, A_y = grao_advantages(torch.full((1, 8), reward), torch.full((1, 1), reward), group)
    assert (A_o.tolist(), A_y.tolist()) == ([[0.0] * 8], [[0.0]])


def test_equal_outputs_and_another_reference():
    """R_o = (-1, -1, -1, -1), R_y = 0. Outputs alone have sigma = 0: nothing is learned, from the reference neither.
    With the reference in the group: mu = -0.8, sigma = 0.4, A_o = -0.5, A_y = 2."""
    A_o, A_y = grao_advantages(row(-1, -1, -1, -1), row(0), "outputs")
    assert (A_o.tolist(), A_y.tolist()) == ([[0.0] * 4], [[0.0]])
    A_o, A_y = grao_advantages(row(-1, -1, -1, -1), row(0), "outputs_and_reference")
    assert A_o[0].tolist() == pytest.approx([-0.5] * 4, abs=1e-15)
    assert A_y.item() == pytest.approx(2.0, abs=1e-15)


def reduced(group, J_o, J_y, A_o, A_y, alpha, beta, lam):
    """What Eq. 3 comes to: sum_i A_i is 0 over the outputs and -A_y with the reference in the group."""
    weight = beta if group == "outputs" else beta + lam / J_o.shape[-1]
    return (alpha + lam) * (A_o * J_o).mean(-1) + weight * A_y[:, 0] * J_y[:, 0]


@pytest.mark.parametrize("group", READINGS)
@pytest.mark.parametrize("seed", range(5))
def test_the_regulariser_only_reweighs_the_other_two(group, seed):
    """Paper.md's identities, for any rewards, loss and gradient: (alpha + lambda) mean A_i J(o_i) + beta A_y J(y) over the outputs,
    and (beta + lambda/G) A_y J(y) with the reference in the group."""
    random = torch.Generator().manual_seed(seed)
    objective = load_objective("grao", rollouts=3 + seed, beta=0.5, lam=0.6, alpha=1.0, group=group)
    lengths = torch.randint(1, 7, (4, objective.rollouts + 1), generator=random).tolist()
    batch, policy = moved(objective.needs, rectangle(objective.needs, lengths, seed), seed)
    batch = batch.fill(rewards=torch.randn(batch.rewards.shape, generator=random, dtype=torch.float64))

    loss = objective.loss(policy, objective.prepare(batch)).total
    J = masked_mean(policy.logp, batch.mask)
    A_o, A_y = grao_advantages(batch.rewards[:, :-1], batch.rewards[:, -1:], group)
    expected = -reduced(group, J[:, :-1], J[:, -1:], A_o, A_y, 1.0, 0.5, 0.6)

    torch.testing.assert_close(loss, expected, atol=1e-14, rtol=0)
    assert loss.abs().max() > 0.1
    (gradient,) = torch.autograd.grad(loss.sum(), policy.logp, retain_graph=True)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), policy.logp)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-14, rtol=0)
    assert gradient.abs().max() > 0.01


def test_a_whole_loss_from_tokens():
    """G = 2: o_1 of one token at -1, o_2 of two at -2 and -4 (J = -3), y of three at -2 each (J = -2); R = (1, -1), R_y = 0.5.

    Over the outputs mu = 0, sigma = 1: A = (1, -1), A_y = 0.5. exploration (-1 + 3)/2 = 1; imitation 0.5 * 0.5 * -2 = -0.5;
    regulariser 0.6 * ((-1 + 2) - (-3 + 2))/2 = 0.6. The loss is -(1 - 0.5 + 0.6) = -1.1.
    d loss / d logp: -(1 + 0.6) * A_i/(G |o_i|) = -0.8 on o_1, +0.4 on each of o_2; -beta A_y/|y| = -0.25/3 on each of y.
    """
    batch = rectangle(Needs(rollouts=2, chosen=True), [[1, 2, 3]]).fill(rewards=row(1, -1, 0.5))
    logp = padded([[[-1.0], [-2.0, -4.0], [-2.0, -2.0, -2.0]]]).requires_grad_()
    objective = load_objective("grao", rollouts=2)
    loss = objective.loss(PolicyOutput(logp=logp), objective.prepare(batch))
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(
        {"exploration": -1, "imitation": 0.5, "regulariser": -0.6}, abs=1e-15
    )
    assert loss.total.item() == pytest.approx(-1.1, abs=1e-15)
    assert {name: value.item() for name, value in loss.stats.items()} == pytest.approx({"A_y": 0.5, "J_y": -2.0, "J_o": -2.0}, abs=1e-15)
    loss.total.sum().backward()
    expected = padded([[[-0.8], [0.4, 0.4], [-0.25 / 3] * 3]])
    torch.testing.assert_close(logp.grad, expected, atol=1e-15, rtol=0)


GOLDEN = rectangle(Needs(rollouts=2, chosen=True), [[1, 3, 2], [2, 1, 3]]).fill(rewards=torch.tensor([[1.0, -1, 0.5], [0, 4, 1]]).double())
LOGP = padded([[[-1.0], [-1.0, -2.0, -6.0], [-1.0, -3.0]], [[-2.0, -4.0], [-1.0], [-1.0, -2.0, -3.0]]])
"""J_o = (-1, -3), J_y = -2 and J_o = (-3, -1), J_y = -2."""


def golden(name, batch=GOLDEN, **fields):
    """(parts, gradient) on GOLDEN."""
    logp = LOGP.clone().requires_grad_()
    objective = load_objective(name, rollouts=2, **fields)
    loss = objective.loss(PolicyOutput(logp=logp), objective.prepare(batch))
    loss.total.sum().backward()
    return {part: value.tolist() for part, value in loss.parts.items()}, logp.grad


def test_two_prompts_two_answers_three_tokens():
    """mu = 0, sigma = 1: A = (1, -1), A_y = 0.5; and mu = 2, sigma = 2: A = (-1, 1), A_y = -0.5.

    Gains: exploration (-1 + 3)/2 = 1 and (3 - 1)/2 = 1; imitation 0.5 * 0.5 * -2 = -0.5 and 0.5 * -0.5 * -2 = 0.5; regulariser
    0.6 ((-1 + 2) - (-3 + 2))/2 = 0.6 and 0.6 (-(-3 + 2) + (-1 + 2))/2 = 0.6.
    d loss / d logp = -(1 + 0.6) A_i/(2 |o_i|) on outputs, -0.5 A_y/|y| on references.
    """
    parts, gradient = golden("grao")
    expected = {"exploration": [-1, -1], "imitation": [0.5, -0.5], "regulariser": [-0.6, -0.6]}
    assert parts == {part: pytest.approx(value, abs=1e-15) for part, value in expected.items()}
    rows = [[[-0.8], [0.8 / 3] * 3, [-0.125] * 2], [[0.4] * 2, [-0.8], [0.25 / 3] * 3]]
    torch.testing.assert_close(gradient, padded(rows), atol=1e-15, rtol=0)


def test_table_3s_ablations():
    """Each takes one term of the golden case away and leaves the others; alpha = 0 leaves the regulariser's share of exploration."""
    full = {"exploration": [-1, -1], "imitation": [0.5, -0.5], "regulariser": [-0.6, -0.6]}
    for name, gone in (("grao_no_imitation", "imitation"), ("grao_no_exploration", "exploration"), ("grao_no_regulariser", "regulariser")):
        parts, _ = golden(name)
        assert parts == {part: pytest.approx(value, abs=1e-15) for part, value in (full | {gone: [0, 0]}).items()}, name
    _, gradient = golden("grao_no_exploration")
    rows = [[[-0.3], [0.1] * 3, [-0.125] * 2], [[0.15] * 2, [-0.3], [0.25 / 3] * 3]]
    torch.testing.assert_close(gradient, padded(rows), atol=1e-15, rtol=0)


def test_no_exploration_at_all_leaves_the_outputs_alone():
    """Over the outputs sum A_i = 0, so that imitation is all there is: gradients of -0.25/2 and 0.25/3 on the references' tokens only."""
    parts, gradient = golden("grao_no_exploration_at_all")
    expected = {"exploration": [0, 0], "imitation": [0.5, -0.5], "regulariser": [0, 0]}
    assert parts == {part: pytest.approx(value, abs=1e-15) for part, value in expected.items()}
    assert not gradient[:, :2].any()
    torch.testing.assert_close(gradient[:, 2:], padded([[[-0.125] * 2], [[0.25 / 3] * 3]]), atol=1e-15, rtol=0)


def test_no_exploration_at_all_with_the_reference_in_the_group():
    """R_o = (2, -1), R_y = -1: mu = 0, sigma = sqrt 2, so A = (2, -1)/sqrt 2 and A_y = -1/sqrt 2, and mean A_i = 1/(2 sqrt 2).

    At J_y = -2 imitation gains 0.5 * 2/sqrt 2 and the regulariser -0.6 * J_y/(2 sqrt 2) = 0.6/sqrt 2; no output has a gradient.
    """
    batch = GOLDEN.fill(rewards=torch.tensor([[2.0, -1, -1]] * 2).double())
    parts, gradient = golden("grao_no_exploration_at_all", batch, group="outputs_and_reference")
    expected = {"exploration": [0, 0], "imitation": [-1 / 2**0.5] * 2, "regulariser": [-0.6 / 2**0.5] * 2}
    assert parts == {part: pytest.approx(value, abs=1e-15) for part, value in expected.items()}
    assert not gradient[:, :2].any()


def test_the_reference_only_regulariser_keeps_exploration_where_alpha_does():
    """Eq. 3's first two terms as in the first test; -0.6 * (2 - 1)/2 * -2 = 0.6."""
    gains = grao_reference_only(row(-1, -3), row(-2), row(2, -1), row(0.5), 1.0, 0.5, 0.6)
    expected = {"exploration": 0.5, "imitation": -0.5, "regulariser": 0.6}
    assert {name: gain.item() for name, gain in gains.items()} == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("group", READINGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_identities_hold_for_the_gradients_of_a_real_model(group, seed):
    """Eq. 3 against its reduced form on every parameter of a Qwen2, for random rewards and weights. The advantages are the oracle's."""
    random = torch.Generator().manual_seed(seed)
    G = 2 + seed
    alpha, beta, lam = torch.rand(3, generator=random, dtype=torch.float64).tolist()
    objective = load_objective("grao", rollouts=G, alpha=alpha, beta=beta, lam=lam, group=group)
    batch = rectangle(objective.needs, torch.randint(1, 6, (3, G + 1), generator=random).tolist(), seed)
    rewards = torch.randn(3, G + 1, generator=random, dtype=torch.float64)
    batch = replace(batch, tokens=batch.tokens % len(WORDS), prompts=batch.prompts % len(WORDS)).fill(rewards=rewards)
    model = tiny_qwen2(seed=seed).double()
    policy = Policy(model, 1.0, value_head=False)

    loss = objective.loss(policy(batch), objective.prepare(batch)).total.mean()
    loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    logp, total = policy(batch).logp, 0.0
    weight = beta if group == "outputs" else beta + lam / G
    for p in range(3):
        J = [logp[p, k][batch.mask[p, k]].mean() for k in range(G + 1)]
        A_o, A_y = oracle.grao_advantages(rewards[p].tolist(), group)
        total = total - ((alpha + lam) * sum(a * j for a, j in zip(A_o, J[:-1], strict=True)) / G + weight * A_y * J[-1]) / 3
    assert loss.item() == pytest.approx(total.item(), abs=1e-13)
    total.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-13, rtol=1e-12)
        assert ours[name].abs().max() > 1e-6, name


def test_as_printed_a_beaten_reference_is_unlearned_and_clip0_leaves_it_alone():
    """A_y = -0.5: Eq. 3's imitation gain is 0.5 * -0.5 * J(y), which grows as J(y) falls; the variant's is 0 with gradient 0."""
    J_y = row(-2).requires_grad_()
    (printed,) = torch.autograd.grad(grao(row(-1, -3), J_y, row(1, -1), row(-0.5), 1.0, 0.5, 0.6)["imitation"].sum(), J_y)
    clipped = grao_clip0(row(-1, -3), J_y, row(1, -1), row(-0.5), 1.0, 0.5, 0.6)["imitation"]
    assert printed.item() == -0.25
    assert clipped.item() == 0
    assert torch.autograd.grad(clipped.sum(), J_y)[0].item() == 0


def test_clip0_is_equation_3_where_the_reference_is_not_beaten():
    """A_y = 0.5 and sum A_i = 0: exploration (1 + 0.6) * (-1 + 3)/2 = 1.6, imitation -0.5; their sum is Eq. 3's 1 - 0.5 + 0.6."""
    symbols = (row(-1, -3), row(-2), row(1, -1), row(0.5), 1.0, 0.5, 0.6)
    gains = {name: gain.item() for name, gain in grao_clip0(*symbols).items()}
    assert gains == pytest.approx({"exploration": 1.6, "imitation": -0.5}, abs=1e-15)
    assert sum(gains.values()) == pytest.approx(sum(grao(*symbols).values()).item(), abs=1e-15)


def test_clip0_through_the_batch():
    """One batch, both objectives: where R_y lies above the outputs' mean they agree, where it lies below only clip0's part is 0."""
    lengths = [[1, 2, 3], [2, 2, 1]]
    batch = rectangle(Needs(rollouts=2, chosen=True), lengths).fill(rewards=torch.tensor([[1.0, -1.0, 0.5], [1.0, -1.0, -0.5]]).double())
    logp = torch.where(batch.mask, -1.5, 0.0).double() * torch.arange(1, 4)
    losses = [
        objective.loss(PolicyOutput(logp=logp), objective.prepare(batch))
        for objective in (load_objective(name, rollouts=2) for name in ("grao", "grao_clip0"))
    ]
    totals = [loss.total for loss in losses]
    assert totals[0][0].item() == pytest.approx(totals[1][0].item(), abs=1e-14)
    assert losses[0].parts["imitation"][1].item() != 0
    assert losses[1].parts["imitation"][1].item() == 0


@pytest.mark.parametrize("equation", ["reference_only", "clip0"])
def test_another_equation_can_not_be_named_grao(equation):
    """Tables and findings call that the paper's."""
    with pytest.raises(UserError, match=f"^objective.equation={equation}: is not the paper's"):
        load_objective("grao", equation=equation)
    assert load_objective("grao", equation=equation, name="mine").equation == equation


def test_the_papers_settings_are_the_defaults():
    objective = load_objective("grao")
    assert (objective.rollouts, objective.alpha, objective.beta, objective.lam, objective.group) == (8, 1.0, 0.5, 0.6, "outputs")
