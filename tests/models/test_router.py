"""A mixture of experts' router loss: the family's own on the same tokens, and only where asked."""

from __future__ import annotations

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from grao_bench.core.batching import packed_tokens
from grao_bench.core.interfaces import Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Needs, Prompt
from grao_bench.models.policy import Policy, _answers
from grao_bench.text.tokens import TextCodec

from ..small import rectangle, synced, word_tokenizer

COEF = 0.3
KINDS = {
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}),
    "qwen3_moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig,
        {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def mixture(kind, asked=True):
    model, config, fields = KINDS[kind]
    torch.manual_seed(0)
    return model(
        config(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_experts_per_tok=2,
            initializer_range=0.3,
            router_aux_loss_coef=COEF,
            output_router_logits=asked,
            **fields,
        )
    ).eval()


def batch():
    return rectangle(Needs(rollouts=2), [[3, 2], [4, 1]])


def sequences(of, p):
    """Prompt and answer of each of a row's columns, without the last token, which predicts none."""
    prompt = of.prompts[p][of.prompt_mask[p]]
    return [torch.cat([prompt, of.tokens[p, k][of.mask[p, k]][:-1]]) for k in range(2)]


@every_kind
def test_one_answer_alone_has_the_models_own_loss(kind):
    """By a plain call of the model, whose aux_loss is over the same tokens."""
    model = mixture(kind)
    one = rectangle(Needs(rollouts=1), [[5]])
    policy = Policy(model, 1.0, value_head=False)
    (said,) = policy(one).model_losses["router"]
    ids = torch.cat([one.prompts[0][one.prompt_mask[0]], one.tokens[0, 0][one.mask[0, 0]][:-1]])
    theirs = COEF * float(model(input_ids=ids[None]).aux_loss.detach())
    assert float(said.detach()) == pytest.approx(theirs, rel=1e-5)


@every_kind
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_batch_has_the_loss_of_its_tokens_a_prompt_once(kind, gradient_checkpointing):
    """transformers' function over the router's logits of plain sequences; and its gradient."""
    model, rows = mixture(kind), batch()
    policy = Policy(model, 1.0, False, gradient_checkpointing=gradient_checkpointing)
    said = policy(rows).model_losses["router"]
    said.mean().backward()
    gates = [module.gate.weight for module in routed(model)]
    ours = [gate.grad.clone() for gate in gates]
    model.zero_grad()
    kept: list[list[torch.Tensor]] = [[], []]
    for p in range(2):
        length = int(rows.prompt_mask[p].sum())
        for k, ids in enumerate(sequences(rows, p)):
            logits = model(input_ids=ids[None]).router_logits
            for layer in range(2):
                kept[layer].append(logits[layer][0 if k == 0 else length :])
    theirs = COEF * load_balancing_loss_func(tuple(map(torch.cat, kept)), 4, 2)
    assert said.shape == (2,)
    assert said.tolist() == pytest.approx([float(theirs.detach())] * 2, rel=1e-5)
    for mine, other in zip(ours, torch.autograd.grad(theirs, gates), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-4)


@every_kind
def test_nothing_is_added_where_nothing_asks(kind):
    assert not Policy(mixture(kind, asked=False), 1.0, False)(batch()).model_losses
    with torch.no_grad():
        assert not Policy(mixture(kind), 1.0, False)(batch()).model_losses


@every_kind
def test_a_model_that_asks_for_it_samples_as_one_that_does_not(kind):
    drawn = []
    for asked in (True, False):
        engine = load("rollout/shared_prefix").build(TextCodec(word_tokenizer(), "hh", 64))
        prompts = [Prompt("a", (6, 7, 8)), Prompt("b", (9,))]
        sampling = Sampling(1.0, 1.0, 5)
        drawn.append(synced(engine, mixture(kind, asked)).sample(prompts, 2, sampling, 0))
    assert drawn[0] == drawn[1]


@every_kind
def test_a_group_that_takes_two_passes_has_their_mean_by_tokens(kind):
    """A prompt of 1 token with answers of 5 and 3: passes of 1 + 4 and 1 + 2 tokens that go in."""
    model = mixture(kind)
    whole = rectangle(Needs(rollouts=2), [[5, 3]])
    cut = Policy(model, 1.0, False, tokens_per_forward=7)(whole).model_losses["router"]
    cut.sum().backward()
    assert all(module.gate.weight.grad.abs().sum() > 0 for module in routed(model))
    alone = [float(Policy(model, 1.0, False)(_answers(whole, [k])).model_losses["router"].detach()) for k in range(2)]
    counts = [packed_tokens(_answers(whole, [k]))[0] for k in range(2)]
    expected = (counts[0] * alone[0] + counts[1] * alone[1]) / sum(counts)
    assert float(cut.detach()) == pytest.approx(expected, rel=1e-5)


def routed(model):
    return [each for each in model.modules() if hasattr(each, "gate") and hasattr(each, "experts")]
