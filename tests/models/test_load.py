"""What lies at model.path: each thing that is no whole causal LM is named for what it is, in one
line, before any weights are read."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    LlamaForSequenceClassification,
)

from grao_bench.core.errors import UserError
from grao_bench.core.specs import load
from grao_bench.models.load import check_causal_lm, load_causal_lm

from ..small import FAMILIES, tiny_llama, word_tokenizer

WEIGHTS = "model.safetensors"


def saved(folder, model=None, **options):
    """A checkpoint with its tokenizer; its folder."""
    (tiny_llama() if model is None else model).save_pretrained(folder, **options)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def whole(tmp_path):
    """A checkpoint whose embeddings are not tied, so that it has all 21 weights of its own."""
    return saved(tmp_path / "whole", tiny_llama(tie_word_embeddings=False))


@pytest.fixture
def unread(monkeypatch):
    """No weights are read: a checkpoint that is loaded for good fails the test."""
    plain = AutoModelForCausalLM.from_pretrained

    def meta_alone(path, **options):
        assert options.get("device_map") == "meta", "weights were read"
        return plain(path, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", meta_alone)


def message(path):
    with pytest.raises(UserError) as raised:
        check_causal_lm(str(path))
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError) as again:
        load_causal_lm(str(path), "float32", "cpu")
    assert str(again.value) == str(raised.value)
    return str(raised.value)


def change(folder, weights=None, **config):
    """Write other weights, or other fields of config.json."""
    if weights is not None:
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
    if config:
        said = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(said))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_whole_checkpoint_is_none_of_these(tmp_path, kind, unread):
    """Of every family; its tied embeddings are no missing weight."""
    folder = saved(tmp_path / kind, FAMILIES[kind]())
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    check_causal_lm(str(folder))


def test_whole_checkpoints_of_other_forms(tmp_path, whole):
    saved(tmp_path / "shards", tiny_llama(), max_shard_size=5000)
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    shutil.copytree(whole, tmp_path / "pickled")
    torch.save(load_file(whole / WEIGHTS), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / WEIGHTS).unlink()
    tied_and_written = saved(tmp_path / "tied")
    weights = load_file(tied_and_written / WEIGHTS)
    head = {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    change(tied_and_written, weights | head)
    for name in ("whole", "shards", "pickled", "tied"):
        model, _ = load_causal_lm(str(tmp_path / name), "float32", "cpu")
        assert model.lm_head.weight.abs().sum() > 0


def test_a_reward_model_is_named(tmp_path, whole, unread):
    untied = LlamaForSequenceClassification(tiny_llama(tie_word_embeddings=False).config)
    said = message_unread(saved(tmp_path / "untied", untied))
    assert "is a LlamaForSequenceClassification, no causal LM (a reward model or classifier" in said
    # tied embeddings: nothing is missing, and only the head is left over
    tied = saved(tmp_path / "tied", LlamaForSequenceClassification(tiny_llama().config))
    assert "is a LlamaForSequenceClassification" in message_unread(tied)
    change(tied, architectures=["LlamaForCausalLM"])
    said = message_unread(tied)
    assert "is no whole LlamaForCausalLM: it has besides score.weight" in said
    assert "(a reward model or classifier)" in said


def message_unread(path):
    with pytest.raises(UserError) as raised:
        check_causal_lm(str(path))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"model.path={path}: ")
    return str(raised.value)


def test_an_encoder_is_named(tmp_path, unread):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertForMaskedLM(BertConfig(vocab_size=14, intermediate_size=16, **sizes))
    said = message_unread(saved(tmp_path / "bert", bert))
    assert "is a BertForMaskedLM, no causal LM; give a causal LM" in said


def test_weights_that_are_missing_left_over_or_of_another_shape(whole, unread):
    weights = load_file(whole / WEIGHTS)
    change(whole, {name: each for name, each in weights.items() if "layers.1.mlp" not in name})
    said = message_unread(whole)
    assert "is no whole LlamaForCausalLM: it lacks model.layers.1.mlp.down_proj.weight, " in said
    change(whole, {name: each for name, each in weights.items() if name != "lm_head.weight"})
    assert "is no whole LlamaForCausalLM: it lacks lm_head.weight;" in message_unread(whole)
    change(whole, weights | {"v_head.summary.weight": torch.zeros(1, 16)})
    assert "it has besides v_head.summary.weight (a value head" in message_unread(whole)
    change(whole, weights | {"model.norm.weight": torch.ones(3)})
    said = message_unread(whole)
    assert "its model.norm.weight is [3], and by its config.json it must be [16]" in said
    change(whole, weights)
    check_causal_lm(str(whole))


def test_a_checkpoint_cut_short_names_its_file(tmp_path, whole, unread):
    shutil.copytree(whole, tmp_path / "cut")
    file = tmp_path / "cut" / WEIGHTS
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert f"its {WEIGHTS} is cut short or damaged" in message_unread(tmp_path / "cut")
    shards = saved(tmp_path / "shards", tiny_llama(), max_shard_size=5000)
    lost = sorted(shards.glob("model-*.safetensors"))[1]
    lost.unlink()
    assert f"lacks {lost.name}, which its {WEIGHTS}.index.json lists" in message_unread(shards)
    torch.save(load_file(whole / WEIGHTS), whole / "pytorch_model.bin")
    (whole / WEIGHTS).unlink()
    pickled = (whole / "pytorch_model.bin").read_bytes()
    (whole / "pytorch_model.bin").write_bytes(pickled[: len(pickled) // 2])
    assert "is not a checkpoint that transformers can load" in message_unread(whole)


def test_an_adapter_is_named_with_its_base(tmp_path, whole, unread):
    """transformers itself would load the base in its place, without a word."""
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = tiny_llama(tie_word_embeddings=False)
    model.name_or_path = str(whole)
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    said = message_unread(tmp_path / "adapter")
    assert f"is an adapter (LORA) of {whole}, no whole model" in said
    # beside whole weights too: which of them is meant can't be known
    shutil.copy(tmp_path / "adapter" / "adapter_config.json", whole)
    assert f"is an adapter (LORA) of {whole}" in message_unread(whole)


def test_an_adapter_that_was_never_merged_is_named(whole, unread):
    lora = {"model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.zeros(2, 16)}
    change(whole, load_file(whole / WEIGHTS) | lora)
    assert "(an adapter that was never merged)" in message_unread(whole)


def test_quantised_weights_are_named(whole, unread):
    change(whole, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "its weights are quantised (gptq)" in message_unread(whole)


def test_folders_that_hold_a_checkpoint_elsewhere(tmp_path, unread):
    """A run's folder, a trainer's output with checkpoint-<step> in it, GGUF files, nothing."""
    run, output, gguf = tmp_path / "run", tmp_path / "output", tmp_path / "quantised"
    saved(run / "model")
    saved(output / "checkpoint-500")
    for folder in (gguf, tmp_path / "empty"):
        folder.mkdir()
    (gguf / "q4.gguf").write_bytes(b"GGUF")
    for path, said in (
        (run, f"is a run's folder; give model.start_from={run}, or"),
        (output, f"give model.path={output / 'checkpoint-500'}"),
        (gguf, f"give one: model.path={gguf}/q4.gguf"),
        (tmp_path / "empty", "is not a checkpoint that transformers can load: it holds no config"),
        (run / "model" / WEIGHTS, "is a file, and no GGUF file; give its folder"),
        (tmp_path / "none", "is neither a folder nor a reachable hub id"),
        (tmp_path / "none.gguf", "no such file"),
    ):
        assert said in message_unread(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"model_type": "llama", "vocab_size": "many"}'])
def test_a_config_that_is_none_is_one_line(whole, text, unread):
    (whole / "config.json").write_text(text)
    message_unread(whole)


def test_the_same_is_said_when_it_is_loaded(whole):
    change(whole, architectures=["LlamaForTokenClassification"])
    assert "is a LlamaForTokenClassification" in message(whole)


def test_a_start_or_a_base_that_is_no_causal_lm_is_known_at_once(tmp_path, whole, unread):
    """By `check`, for the model of a cell and for the run that it starts from."""
    spec = load("model/hf", path=str(whole), device="cpu", start_from=str(tmp_path / "run"))
    saved(tmp_path / "run" / "model", LlamaForSequenceClassification(tiny_llama().config))
    with pytest.raises(UserError, match=r"^model.start_from=.*run: .*no causal LM"):
        spec.check()
    shutil.rmtree(tmp_path / "run" / "model")
    saved(tmp_path / "run" / "model")
    spec.check()
    change(whole, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(UserError, match=r"^model.path=.*whole: is a LlamaForSeq"):
        spec.check()


def test_generation_settings_that_can_t_be_read_are_not_passed_over(whole):
    """They name the end tokens: without them a rollout would run on."""
    from grao_bench.models.load import load_tokenizer

    (whole / "generation_config.json").write_text('{"eos_token_id": [1, 2')
    with pytest.raises(UserError, match=r"its generation_config\.json, which names the end tokens"):
        load_tokenizer(str(whole))
