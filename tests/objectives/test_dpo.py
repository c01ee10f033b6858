"""DPO by hand: arXiv 2305.18290, Eq. 7."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from grao_bench.objectives.dpo import DPO, dpo
from grao_bench.types import Needs, PolicyOutput

from ..small import padded, rectangle

BATCH = replace(rectangle(Needs(chosen=True, rejected=True), [[2, 1]]), reference_logp=padded([[[-2.0, -3.0], [-4.0]]]))
MOVED = padded([[[-1.0, -3.0], [-6.0]]])


def test_a_policy_that_has_not_moved_loses_log_two():
    """Zero margin: -log sigmoid(0) = log 2, whatever beta is."""
    loss = DPO(name="dpo", beta=0.7).loss(PolicyOutput(logp=BATCH.reference_logp), BATCH)
    assert loss.total.tolist() == pytest.approx([math.log(2)], abs=1e-15)
    assert loss.stats["margin"].tolist() == [0.0]


def test_a_margin_of_three():
    """Summed log-probs: chosen -4 against the reference's -5 (+1), rejected -6 against -4 (-2): margin 3.

    beta = 0.3: -log sigmoid(0.9) = log(1 + e^-0.9) = log 1.4065697 = 0.3411539.
    """
    loss = DPO(name="dpo", beta=0.3).loss(PolicyOutput(logp=MOVED), BATCH)
    assert loss.total.tolist() == pytest.approx([0.3411539], abs=1e-7)
    assert {name: value.tolist() for name, value in loss.stats.items()} == {"margin": [3.0], "accuracy": [1.0], "logp_chosen": [-4.0]}


def test_the_gradient_falls_on_every_token_alike_and_pushes_the_pair_apart():
    """d loss / d logp = -beta sigmoid(-0.9) = -0.3 * 0.2890505 = -0.0867151 on the chosen tokens, its opposite on the rejected one."""
    logp = MOVED.clone().requires_grad_()
    DPO(name="dpo", beta=0.3).loss(PolicyOutput(logp=logp), BATCH).total.sum().backward()
    assert logp.grad.flatten().tolist() == pytest.approx([-0.0867151, -0.0867151, 0.0867151, 0.0], abs=1e-7)


def test_a_hopeless_margin_neither_overflows_nor_loses_its_gradient():
    """Margin -1e4, beta 0.1: the loss is 1000 to float32's last bit and the gradient beta."""
    logp_w = torch.tensor([-1e4], requires_grad=True)
    zero = torch.zeros(1)
    loss = dpo(logp_w, zero, zero, zero, 0.1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(1000.0, abs=1e-3)
    assert logp_w.grad.item() == pytest.approx(-0.1, abs=1e-7)
