"""LoRA: what it computes, whose weights it shares, and what it refuses. Expected values are those
of whole weights: W + (alpha / rank) B A, and the gradient that a plain model gives."""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import ModelsWanted, Sampling
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.specs import load
from grao_bench.core.types import Needs, Prompt
from grao_bench.models.adapters import (
    adapter_config,
    base_of,
    load_adapter,
    merged,
    save_adapter,
    sharing,
    untouched_experts,
)
from grao_bench.models.lora import LoRA, chosen_layers
from grao_bench.models.policy import Policy
from grao_bench.rollouts.shared_prefix import SharedPrefixEngine
from grao_bench.rollouts.transformers import TransformersEngine
from grao_bench.training.loop import train
from grao_bench.training.ranks import Alone

from ..small import FAMILIES, WORDS, rectangle, synced, tiny_llama, word_tokenizer
from ..training.setting import EXAMPLES, budget, codec, collector, trainer

SAMPLED = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=6)
PROMPTS = [Prompt("a", (6, 7, 8)), Prompt("b", (9,))]


def lora(rank=2, alpha=6.0, targets="all-linear"):
    return LoRA(rank=rank, alpha=alpha, targets=targets)


def adapted(model, spec=None, moved=True, heads=()):
    """The model with an adapter; `moved`: as if it had trained, B is no longer 0."""
    (spec or lora()).attach(model, 0, heads)
    random = torch.Generator().manual_seed(1)
    for name, each in model.named_parameters():
        if moved and ".lora_B." in name:
            draws = 0.3 * torch.randn(each.shape, generator=random, dtype=torch.float64)
            each.data.copy_(draws)
    return model


def by_hand(plain, model, scale):
    """The plain model with W + scale B A in place of each adapted W, computed here."""
    own, whole = dict(model.named_parameters()), deepcopy(plain)
    for name, weight in whole.named_parameters():
        layer = name.removesuffix(".weight")
        if f"{layer}.lora_A.default.weight" in own:
            a, b = (own[f"{layer}.lora_{x}.default.weight"].detach() for x in "AB")
            weight.data += (scale * (b @ a)).to(weight.dtype)
    return whole


def ragged():
    batch = rectangle(Needs(rollouts=2, chosen=True), [[3, 1, 4], [1, 5, 2], [6, 2, 5]])
    return replace(batch, tokens=batch.tokens % len(WORDS), prompts=batch.prompts % len(WORDS))


def said(model, **policy):
    """Log-probabilities of a fixed batch's answers, through the packed engine."""
    return Policy(model, 1.0, value_head=False, **policy)(ragged()).logp


@pytest.fixture
def saved(tmp_path):
    """A base and, in the folder of a run, another whole model."""
    base, run = tmp_path / "base", tmp_path / "run"
    for folder, seed in ((base, 0), (run / "model", 1)):
        tiny_llama(seed=seed).save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
    return str(base), str(run)


def hf(path, start_from=None, dtype="float32"):
    fields = {"prompt_format": "hh", "device": "cpu"}
    return load("model/hf", path=path, start_from=start_from, dtype=dtype, **fields)


def built(path, start_from=None, adapter=None, dtype="float32", **wanted):
    spec = hf(path, start_from, dtype)
    fields = {"value_head": False, "reference": True, "seed": 0} | wanted
    asked = ModelsWanted(32, 1000, False, 1.0, corpus=lambda: pytest.fail("read"), **fields)
    return replace(spec, adapter=adapter or lora()).build(Alone(), asked)


