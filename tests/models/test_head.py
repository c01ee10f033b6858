"""The output layer's log-probs and gradients against autograd on plain logits, a chunk at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from grao_bench.core.types import Needs
from grao_bench.models import head
from grao_bench.models.head import LogprobHead
from grao_bench.models.policy import Policy

from ..small import WORDS as SMALL_WORDS
from ..small import rectangle, tiny_gemma3

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
    """Whatever gradient was expected."""
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", rows_per_chunk * WORDS)
    model, (hidden, targets, grad) = gemma(bias, cap), inputs(ROWS)
    ours, layer = LogprobHead(model), model.lm_head
    expected = {"none": None, "right": grad.clone(), "wrong": grad + 1}[guess]
    logp = ours(layer, hidden, targets, TEMPERATURE, expected)
    distributions = plain(hidden, layer, cap)
    theirs = distributions.gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp, theirs, atol=1e-10, rtol=0)
    pairs = zip(*(gradients(out, grad, hidden, layer) for out in (logp, theirs)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    entropies = -(distributions.exp() * distributions).sum(-1)
    torch.testing.assert_close(ours.entropies(layer, hidden, TEMPERATURE), entropies, atol=1e-10, rtol=0)


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
        ours = gradients(LogprobHead(model)(model.lm_head, hidden, targets, TEMPERATURE), grad, hidden, model.lm_head)[1:]
        assert [one.dtype for one in ours] == [dtype, dtype]
        errors.append([float((one.double() - other).norm() / other.norm()) for one, other in zip(ours, theirs, strict=True)])
    assert max(error / whole for error, whole in zip(errors[1] + errors[2], errors[0] * 2, strict=True)) < 1.2  # measured: 1.08


def doubled(layer, args, out):
    return 2 * out


@pytest.mark.parametrize("cap", [None, 5.0])
def test_what_hangs_on_the_layer_is_respected(cap, monkeypatch):
    """A hook that doubles the logits: values, gradients and entropies of a doubled weight."""
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", 3 * WORDS)
    model, (hidden, targets, grad) = gemma(True, cap), inputs(ROWS)
    ours, layer = LogprobHead(model), model.lm_head
    layer.register_forward_hook(doubled)
    logp = ours(layer, hidden, targets, TEMPERATURE)
    logits = 2 * (hidden @ layer.weight.t() + layer.bias)
    capped = logits if cap is None else cap * (logits / cap).tanh()
    distributions = (capped / TEMPERATURE).log_softmax(-1)
    theirs = distributions.gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp, theirs, atol=1e-10, rtol=0)
    pairs = zip(*(gradients(out, grad, hidden, layer) for out in (logp, theirs)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    entropies = -(distributions.exp() * distributions).sum(-1)
    found = ours.entropies(layer, hidden, TEMPERATURE)
    torch.testing.assert_close(found, entropies, atol=1e-10, rtol=0)
    with torch.no_grad():
        assert torch.equal(ours(layer, hidden, targets, TEMPERATURE), logp)


def test_the_head_adds_no_parameters_and_no_names():
    """Also of a model whose output layer is its embedding: its checkpoint is the model's."""
    model = tiny_gemma3()
    policy = Policy(model, 1.0, value_head=False)
    assert list(policy.state_dict()) == [f"model.{name}" for name in model.state_dict()]
    assert len(list(policy.parameters())) == len(list(model.parameters()))
    assert dict(policy.named_modules())["head"] is policy.head


def test_an_adapter_on_the_output_layer_trains_and_is_what_the_policy_says():
    """LoRA on lm_head alone: the log-probs of the model's own logits, gradients for the adapter,
    and an optimiser that holds nothing else."""
    peft = pytest.importorskip("peft")
    model = tiny_gemma3(tie_word_embeddings=False).double()
    config = peft.LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config).double()
    policy = Policy(adapted, 1.0, value_head=False)
    batch = rectangle(Needs(rollouts=2), [[3, 2], [4, 1]])
    batch = replace(batch, tokens=batch.tokens % len(SMALL_WORDS))
    batch = replace(batch, prompts=batch.prompts % len(SMALL_WORDS))
    out = policy(batch).logp
    prompt = batch.prompts[0][batch.prompt_mask[0]]
    answer = batch.tokens[0, 0][batch.mask[0, 0]]
    logits = adapted(input_ids=torch.cat([prompt, answer])[None]).logits[0]
    said = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, answer[:, None])[:, 0]
    torch.testing.assert_close(out[0, 0][batch.mask[0, 0]], said, atol=1e-9, rtol=0)
    out.sum().backward()
    trainable = {name for name, each in policy.named_parameters() if each.requires_grad}
    assert len(trainable) == 2
    assert all("lora" in name for name in trainable)
    grads = {name for name, each in policy.named_parameters() if each.grad is not None}
    assert grads == trainable
    assert all(each.grad.abs().sum() > 0 for each in policy.parameters() if each.requires_grad)
    assert [len(group) for group in policy.parameter_groups()] == [2, 0]
