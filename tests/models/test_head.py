"""The output layer's log-probs and gradients against autograd on plain logits, a chunk at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grao_bench.models import head
from grao_bench.models.head import LogprobHead

from ..small import tiny_gemma3

ROWS, WORDS = 10, 14
TEMPERATURE = 0.7


def gemma(bias, cap, vocab=WORDS, dtype=torch.float64):
    """A Gemma with an output layer of its own, with a bias or none, and logits of about 3 for hidden states of about 1."""
    model = tiny_gemma3(vocab, final_logit_softcapping=cap, tie_word_embeddings=False)
    layer, random = nn.Linear(16, vocab, bias=bias), torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7, generator=random)
    model.set_output_embeddings(layer)
    return model.to(dtype)


def inputs(rows, vocab=WORDS, dtype=torch.float64):
    """(hidden [M 16], a leaf; targets [M]; d loss / d logprob [M])."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 16, generator=random, dtype=torch.float64).to(dtype).requires_grad_()
    grad = torch.randn(rows, generator=random, dtype=torch.float64).to(torch.promote_types(dtype, torch.float32))
    return hidden, torch.randint(vocab, (rows,), generator=random), grad


def plain(hidden, layer, cap):
    """log softmax(capped logits / temperature) [M V]."""
    logits = hidden @ layer.weight.t() + (0 if layer.bias is None else layer.bias)
    return ((logits if cap is None else cap * (logits / cap).tanh()) / TEMPERATURE).log_softmax(-1)


def gradients(logp, grad, hidden, layer):
    """Of hidden, weight and bias where there is one, for this d loss / d logprob [M]."""
    return torch.autograd.grad(logp, [hidden, *layer.parameters()], grad)


@pytest.mark.parametrize("guess", ["none", "right", "wrong"])
@pytest.mark.parametrize("rows_per_chunk", [1, 3, ROWS])
@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_autograds(bias, cap, rows_per_chunk, guess, monkeypatch):
    """Whatever gradient was expected; which of the two came is remembered."""
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", rows_per_chunk * WORDS)
    ours, (hidden, targets, grad) = LogprobHead(gemma(bias, cap)), inputs(ROWS)
    expected = {"none": None, "right": grad.clone(), "wrong": grad + 1}[guess]
    logp = ours.logprobs(hidden, targets, TEMPERATURE, expected)
    distributions = plain(hidden, ours.layer, cap)
    theirs = distributions.gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp, theirs, atol=1e-10, rtol=0)
    pairs = zip(*(gradients(out, grad, hidden, ours.layer) for out in (logp, theirs)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    assert ours.guesses_hold == (guess != "wrong")
    entropies = -(distributions.exp() * distributions).sum(-1)
    torch.testing.assert_close(ours.entropies(hidden, TEMPERATURE), entropies, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_smaller_chunks_make_no_half_precision_gradient_worse(dtype, monkeypatch):
    """The error of the weight's and the bias's gradient, relative to float64, in 1, 16 and 256 chunks."""
    rows, vocab, errors = 4096, 64, []
    model = gemma(True, None, vocab, dtype)
    exact = gemma(True, None, vocab, dtype).double().lm_head
    hidden, targets, grad = inputs(rows, vocab, dtype)
    precise = hidden.detach().double().requires_grad_()
    theirs = gradients(plain(precise, exact, None).gather(-1, targets[:, None])[:, 0], grad.double(), precise, exact)[1:]
    for chunks in (1, 16, 256):
        monkeypatch.setattr(head, "LOGITS_PER_CHUNK", rows // chunks * vocab)
        ours = gradients(LogprobHead(model).logprobs(hidden, targets, TEMPERATURE), grad, hidden, model.lm_head)[1:]
        assert [one.dtype for one in ours] == [dtype, dtype]
        errors.append([float((one.double() - other).norm() / other.norm()) for one, other in zip(ours, theirs, strict=True)])
    assert max(error / whole for error, whole in zip(errors[1] + errors[2], errors[0] * 2, strict=True)) < 1.2  # measured: 1.08
