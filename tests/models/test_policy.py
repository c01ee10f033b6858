"""The policy against a plain Hugging Face forward pass: one unpadded sequence at a time, the tokens shifted by hand."""

from __future__ import annotations

import inspect
import textwrap
from copy import deepcopy
from dataclasses import replace
from types import MethodType

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CohereConfig, CohereForCausalLM, OPTConfig, OPTForCausalLM
from transformers.models.deepseek_v3 import modeling_deepseek_v3

from grao_bench.core.batching import make_batch
from grao_bench.core.devices import resolve_device
from grao_bench.core.errors import UserError
from grao_bench.core.types import Answer, Needs
from grao_bench.models import head
from grao_bench.models.load import load_causal_lm
from grao_bench.models.policy import Policy

from ..small import FAMILIES, PAD, WORDS, rectangle, tiny_llama, word_tokenizer

NEEDS = Needs(rollouts=2, chosen=True)
LENGTHS = [[3, 1, 7], [1, 5, 2], [6, 2, 5], [2, 4, 3], [1, 1, 1]]
TWO_PASS = {"whole": None, "two-pass": 6}  # tokens_per_forward: each group has more tokens than 6
PRECISIONS = {torch.float64: (1e-12, 1e-6), torch.float32: (1e-5, 1e-5)}
"""dtype -> the largest difference of a log-prob, and of a gradient relative to its norm: transformers' RMSNorm computes in float32."""


def family(kind, dtype):
    """A tiny model in this precision. In float64 DeepSeek's router is made float64 too: transformers has it in float32, whose rounding
    depends on how many tokens are multiplied at once, and moves log-probs by 2e-7."""
    model = FAMILIES[kind]().to(dtype)
    if dtype == torch.float64:
        for gate in (module for module in model.modules() if isinstance(module, modeling_deepseek_v3.DeepseekV3TopkRouter)):
            source = textwrap.dedent(inspect.getsource(type(gate).forward)).replace("torch.float32", "torch.float64")
            scope = dict(vars(modeling_deepseek_v3))
            exec(source, scope)
            gate.forward = MethodType(scope["forward"], gate)
    return model


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


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("kind", FAMILIES)
def test_log_probabilities_and_entropies(kind, dtype, temperature):
    """Measured in float64: 2e-15 for all five."""
    model, batch = family(kind, dtype), ragged()
    out = Policy(model, temperature, value_head=False)(batch, entropy=True)
    atol = PRECISIONS[dtype][0]
    for p, k in answers(batch):
        logits, answer, _ = plain(model, batch, p, k)
        logprobs = (logits / temperature).log_softmax(-1)
        real = batch.mask[p, k]
        torch.testing.assert_close(out.logp[p, k][real], logprobs.gather(-1, answer[:, None])[:, 0], atol=atol, rtol=0)
        entropy = torch.distributions.Categorical(logits=logits / temperature).entropy()
        torch.testing.assert_close(out.entropy[p, k][real], entropy, atol=atol, rtol=0)
    assert "values" not in out.filled


def test_nothing_but_zeros_outside_the_mask():
    batch = ragged()
    policy = Policy(tiny_llama(), 1.0, value_head=True)
    torch.nn.init.ones_(policy.value_head.bias)
    out = policy(batch, entropy=True)
    for rectangle_of in (out.logp, out.entropy, out.values):
        assert rectangle_of.shape == batch.tokens.shape
        assert not rectangle_of[~batch.mask].any()
        assert rectangle_of[batch.mask].all()


def gradient(model):
    """[all parameters]; those that got none count as 0."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])


@pytest.mark.parametrize("route", [*TWO_PASS, "checkpointing"])
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_gradient_is_the_plain_models(kind, dtype, route):
    """Of a random weighting of every answer token's log-prob, whole, cut within its groups, and with layers run again in the backward pass.
    Measured in float64: at most 2e-7 relative."""
    model, batch = family(kind, dtype), ragged()
    weights = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for p, k in answers(batch):
        logits, answer, _ = plain(model, batch, p, k)
        logp = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0]
        (logp * weights[p, k, : len(logp)]).sum().backward()
    theirs = gradient(model)
    model.zero_grad()
    policy = Policy(model, 1.0, False, TWO_PASS.get(route), gradient_checkpointing=route == "checkpointing")
    parts = [batch] if route != "two-pass" else [batch.select([row]) for row in range(batch.size)]
    logp = torch.cat([policy(part).logp for part in parts])
    (logp * weights).sum().backward()
    assert (gradient(model) - theirs).norm() <= PRECISIONS[dtype][1] * theirs.norm()
    assert not model.training


class LargestTensor(TorchDispatchMode):
    """The most elements that any result of a torch call has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


