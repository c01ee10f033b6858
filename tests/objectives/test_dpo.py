"""DPO (arXiv 2305.18290, Eq. 7), conservative DPO and IPO (arXiv 2310.12036, Eq. 17) by hand."""

from __future__ import annotations

import math

import pytest
import torch

from grao_bench.core.types import Needs, PolicyOutput
from grao_bench.objectives import load_objective
from grao_bench.objectives.dpo import dpo

from ..small import padded, rectangle

BATCH = rectangle(Needs(chosen=True, rejected=True), [[2, 1]]).fill(reference_logp=padded([[[-2.0, -3.0], [-4.0]]]))
MOVED = padded([[[-1.0, -3.0], [-6.0]]])


PAIRS = rectangle(Needs(chosen=True, rejected=True), [[3, 1], [1, 2]]).fill(
    reference_logp=padded([[[-2.0, -2.0, -4.0], [-2.0]], [[-0.5], [-3.0, -0.5]]]),
)
LOGP = padded([[[-1.0, -2.0, -3.0], [-3.0]], [[-1.0], [-2.0, -1.0]]])
"""Summed log-ratios: chosen -6 + 8 = 2 and -1 + 0.5 = -0.5, rejected -3 + 2 = -1 and -3 + 3.5 = 0.5. So D = 3 and -1.
Per token: chosen 2/3 and -1/2, rejected -1 and 1/4. So D = 5/3 and -3/4."""


def of_pairs(name, **fields):
    """(the loss per pair, its gradient on LOGP's tokens, the margins)."""
    logp = LOGP.clone().requires_grad_()
    objective = load_objective(name, **fields)
    loss = objective.loss(PolicyOutput(logp=logp), objective.prepare(PAIRS))
    loss.total.sum().backward()
    return loss.total.tolist(), logp.grad, loss.stats["margin"].tolist()


def test_dpo_of_two_pairs():
    """beta = 0.5: log(1 + e^-1.5) = 0.2014133 and log(1 + e^0.5) = 0.9740770. d loss / d (beta D) = sigmoid(beta D) - 1: -0.1824255 and
    -0.6224593; half of it on every chosen token, its opposite on every rejected one."""
    loss, gradient, margins = of_pairs("dpo", beta=0.5, label_smoothing=0.0)
    assert loss == pytest.approx([0.2014133, 0.9740770], abs=1e-7)
    a, b = 0.1824255 / 2, 0.6224593 / 2
    torch.testing.assert_close(gradient, padded([[[-a, -a, -a], [a]], [[-b], [b, b]]]), atol=1e-7, rtol=0)
    assert margins == [3.0, -1.0]


def test_accuracy_is_the_share_of_pairs_with_a_margin_above_zero():
    """Against a reference of 0: margins 0.3 and -0.1."""
    batch = PAIRS.fill(reference_logp=torch.zeros(PAIRS.mask.shape, dtype=torch.float64))
    policy = PolicyOutput(logp=padded([[[0.1] * 3, [0.0]], [[-0.1], [0.0, 0.0]]]))
    assert load_objective("dpo").loss(policy, batch).stats["accuracy"].tolist() == [1.0, 0.0]


def test_conservative_dpo_of_two_pairs():
    """log sigmoid(-x) = log sigmoid(x) - x, so a smoothing of e adds e beta D: 0.2014133 + 0.2 * 1.5 and 0.9740770 - 0.2 * 0.5.

    d loss / d (beta D) = sigmoid(beta D) - (1 - e): 0.8175745 - 0.8 > 0, since that margin is already too sure, and 0.3775407 - 0.8.
    """
    loss, gradient, _ = of_pairs("cdpo", beta=0.5, label_smoothing=0.2)
    assert loss == pytest.approx([0.5014133, 0.8740770], abs=1e-7)
    a, b = 0.0175745 / 2, 0.4224593 / 2
    torch.testing.assert_close(gradient, padded([[[a, a, a], [-a]], [[-b], [b, b]]]), atol=1e-7, rtol=0)