# --- what it computes ---


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_packed_engine_computes_whole_weights_with_the_update_in_them(kind, checkpointing):
    """In float64, alpha / rank = 3. The gradient of B is that of W times A, three times; of A, B
    times that of W: by hand from the plain model's own."""
    plain = FAMILIES[kind]().double()
    model = adapted(sharing(plain))
    whole = by_hand(plain, model, 3.0)
    ours = said(model, gradient_checkpointing=checkpointing)
    whole.requires_grad_(True)
    theirs = said(whole)
    # DeepSeek's router is in float32 within transformers
    torch.testing.assert_close(ours, theirs, atol=2e-6 if kind == "deepseek_v3" else 1e-10, rtol=0)
    ours.sum().backward()
    theirs.sum().backward()
    own, gradients = dict(model.named_parameters()), dict(whole.named_parameters())
    checked = 0
    for name, parameter in own.items():
        if ".lora_A." in name:
            layer = name.removesuffix(".lora_A.default.weight")
            assert ".experts." not in layer
            a, b = parameter, own[f"{layer}.lora_B.default.weight"]
            of_w = gradients[f"{layer}.weight"].grad
            of_w = torch.zeros_like(gradients[f"{layer}.weight"]) if of_w is None else of_w
            close = {"atol": 1e-4 if kind == "deepseek_v3" else 1e-8, "rtol": 1e-5}
            torch.testing.assert_close(b.grad, 3 * of_w @ a.detach().T, **close)
            torch.testing.assert_close(a.grad, 3 * b.detach().T @ of_w, **close)
            checked += 1
        elif ".lora_B." not in name:
            assert parameter.grad is None, name
    assert checked >= 10


def test_the_first_update_of_a_and_b_by_hand():
    """SFT in float64. B = 0: A has no gradient and only decays; B goes by AdamW's first step,
    lr g / (|g| + eps), with g = (alpha / rank) dL/dW A^T, and dL/dW is the plain model's."""
    lr, decay, eps = 0.01, 0.1, 1e-8
    objective = load("objective/sft")
    how = {"lr": lr, "weight_decay": decay, "eps": eps, "clip_norm": 1e9, "schedule": "constant"}
    plain = tiny_llama().double()
    model = adapted(sharing(plain), moved=False)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    ours = trainer(objective, Policy(model, 1.0, False), budget(steps=1), **how)
    next(train(ours, collector(objective, ours.policy), EXAMPLES, 0))

    full = Policy(deepcopy(plain).requires_grad_(True), 1.0, False)
    grads = {}
    for name, each in full.model.named_parameters():
        keep = partial(lambda n, p: grads.update({n: p.grad.clone()}), name)
        each.register_post_accumulate_grad_hook(keep)
    theirs = trainer(objective, full, budget(steps=1), **how)
    next(train(theirs, collector(objective, full), EXAMPLES, 0))
    after = dict(model.named_parameters())
    for name, value in after.items():
        if ".lora_A." in name:
            torch.testing.assert_close(value, before[name] * (1 - lr * decay), atol=1e-14, rtol=0)
        elif ".lora_B." in name:
            layer = name.removesuffix(".lora_B.default.weight")
            g = 3 * grads[f"{layer}.weight"] @ before[f"{layer}.lora_A.default.weight"].T
            torch.testing.assert_close(value, -lr * g / (g.abs() + eps), atol=1e-7, rtol=0)
        else:
            assert torch.equal(value, before[name]), name


def test_gradients_and_optimiser_state_are_of_the_adapter_alone(saved):
    models = built(saved[0], value_head=True)
    objective = load("objective/ppo")
    ours = trainer(objective, models.policy)
    next(train(ours, collector(objective, models.policy), EXAMPLES, 0))
    trained = {name for name, each in models.policy.named_parameters() if each.requires_grad}
    assert {name.split(".")[-3] for name in trained if "lora" in name} == {"lora_A", "lora_B"}
    others = {name for name in trained if "lora" not in name}
    assert others == {"value_head.weight", "value_head.bias"}
    held = {id(each) for group in ours.optimizer.param_groups for each in group["params"]}
    named = dict(models.policy.named_parameters())
    assert held == {id(named[name]) for name in trained}
    assert {id(each) for each in ours.optimizer.state} <= held


# --- base and reference ---


def test_equal_weights_are_there_once(saved, monkeypatch):
    seen, plain = [], AutoModelForCausalLM.from_pretrained

    def counted(path, *args, **kwargs):
        if kwargs.get("device_map") != "meta":  # a look at names and shapes reads nothing
            seen.append(path)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    models = built(saved[0])
    assert seen == [saved[0]]
    assert models.reference is models.base
    weights = {each.data_ptr() for each in models.base.parameters()}
    named = models.policy.named_parameters()
    beside = {name for name, each in named if each.data_ptr() not in weights}
    assert beside
    assert all(".lora_" in name for name in beside)
    assert not any(each.requires_grad for each in models.base.parameters())


