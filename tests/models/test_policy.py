"""The policy against a plain Hugging Face forward pass: one unpadded sequence at a time, the tokens shifted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from grao_bench.batching import make_batch
from grao_bench.errors import UserError
from grao_bench.models.policy import Policy, load_causal_lm, resolve_device
from grao_bench.types import Answer, Needs

from ..small import WORDS, rectangle, tiny_llama, tiny_qwen2, word_tokenizer

NEEDS = Needs(rollouts=2, chosen=True)
LENGTHS = [[3, 1, 7], [1, 5, 2], [6, 2, 5], [2, 4, 3], [1, 1, 1]]
MODELS = {"llama": tiny_llama, "qwen2": tiny_qwen2}


def ragged(seed=0):
    """Prompts of 1 to 4 tokens, answers of 1 to 7, ids of the whole vocabulary."""
    batch = rectangle(NEEDS, LENGTHS, seed)
    return replace(batch, tokens=batch.tokens % len(WORDS), prompts=batch.prompts % len(WORDS))


def plain(model, batch, p, k, **options):
    """(next-token distributions' log-probs [t V], the output) of one answer, from the model alone: position len(prompt) - 1 + t predicts
    answer token t."""
    prompt, answer = batch.prompts[p][batch.prompt_mask[p]], batch.tokens[p, k][batch.mask[p, k]]
    out = model(input_ids=torch.cat([prompt, answer])[None], **options)
    return out.logits[0, len(prompt) - 1 : -1], answer, out


def answers(batch):
    return [(p, k) for p in range(batch.size) for k in range(len(batch.slots))]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_and_entropies(kind, temperature):
    """Measured: the largest difference in float64 is 9e-16."""
    model, batch = MODELS[kind]().double(), ragged()
    out = Policy(model, temperature, value_head=False)(batch, entropy=True)
    for p, k in answers(batch):
        logits, answer, _ = plain(model, batch, p, k)
        logprobs = (logits / temperature).log_softmax(-1)
        real = batch.mask[p, k]
        torch.testing.assert_close(out.logp[p, k][real], logprobs.gather(-1, answer[:, None])[:, 0], atol=1e-12, rtol=0)
        entropy = torch.distributions.Categorical(logits=logits / temperature).entropy()
        torch.testing.assert_close(out.entropy[p, k][real], entropy, atol=1e-12, rtol=0)
    assert out.values is None


def test_nothing_but_zeros_outside_the_mask():
    batch = ragged()
    policy = Policy(tiny_llama(), 1.0, value_head=True)
    torch.nn.init.ones_(policy.value_head.bias)
    out = policy(batch, entropy=True)
    for rectangle_of in (out.logp, out.entropy, out.values):
        assert rectangle_of.shape == batch.tokens.shape
        assert not rectangle_of[~batch.mask].any()
        assert rectangle_of[batch.mask].all()


@pytest.mark.parametrize("kind", MODELS)
def test_the_gradient_is_the_plain_models(kind):
    """Of the mean log-prob over every answer token: padding sends nothing back, on the left neither."""
    model, batch = MODELS[kind]().double(), ragged()
    Policy(model, 1.0, value_head=False)(batch).logp.sum().backward()
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for p, k in answers(batch):
        logits, answer, _ = plain(model, batch, p, k)
        logits.log_softmax(-1).gather(-1, answer[:, None]).sum().backward()
    for mine, theirs in zip(ours, (parameter.grad for parameter in model.parameters()), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


def test_the_losses_temperature_gives_way_to_one_that_is_asked_for():
    model, batch = tiny_llama(), ragged()
    warm, plain_policy = Policy(model, 0.7, value_head=False), Policy(model, 1.0, value_head=False)
    assert torch.equal(warm(batch, temperature=1.0).logp, plain_policy(batch).logp)
    assert torch.equal(plain_policy(batch, temperature=0.7).logp, warm(batch).logp)
    assert not torch.allclose(warm(batch).logp, plain_policy(batch).logp)


def test_every_next_token_together_has_probability_one():
    """One answer slot for each word of the vocabulary, one token each: independent of any shift but the first."""
    rows = [[Answer("", (token,), True) for token in range(len(WORDS))]] * 2
    batch = make_batch([[6, 7, 8], [9]], rows, ["a", "b"], Needs(rollouts=len(WORDS)), pad_token=1)
    logp = Policy(tiny_llama().double(), 1.0, value_head=False)(batch).logp
    torch.testing.assert_close(logp.exp().sum((1, 2)), torch.ones(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_values_are_of_the_state_before_each_token():
    """V[t] reads the hidden state that predicts token t; in the head's own float32."""
    model, batch = tiny_llama().double(), ragged()
    policy = Policy(model, 1.0, value_head=True)
    assert not policy(batch).values.any()
    torch.nn.init.normal_(policy.value_head.weight, generator=torch.Generator().manual_seed(0))
    out = policy(batch)
    for p, k in answers(batch):
        hidden = plain(model, batch, p, k, output_hidden_states=True)[2].hidden_states[-1][0]
        expected = policy.value_head(hidden.float())[batch.prompt_mask[p].sum() - 1 : -1, 0]
        torch.testing.assert_close(out.values[p, k][batch.mask[p, k]], expected, atol=1e-5, rtol=0)


def test_a_value_head_changes_no_log_probability():
    batch = ragged()
    without, with_head = (Policy(tiny_llama(), 1.0, value_head)(batch).logp for value_head in (False, True))
    assert torch.equal(without, with_head)


def test_entropy_carries_no_gradient_and_log_probabilities_do():
    out = Policy(tiny_llama(), 1.0, value_head=False)(ragged(), entropy=True)
    assert (out.entropy.requires_grad, out.logp.requires_grad) == (False, True)


def test_cutting_and_trimming_a_batch_changes_no_number():
    policy, batch = Policy(tiny_llama().double(), 1.0, value_head=False), ragged()
    whole = policy(batch).logp
    for rows in ([4], [3, 0], [1, 4, 2]):
        part = batch.select(rows).trimmed()
        torch.testing.assert_close(policy(part).logp, whole[rows, :, : part.tokens.shape[-1]], atol=1e-12, rtol=0)


def test_ids_in_the_padding_change_nothing():
    policy, batch = Policy(tiny_llama().double(), 1.0, value_head=False), ragged()
    other = replace(batch, tokens=batch.tokens.where(batch.mask, 5), prompts=batch.prompts.where(batch.prompt_mask, 9))
    assert not torch.equal(other.tokens, batch.tokens)
    torch.testing.assert_close(policy(other).logp, policy(batch).logp, atol=1e-12, rtol=0)


def test_dropout_is_off():
    """Also for a model whose configuration has it and that comes in training mode."""
    model = tiny_llama(attention_dropout=0.5).train()
    policy, batch = Policy(model, 1.0, value_head=False), ragged()
    assert torch.equal(policy(batch).logp, policy(batch).logp)


def test_half_precision_models_give_float32_log_probabilities():
    policy = Policy(tiny_llama().to(torch.bfloat16), 1.0, value_head=True)
    out = policy(ragged())
    assert (out.logp.dtype, out.values.dtype) == (torch.float32, torch.float32)


def test_parameter_groups_split_the_head_from_the_model():
    policy = Policy(tiny_llama(), 1.0, value_head=True)
    model, head = policy.parameter_groups()
    assert {id(parameter) for parameter in [*model, *head]} == {id(parameter) for parameter in policy.parameters()}
    assert [tuple(parameter.shape) for parameter in head] == [(1, 16), (1,)]
    assert Policy(tiny_llama(), 1.0, value_head=False).parameter_groups()[1] == []


def save(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    (tokenizer or word_tokenizer()).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", MODELS)
def test_a_checkpoint_is_read_back_with_its_tied_weights(tmp_path, kind):
    """The embedding is written once and shared again after loading: one gradient step moves both ends."""
    model, batch = MODELS[kind](), ragged()
    loaded, _ = load_causal_lm(save(tmp_path / "m", model), "float32", "cpu")
    assert loaded.lm_head.weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
    assert torch.equal(Policy(loaded, 1.0, False)(batch).logp, Policy(model, 1.0, False)(batch).logp)
    assert sum(parameter.numel() for parameter in loaded.parameters()) == sum(parameter.numel() for parameter in model.parameters())


def test_a_checkpoint_is_loaded_in_the_dtype_asked_for_and_with_its_tokenizer(tmp_path):
    model, tokenizer = load_causal_lm(save(tmp_path / "m", tiny_llama()), "float64", "cpu")
    assert model.dtype == torch.float64
    assert tokenizer("red green")["input_ids"] == [6, 7]


def test_what_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"model.path=.*empty: is not a checkpoint that transformers can load"):
        load_causal_lm(str(tmp_path / "empty"), "float32", "cpu")
    with pytest.raises(UserError, match=r"model.path=.*absent: is neither a folder nor a reachable hub id"):
        load_causal_lm(str(tmp_path / "absent"), "float32", "cpu")
    path = save(tmp_path / "m", tiny_llama(vocab=9))
    with pytest.raises(UserError, match=r"the tokenizer has 14 tokens, the model 9; they don't belong together"):
        load_causal_lm(path, "float32", "cpu")


def test_auto_is_the_accelerator_where_there_is_one():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"