class ProductsWith(TorchDispatchMode):
    """How many matrix products have this tensor as a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.count = factor.data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        factors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            self.count += any(factor.data_ptr() == self.factor for factor in factors)
        return func(*args, **(kwargs or {}))


def test_the_logits_of_a_batch_never_exist(monkeypatch):
    """With chunks of 8 rows the largest tensor is 8 x 500 logits, forward and backward; a plain forward makes all of its 48 rows. The
    weights and their gradient, 4 x 500, are smaller than a chunk."""
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", 8 * 500)
    model = tiny_llama(vocab=500, hidden_size=4)
    batch = make_batch([[6, 7]] * 4, [[Answer("", (8, 9, 10), True)] * 4] * 4, list("abcd"), Needs(rollouts=4), PAD)
    policy = Policy(model, 1.0, value_head=False)
    with LargestTensor() as forward:
        out = policy(batch, entropy=True)
    with LargestTensor() as backward:
        out.logp.sum().backward()
    with LargestTensor() as theirs:
        model(input_ids=batch.tokens.flatten(0, 1))
    assert (forward.elements, backward.elements, theirs.elements) == (8 * 500, 8 * 500, 16 * 3 * 500)


@pytest.mark.parametrize("chunk", [1, 3 * len(WORDS), 10**6])
def test_chunks_of_the_head_change_no_number(chunk, monkeypatch):
    """Values and gradients of one token a chunk, of three, of all."""
    results = []
    for size in (chunk, 10**6):
        monkeypatch.setattr(head, "LOGITS_PER_CHUNK", size)
        model = FAMILIES["gemma3"]().double()  # its logits are capped
        out = Policy(model, 0.7, value_head=False)(ragged(), entropy=True)
        out.logp.square().sum().backward()
        results.append((out.logp.detach(), out.entropy.detach(), gradient(model)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("budget", [6, 9, 14])
def test_answers_cut_within_a_group_give_the_same_values_and_entropies(budget):
    """The two-pass route on a group of a prompt of 1 and answers of 3, 1 and 7 tokens."""
    batch = ragged().select([0]).trimmed()
    whole, cut = (Policy(tiny_llama().double(), 1.0, True, tokens) for tokens in (None, budget))
    for policy in (whole, cut):
        torch.nn.init.normal_(policy.value_head.weight, generator=torch.Generator().manual_seed(0))
    one, other = whole(batch, entropy=True), cut(batch, entropy=True)
    for name in ("logp", "entropy", "values"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-6 if name == "values" else 1e-12, rtol=0)


def rows_seen(model, run):
    """How many tokens each call of the first layer sees."""
    seen = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0] * args[0].shape[1]))
    run()
    handle.remove()
    return seen


def test_a_prompt_is_computed_once_and_nothing_is_padded():
    """Prompts of 1, 2, 3, 4 and 1 tokens, and every answer's tokens but its last, which predicts nothing."""
    batch, model = ragged(), tiny_llama()
    policy = Policy(model, 1.0, value_head=False)
    assert rows_seen(model, lambda: policy(batch)) == [int(batch.prompt_mask.sum() + (batch.mask.sum(-1) - 1).sum())]


def test_a_group_over_the_bound_is_cut_and_run_again_in_the_backward_pass():
    """A prompt of 1 with answers of 3, 1 and 7 under a bound of 6 tokens: [3, 1] and [7] (alone over it), forward and again backward."""
    model = tiny_llama()
    policy, batch = Policy(model, 1.0, False, tokens_per_forward=6), ragged().select([0]).trimmed()
    assert rows_seen(model, lambda: policy(batch).logp.sum().backward()) == [3, 7, 7, 3]


def test_the_model_keeps_its_own_forward_and_generate():
    """What the engine registers changes no plain call, left padding included."""
    model = tiny_llama().double()
    ids, mask = torch.tensor([[1, 6, 7, 8], [6, 7, 8, 9]]), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    before = model(input_ids=ids, attention_mask=mask).logits, model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
    Policy(model, 1.0, value_head=False)
    after = model(input_ids=ids, attention_mask=mask).logits, model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
    torch.testing.assert_close(before[0], after[0], atol=1e-12, rtol=0)
    assert torch.equal(before[1], after[1])


def test_models_that_scale_their_logits_are_refused():
    """Cohere multiplies its logits by a scale that is not in the output layer."""
    model = CohereForCausalLM(
        CohereConfig(
            vocab_size=14,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            logit_scale=0.1,
            initializer_range=0.5,
        )
    )
    with pytest.raises(UserError, match="CohereForCausalLM: its logits are not its output layer's"):
        Policy(model, 1.0, value_head=False)


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