def test_the_base_stays_the_untouched_base_to_the_bit(saved, tmp_path):
    """Through training, rollouts, a save and a merge; before the first update the policy is it."""
    untouched = AutoModelForCausalLM.from_pretrained(saved[0])
    expected, print_ = said(untouched), weights_fingerprint(untouched)
    objective = load("objective/grpo")
    models = built(saved[0])
    assert torch.equal(said(models.policy.model), expected)
    ours = trainer(objective, models.policy)
    drawn = collector(objective, models.policy, sampled=True)
    own = replace(drawn, reference=models.reference)
    for _ in train(ours, own, EXAMPLES, 0):
        assert torch.equal(said(models.base.model), expected)
    save_adapter(models.policy.model, tmp_path / "other")
    whole = merged(models.policy.model)
    assert not torch.equal(said(whole), expected)
    assert not torch.equal(said(models.policy.model), expected)
    assert torch.equal(said(models.reference.model), expected)
    assert weights_fingerprint(models.base.model) == print_


def test_the_reference_of_a_run_that_goes_on_is_the_adapter_it_started_from(saved, tmp_path):
    first = built(saved[0])
    adapted_ = [each for name, each in first.policy.named_parameters() if ".lora_B." in name]
    with torch.no_grad():
        for each in adapted_:
            each.fill_(0.1)
    run = tmp_path / "first"
    save_adapter(first.policy.model, run / "model")
    models = built(saved[0], start_from=str(run))
    start, base = said(first.policy.model), said(first.base.model)
    assert torch.equal(said(models.policy.model), start)
    assert torch.equal(said(models.reference.model), start)
    assert torch.equal(said(models.base.model), base)
    assert not torch.equal(start, base)
    assert not any(each.requires_grad for each in models.reference.parameters())
    with torch.no_grad():
        for name, each in models.policy.named_parameters():
            if ".lora_B." in name:
                each.zero_()
    assert torch.equal(said(models.policy.model), base)
    assert torch.equal(said(models.reference.model), start), "it has an adapter of its own"
    held = {each.data_ptr() for each in models.base.parameters()}
    for one in (models.policy, models.reference):
        own = [name for name, each in one.named_parameters() if each.data_ptr() not in held]
        assert all(".lora_" in name for name in own)


def test_a_chain_over_a_whole_run_lies_on_that_runs_weights(saved, tmp_path):
    """A whole run, an adapter on it, and one that goes on from that."""
    base, whole = saved
    second = built(base, start_from=whole)
    assert torch.equal(said(second.policy.model), said(tiny_llama(seed=1)))
    assert torch.equal(said(second.reference.model), said(tiny_llama(seed=1)))
    assert torch.equal(said(second.base.model), said(tiny_llama(seed=0)))
    adapted_ = dict(second.policy.model.named_parameters())
    adapted_["model.layers.0.mlp.up_proj.lora_B.default.weight"].data.fill_(0.2)
    save_adapter(second.policy.model, tmp_path / "second" / "model")
    third = built(base, start_from=str(tmp_path / "second"))
    assert torch.equal(said(third.policy.model), said(second.policy.model))
    assert torch.equal(said(third.base.model), said(tiny_llama(seed=0)))


# --- the sampler ---


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_sampler_draws_from_the_adapter(kind):
    """The log-probabilities it tells are the trainer's, and not the base's; in float64."""
    plain = FAMILIES[kind]().double()
    model = adapted(sharing(plain))
    engine = synced(SharedPrefixEngine(codec(), answers_per_call=8), model)
    rows = engine.sample(PROMPTS, 3, SAMPLED, seed=0)
    off, from_base = [], []
    for prompt, answers in zip(PROMPTS, rows, strict=True):
        for answer in answers:
            ids = torch.tensor([[*prompt.tokens, *answer.tokens]])
            told = torch.tensor(answer.logp, dtype=torch.float64)
            for one, into in ((model, off), (plain, from_base)):
                with torch.no_grad():
                    logits = one(input_ids=ids).logits[0, len(prompt.tokens) - 1 : -1]
                logp = logits.log_softmax(-1).gather(-1, ids[0, len(prompt.tokens) :, None])[:, 0]
                into.append((logp - told).abs().max().item())
    assert max(off) < (1e-5 if kind == "deepseek_v3" else 1e-9)
    assert max(from_base) > 1e-2