def test_conservative_dpo_is_least_at_the_log_odds_of_its_labels():
    """e = 0.2: at beta D = log(0.8/0.2) the slope is 0 and the loss the labels' entropy, -0.8 log 0.8 - 0.2 log 0.2 = 0.5004024."""
    D = torch.tensor([math.log(4) / 0.3], dtype=torch.float64, requires_grad=True)
    loss = dpo(D, 0.3, 0.2)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.5004024, abs=1e-7)
    assert D.grad.item() == pytest.approx(0.0, abs=1e-15)


def test_ipo_of_two_pairs_by_mean():
    """beta = 0.5 aims at 1: (5/3 - 1)^2 = 4/9 and (-3/4 - 1)^2 = 3.0625. The slope 2 (D - 1) = 4/3 and -3.5 over each answer's tokens."""
    loss, gradient, margins = of_pairs("ipo", beta=0.5)
    assert loss == pytest.approx([4 / 9, 3.0625], abs=1e-14)
    expected = padded([[[4 / 9] * 3, [-4 / 3]], [[-3.5], [1.75, 1.75]]])
    torch.testing.assert_close(gradient, expected, atol=1e-14, rtol=0)
    assert margins == pytest.approx([5 / 3, -0.75], abs=1e-15)


def test_ipo_of_two_pairs_by_sum():
    """beta = 0.25 aims at 2: (3 - 2)^2 = 1 and (-1 - 2)^2 = 9. The slope 2 (D - 2) = 2 and -6 is every token's."""
    loss, gradient, _ = of_pairs("ipo_sum", beta=0.25)
    assert loss == pytest.approx([1.0, 9.0], abs=1e-14)
    torch.testing.assert_close(gradient, padded([[[2.0] * 3, [-2.0]], [[-6.0], [6.0, 6.0]]]), atol=1e-14, rtol=0)


def test_a_policy_that_has_not_moved_loses_log_two():
    """Zero margin: -log sigmoid(0) = log 2, whatever beta is."""
    loss = load_objective("dpo", beta=0.7).loss(PolicyOutput(logp=BATCH.reference_logp), BATCH)
    assert loss.total.tolist() == pytest.approx([math.log(2)], abs=1e-15)
    assert loss.stats["margin"].tolist() == [0.0]
    assert loss.stats["accuracy"].tolist() == [0.0]


def test_a_margin_of_three():
    """Summed log-probs: chosen -4 against the reference's -5 (+1), rejected -6 against -4 (-2): margin 3.

    beta = 0.3: -log sigmoid(0.9) = log(1 + e^-0.9) = log 1.4065697 = 0.3411539.
    """
    loss = load_objective("dpo", beta=0.3).loss(PolicyOutput(logp=MOVED), BATCH)
    assert loss.total.tolist() == pytest.approx([0.3411539], abs=1e-7)
    assert {name: value.tolist() for name, value in loss.stats.items()} == {"margin": [3.0], "accuracy": [1.0], "logp_chosen": [-4.0]}


def test_the_gradient_falls_on_every_token_alike_and_pushes_the_pair_apart():
    """d loss / d logp = -beta sigmoid(-0.9) = -0.3 * 0.2890505 = -0.0867151 on the chosen tokens, its opposite on the rejected one."""
    logp = MOVED.clone().requires_grad_()
    load_objective("dpo", beta=0.3).loss(PolicyOutput(logp=logp), BATCH).total.sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([-0.0867151, -0.0867151, 0.0867151, 0.0], abs=1e-7)


def test_a_hopeless_margin_neither_overflows_nor_loses_its_gradient():
    """Margin -1e4, beta 0.1: the loss is 1000 to float32's last bit and the gradient beta."""
    logp_w = torch.tensor([-1e4], requires_grad=True)
    loss = dpo(logp_w, 0.1, 0.0)
    loss.sum().backward()
    assert loss.item() == pytest.approx(1000.0, abs=1e-3)
    assert logp_w.grad.item() == pytest.approx(-0.1, abs=1e-7)
