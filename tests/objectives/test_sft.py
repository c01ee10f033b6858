"""SFT by hand: the mean per sequence of Eq. 1, and the mean over the batch's tokens."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from grao_bench.core.types import Needs, PolicyOutput
from grao_bench.objectives.sft import SFT, sft

from ..small import padded, rectangle

BATCH = rectangle(Needs(chosen=True), [[1], [3]])
LOGP = padded([[[-1.0]], [[-2.0, -3.0, -4.0]]])


def loss(reduction, logp=LOGP):
    objective = SFT(name="sft", reduction=reduction)
    return objective.loss(PolicyOutput(logp=logp), objective.prepare(BATCH)).parts["imitation"]


def test_the_gain_is_a_weighted_sum_of_log_probabilities():
    """0.5 * -2 + 0.25 * -4 = -2."""
    logp, weights = torch.tensor([[-2.0, -4.0]]), torch.tensor([[0.5, 0.25]])
    assert sft(logp, weights).tolist() == [-2.0]


def test_sequence_mean():
    """Eq. 1 with answers of 1 and 3 tokens: -J = 1/1 = 1 and (2 + 3 + 4)/3 = 3; the batch's loss is their mean, 2."""
    assert loss("sequence_mean").tolist() == pytest.approx([1.0, 3.0], abs=1e-15)


def test_token_mean():
    """The same answers have N = 4 tokens, whose mean is (1 + 2 + 3 + 4)/4 = 2.5, not 2. Per prompt: P/N = 1/2 of each sum, 0.5 and 4.5."""
    assert loss("token_mean").tolist() == [0.5, 4.5]
    assert loss("token_mean").mean() == 2.5


def test_the_two_agree_where_lengths_do():
    batch, logp = rectangle(Needs(chosen=True), [[2], [2]]), padded([[[-1.0, -2.0]], [[-3.0, -5.0]]])
    both = [
        objective.loss(PolicyOutput(logp=logp), objective.prepare(batch)).total.tolist()
        for objective in (SFT(name="a", reduction="sequence_mean"), SFT(name="b", reduction="token_mean"))
    ]
    assert both == [[1.5, 4.0], [1.5, 4.0]]


def test_gradients():
    """d loss.mean() / d logp: -1/(P |y|) per sequence mean, -1/N per token mean, 0 on padding."""
    for reduction, expected in (
        ("sequence_mean", [[[-1 / 2, 0, 0]], [[-1 / 6] * 3]]),
        ("token_mean", [[[-1 / 4, 0, 0]], [[-1 / 4] * 3]]),
    ):
        logp = LOGP.clone().requires_grad_()
        loss(reduction, logp).mean().backward()
        torch.testing.assert_close(logp.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-15, rtol=0)


def test_token_mean_is_cross_entropy_over_the_batch():
    """An independent implementation: torch's cross-entropy with padding ignored."""
    logits = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logp = logits.log_softmax(-1).gather(-1, BATCH.tokens[:, 0, :, None]).transpose(1, 2)
    labels = BATCH.tokens[:, 0].where(BATCH.mask[:, 0], -100)
    expected = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(loss("token_mean", logp).mean(), expected, atol=1e-14, rtol=0)