def test_after_every_sync_the_sampler_holds_the_policys_weights(saved):
    objective = load("objective/grpo")
    models = built(saved[0])
    ours = trainer(objective, models.policy)
    drawn = replace(collector(objective, models.policy), reference=models.reference)
    engines = [SharedPrefixEngine(codec(), 8), TransformersEngine(codec(), 8)]
    prints = set()
    for record in train(ours, drawn, EXAMPLES, 0):
        for engine in engines:
            engine.sync(models.policy, record.step)
            assert weights_fingerprint(engine.model) == weights_fingerprint(models.policy.model)
        prints.add(weights_fingerprint(models.policy.model))
        # greedy answers of two independent engines
        greedy = replace(SAMPLED, temperature=0.0)
        one, other = (engine.sample(PROMPTS, 1, greedy, 0) for engine in engines)
        assert [row[0].tokens for row in one] == [row[0].tokens for row in other]
    assert len(prints) == 3


# --- half precision, merging ---


def test_on_a_half_precision_base_the_adapter_is_in_float32(saved):
    models = built(saved[0], dtype="bfloat16")
    for name, each in models.policy.named_parameters():
        assert each.dtype == (torch.float32 if ".lora_" in name else torch.bfloat16)
    objective = load("objective/sft")
    ours = trainer(objective, models.policy)
    own = {id(each) for each in models.policy.parameters()}
    held = [each for group in ours.optimizer.param_groups for each in group["params"]]
    assert all(id(each) in own for each in held), "no copies"
    next(train(ours, collector(objective, models.policy), EXAMPLES, 0))


def test_merged_in_bfloat16_most_of_a_small_update_is_lost():
    """Log-probabilities against the same weights in float64, side by side: the adapter beside a
    bfloat16 base's weights widened to float64, merged in float32, and merged into bfloat16."""
    model = adapted(tiny_llama().bfloat16(), lora(alpha=0.003))
    exact = said(by_hand(tiny_llama().bfloat16().double(), model, 0.0015))
    base = said(tiny_llama().bfloat16().double())
    update = (exact - base).abs().max()
    assert 0 < update < 0.1
    whole = merged(model)
    assert whole.dtype == torch.float32
    rounded = by_hand(tiny_llama().bfloat16(), model, 0.0015).double()
    beside = said(deepcopy(model).double())
    assert (beside - exact).abs().max() < 1e-6 * update
    assert (said(whole.double()) - exact).abs().max() < 1e-2 * update
    assert (said(rounded) - exact).abs().max() > 0.2 * update


def test_a_merged_save_is_a_plain_checkpoint(tmp_path):
    plain = tiny_llama().double()
    model = adapted(sharing(plain))
    whole = merged(model)
    whole.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    names = {name for name, _ in plain.named_parameters()}
    assert {name for name, _ in again.named_parameters()} == names
    torch.testing.assert_close(said(again), said(by_hand(plain, model, 3.0)), atol=1e-12, rtol=0)
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


# --- which layers ---


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], {f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)}),
        ("v_proj", {f"model.layers.{i}.self_attn.v_proj" for i in (0, 1)}),
        (
            r"model\.layers\.1\..*\.(q|up)_proj",
            {"model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"},
        ),
    ],
)
def test_targets_are_names_or_an_expression(targets, expected):
    assert set(chosen_layers(tiny_llama(), targets)) == expected
    model = adapted(tiny_llama(), lora(targets=targets))
    found = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    assert found == expected


def test_all_linear_is_every_layer_but_the_output():
    names = {name.rpartition(".")[2] for name in chosen_layers(tiny_llama(), "all-linear")}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(chosen_layers(tiny_llama(), "all-linear")) == 14


def test_untied_output_layers_and_embeddings_can_be_adapted():
    plain = tiny_llama(tie_word_embeddings=False).double()
    model = adapted(sharing(plain), lora(targets=["lm_head", "q_proj"]))
    torch.testing.assert_close(said(model), said(by_hand(plain, model, 3.0)), atol=1e-12, rtol=0)
    adapted(sharing(plain), lora(targets=["embed_tokens"]))