@pytest.mark.parametrize("route", TWO_PASS)
@pytest.mark.parametrize("kind", ["qwen2", "gemma3"])
def test_the_gradient_of_entropies_is_the_plain_models(kind, route, monkeypatch):
    """Of a random weighting of every position's, at temperature 0.7, a few positions a chunk."""
    monkeypatch.setattr(head, "LOGITS_PER_CHUNK", 3 * len(WORDS))
    model, batch = FAMILIES[kind]().double(), ragged()
    random = torch.Generator().manual_seed(1)
    weights = torch.randn(batch.mask.shape, generator=random, dtype=torch.float64)
    for p, k in answers(batch):
        logits = plain(model, batch, p, k)[0] / 0.7
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        (entropy * weights[p, k, : len(entropy)]).sum().backward()
    theirs = gradient(model)
    model.zero_grad()
    policy = Policy(model, 0.7, False, TWO_PASS[route])
    for row in range(batch.size):
        (policy(batch.select([row]), entropy=True).entropy * weights[[row]]).sum().backward()
    assert (gradient(model) - theirs).norm() <= 1e-6 * theirs.norm()
    with torch.no_grad():
        assert not policy(batch, entropy=True).entropy.requires_grad


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


def test_checkpointing_runs_layers_again_without_their_dropout():
    """OPT's layers drop out by themselves, and whole layers are left out in training; each layer is run twice, the last first."""
    torch.manual_seed(0)
    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=24, hidden_size=16, ffn_dim=32, word_embed_proj_dim=16, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, init_std=0.3, dropout=0.5, attention_dropout=0.5, layerdrop=0.5, pad_token_id=1,
        )
    )  # fmt: skip
    batch, once = ragged(), Policy(deepcopy(model), 1.0, False)
    again = Policy(model, 1.0, False, gradient_checkpointing=True)
    seen = []
    for number, layer in enumerate(model.model.decoder.layers):
        layer.fc1.register_forward_hook(lambda *_, number=number: seen.append(number))
    for policy in (once, again):
        policy(batch).logp.sum().backward()
    assert torch.equal(gradient(again.model), gradient(once.model))
    assert seen == [0, 1, 1, 0]
    assert not any(module.training for module in model.modules())


def test_checkpointing_needs_layers_that_know_it():
    model = tiny_llama()
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(UserError, match=r"^gradient_checkpointing=true: LlamaForCausalLM has no layers"):
        Policy(model, 1.0, False, gradient_checkpointing=True)


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


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_is_read_back_with_its_tied_weights(tmp_path, kind):
    """The embedding is written once and shared again after loading: one gradient step moves both ends."""
    model, batch = FAMILIES[kind](), ragged()
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


def test_special_tokens_beyond_the_vocabulary_do_no_harm(tmp_path):
    """Gemma 3's text models have no embedding for their tokenizer's image token; a word without one is another matter."""
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|image|>"]})
    _, loaded = load_causal_lm(save(tmp_path / "special", tiny_llama(), tokenizer), "float32", "cpu")
    assert len(loaded) == len(WORDS) + 1
    tokenizer.add_tokens(["violet"])
    with pytest.raises(UserError, match=r"the tokenizer has 16 tokens, the model 14; they don't belong together"):
        load_causal_lm(save(tmp_path / "word", tiny_llama(), tokenizer), "float32", "cpu")


def test_auto_is_the_accelerator_where_there_is_one():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("kind", FAMILIES)
def test_an_expected_gradient_changes_no_number(kind, right):
    """Bit for bit, whether the gradient that comes is the one that was expected or not."""
    batch, results = ragged(), []
    weights = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(1))
    for expected in (None, weights if right else weights + 1e-6):
        model = FAMILIES[kind]()
        policy = Policy(model, 0.7, value_head=False)
        (policy(batch, expected=expected).logp * weights).sum().backward()
        results.append(gradient(model))
    assert torch.equal(*results)


def test_an_expected_gradient_saves_one_product_with_the_output_layer():
    """Logits once instead of twice, counted as products with the [vocabulary, hidden] weight."""
    counts = []
    for guess in (False, True):
        model, batch = tiny_llama(tie_word_embeddings=False), ragged()
        policy = Policy(model, 1.0, value_head=False)
        with ProductsWith(model.lm_head.weight) as products:
            (policy(batch, expected=batch.mask.float() if guess else None).logp * batch.mask).sum().backward()
        counts.append(products.count)
    assert counts == [3, 2]  # with the weight itself: logits, (logits again,) d hidden