TIED = "model.embed_tokens and lm_head share one weight"
TAKEN = "peft takes layers of this name for the experts"


def tiny_mixtral():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return MixtralForCausalLM(MixtralConfig(vocab_size=len(WORDS), **sizes, **heads, **experts))


@pytest.mark.parametrize("model", [tiny_mixtral, FAMILIES["deepseek_v3"]])
def test_fused_experts_stay_as_they_are_and_a_line_says_so(model):
    ours = adapted(model())
    assert "experts fused into one parameter (down_proj, gate_up_proj)" in untouched_experts(ours)
    trained = [name for name, each in ours.named_parameters() if each.requires_grad]
    assert not any(".experts." in name for name in trained)
    assert untouched_experts(adapted(tiny_llama())) is None


@pytest.mark.parametrize(
    ("model", "targets", "words"),
    [
        (tiny_llama, ["q_proj", "query"], ["targets=query", "no layer of Llama", "q_proj,"]),
        (tiny_llama, "(", ["no layer", "q_proj"]),
        (tiny_llama, ["lm_head"], [TIED, "choose other layers"]),
        (tiny_llama, ["embed_tokens"], [TIED]),
        (tiny_mixtral, ["gate_up_proj"], ["experts fused into one parameter", "q_proj"]),
        (tiny_mixtral, ["experts"], ["experts fused into one parameter"]),
        (FAMILIES["deepseek_v3"], ["gate_proj", "up_proj"], [TAKEN]),
        (FAMILIES["deepseek_v3"], ["down_proj"], [TAKEN]),
    ],
)
def test_targets_that_are_no_layers_are_refused(model, targets, words):
    with pytest.raises(UserError) as error:
        lora(targets=targets).attach(model(), 0)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rank": 0}, "model.adapter.rank=0"),
        ({"alpha": 0.0}, "model.adapter.alpha=0"),
        ({"targets": []}, "names no layer"),
    ],
)
def test_values_that_cannot_be_are_refused(changed, words):
    with pytest.raises(UserError, match=words):
        lora(**changed).check()


def test_without_peft_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r'needs peft; pip install "grao-bench\[lora\]"'):
        lora().check()


# --- adapters from elsewhere ---


def peft_folder(folder, **changed):
    """An adapter that peft itself made and saved on the tiny Llama."""
    fields = {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(tiny_llama(), LoraConfig(**(fields | changed)))
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def test_an_adapter_of_pefts_own_is_read(tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_llama(), config)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    ours = tiny_llama()
    load_adapter(ours, tmp_path)
    assert torch.equal(said(ours), said(model.get_base_model()))
    assert not any(each.requires_grad for each in ours.parameters())


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_2", "olora"])
def test_initialisations_that_take_a_residual_out_of_the_base_are_refused(start, tmp_path):
    """What such an adapter is added to is not the base on disk."""
    peft_folder(tmp_path, init_lora_weights=start)
    with pytest.raises(UserError, match=f"initialised by {start}, which takes a residual"):
        load_adapter(tiny_llama(), tmp_path)


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_an_adapter_with_a_trained_embedding_or_head_on_tied_weights_is_refused(module, tmp_path):
    peft_folder(tmp_path, modules_to_save=[module])
    with pytest.raises(UserError, match="shares its weight in the base"):
        load_adapter(tiny_llama(), tmp_path)


def test_an_adapter_with_a_trained_head_reloads_right_where_it_is_untied(tmp_path):
    """And the base that shares the other weights keeps its own."""
    plain = tiny_llama(tie_word_embeddings=False)
    before = said(plain)
    names = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    config = LoraConfig(r=2, init_lora_weights=False, **names)
    model = get_peft_model(deepcopy(plain), config)
    model.get_base_model().lm_head.modules_to_save["default"].weight.data += 0.5 * torch.eye(14, 16)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    ours = sharing(plain)
    load_adapter(ours, tmp_path)
    ids = torch.tensor([[6, 7, 8, 9]])
    assert torch.equal(ours(input_ids=ids).logits, model(input_ids=ids).logits)
    assert torch.equal(said(plain), before)


def test_whole_weights_among_an_adapters_are_refused_and_written_nowhere(tmp_path):
    """peft saves embeddings whole where a vocabulary has grown; put in by name, they would land in
    the weights that the base shares."""
    peft_folder(tmp_path)
    path, plain = tmp_path / "adapter_model.safetensors", tiny_llama()
    whole = torch.zeros_like(plain.model.embed_tokens.weight)
    save_file(load_file(path) | {"base_model.model.model.embed_tokens.weight": whole}, path)
    before = said(plain)
    with pytest.raises(UserError, match=r"LlamaForCausalLM \(model.embed_tokens.weight"):
        load_adapter(sharing(plain), tmp_path)
    assert torch.equal(said(plain), before)


def test_another_base_is_refused(tmp_path):
    save_adapter(adapted(tiny_llama(seed=0)), tmp_path)
    load_adapter(tiny_llama(seed=0), tmp_path)
    with pytest.raises(UserError, match="was trained on other weights"):
        load_adapter(tiny_llama(seed=1), tmp_path)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (lora(rank=4), "model.adapter.rank=4: .* rank=2; use 2"),
        (lora(alpha=1.0), "model.adapter.alpha=1.0: .* alpha=6.0; use 6.0"),
        (lora(targets=["q_proj"]), r"model.adapter.targets=\[q_proj\]: .*down_proj"),
    ],
)
def test_values_that_are_not_those_of_the_start_are_refused(spec, words, saved, tmp_path):
    save_adapter(adapted(AutoModelForCausalLM.from_pretrained(saved[0])), tmp_path / "r" / "model")
    with pytest.raises(UserError, match=words):
        built(saved[0], start_from=str(tmp_path / "r"), adapter=spec)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_whole_weights_start_from_an_adapter_merged_in_float32_alone(dtype, saved, tmp_path):
    model = adapted(AutoModelForCausalLM.from_pretrained(saved[0]))
    save_adapter(model, tmp_path / "r" / "model")
    spec = hf(saved[0], str(tmp_path / "r"), dtype)
    wanted = ModelsWanted(32, 1000, False, 1.0, False, True, lambda: pytest.fail("read"))
    if dtype == "bfloat16":
        with pytest.raises(UserError, match=r"round away; use model\.dtype=float32"):
            spec.build(Alone(), wanted)
        return
    models = spec.build(Alone(), wanted)
    for one in (models.policy, models.reference):
        torch.testing.assert_close(said(one.model), said(model), atol=1e-5, rtol=0)
    assert all(each.requires_grad for each in models.policy.parameters())
    assert not any(each.requires_grad for each in models.reference.parameters())


@pytest.mark.parametrize("text", ["", "[]", '{"peft_type": "LORA", "r": "x" ', '{"peft_type": "NO"}'])
def test_a_configuration_that_cannot_be_read_is_one_line(text, tmp_path):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(UserError, match=r"adapter_config\.json can't be read") as error:
        load_adapter(tiny_llama(), tmp_path)
    assert "\n" not in str(error.value)


def test_another_kind_of_adapter_is_refused(tmp_path):
    config = IA3Config(target_modules=["q_proj"], feedforward_modules=[])
    get_peft_model(tiny_llama(), config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is an adapter of type IA3; LoRA alone"):
        load_adapter(tiny_llama(), tmp_path)


def test_an_adapter_of_a_hubs_model_names_its_id_and_commit(tmp_path):
    """And not the folder of the cache that it was fetched into, which is another on another
    machine; where the base is at hand it is taken from there."""
    snapshot = tmp_path / "models--owner--some--name" / "snapshots" / "0a1b2c"
    tiny_llama().save_pretrained(snapshot)
    model = adapted(AutoModelForCausalLM.from_pretrained(snapshot))
    save_adapter(model, tmp_path / "adapter")
    config = adapter_config(tmp_path / "adapter")
    assert (config.base_model_name_or_path, config.revision) == ("owner/some--name", "0a1b2c")
    assert base_of(tmp_path / "adapter", str(snapshot)) == str(snapshot)
