"""A GGUF file as model.path: the same model as the checkpoint that it was written from."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.specs import load
from grao_bench.models.load import check_causal_lm, load_causal_lm
from grao_bench.models.tiny import END, train_tokenizer
from grao_bench.runs.run import run
from tests.cells import cell
from tests.small import tiny_llama

TEXTS = ["\n\nHuman: the red green blue\n\nAssistant: one two three."] * 3


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAO_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def rotated(weight, heads):
    """A query's or key's rows in the order that llama.cpp keeps them in: pairs of one rotation side
    by side, where transformers has them half a head apart."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
    return pairs.reshape(rows, columns)


def weights_of(model):
    """Name in the file -> weights, as llama.cpp's converter has them."""
    layer = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    found = {}
    for name, weight in model.state_dict().items():
        values = weight.float().numpy()
        parts = name.removesuffix(".weight").split(".", 3)
        if name.startswith("model.layers."):
            ours = layer[parts[3]]
            if ours in ("attn_q", "attn_k"):
                values = rotated(values, model.config.num_attention_heads)
            found[f"blk.{parts[2]}.{ours}.weight"] = values
        else:
            top = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
            found[f"{top[parts[-1]]}.weight"] = values
    return found


def written(path, model, tokenizer, kind=np.float32, architecture="llama", lost=()):
    """The model and its tokenizer as a GGUF file."""
    config = model.config
    file = gguf.GGUFWriter(str(path), architecture)
    file.add_context_length(config.max_position_embeddings)
    file.add_embedding_length(config.hidden_size)
    file.add_block_count(config.num_hidden_layers)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(config.num_attention_heads)
    file.add_head_count_kv(config.num_key_value_heads)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    file.add_vocab_size(config.vocab_size)
    said = tokenizer.backend_tokenizer.get_vocab()
    tokens = sorted(said, key=said.__getitem__)
    special = set(tokenizer.all_special_tokens)
    file.add_tokenizer_model("gpt2")
    file.add_token_list(tokens)
    file.add_token_types([3 if token in special else 1 for token in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    file.add_token_merges([" ".join(pair) for pair in merges])
    file.add_bos_token_id(tokenizer.eos_token_id)
    file.add_eos_token_id(tokenizer.eos_token_id)
    file.add_pad_token_id(tokenizer.pad_token_id)
    for name, values in weights_of(model).items():
        if name not in lost:
            file.add_tensor(name, values.astype(kind if values.ndim > 1 else np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path


@pytest.fixture
def model(tokenizer):
    end = tokenizer.eos_token_id
    return tiny_llama(len(tokenizer), tie_word_embeddings=False, eos_token_id=end)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_are_those_it_was_written_from(tmp_path, model, tokenizer, dtype):
    """float16 in the file, exactly there in float32, and rounded once in bfloat16."""
    path = str(written(tmp_path / "m.gguf", model, tokenizer, np.float16))
    check_causal_lm(path)
    loaded, read = load_causal_lm(path, dtype, "cpu")
    wanted = getattr(torch, dtype)
    theirs = dict(model.named_parameters())
    for name, weight in loaded.named_parameters():
        right = theirs[name] if theirs[name].ndim == 1 else theirs[name].half().float()
        assert torch.equal(weight, right.to(wanted)), name
    text = TEXTS[0]
    assert read(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert read.eos_token == END


def test_it_is_unpacked_once_and_anew_when_it_changes(tmp_path, model, tokenizer):
    path = written(tmp_path / "m.gguf", model, tokenizer)
    load_causal_lm(str(path), "float32", "cpu")
    (folder,) = (tmp_path / "cache" / "gguf").glob("*[!k]")
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    load_causal_lm(str(path), "float32", "cpu")
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    with torch.no_grad():
        model.lm_head.weight += 1
    written(path, model, tokenizer)
    loaded, _ = load_causal_lm(str(path), "float32", "cpu")
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_a_run_trains_from_it_and_saves_a_checkpoint(tmp_path, model, tokenizer):
    path = written(tmp_path / "m.gguf", model, tokenizer)
    spec = load("model/hf", path=str(path), prompt_format="hh", device="cpu")
    budget = load("budget/smoke", steps=1, max_prompt_tokens=16, max_answer_tokens=8)
    folder = run(cell("sft", tmp_path / "runs", model=spec, budget=budget))
    check_causal_lm(str(folder / "model"))
    assert not torch.equal(
        load_causal_lm(str(folder / "model"), "float32", "cpu")[0].lm_head.weight,
        model.lm_head.weight,
    )


def test_what_is_wrong_with_a_file_is_one_line(tmp_path, model, tokenizer, monkeypatch):
    whole = written(tmp_path / "m.gguf", model, tokenizer)
    data = whole.read_bytes()
    for size in (100, len(data) // 2, len(data) - 100):
        (tmp_path / "cut.gguf").write_bytes(data[:size])
        with pytest.raises(UserError, match=r"cut.gguf: is cut short or damaged \([^\n]*\); copy"):
            check_causal_lm(str(tmp_path / "cut.gguf"))
    strange = written(tmp_path / "strange.gguf", model, tokenizer, architecture="grok")
    with pytest.raises(UserError, match=r"strange.gguf: [^\n]*grok[^\n]*not supported"):
        load_causal_lm(str(strange), "float32", "cpu")
    lacking = written(tmp_path / "l.gguf", model, tokenizer, lost=["blk.1.ffn_up.weight"])
    for _ in range(2):  # nothing half-made is found in the cache
        with pytest.raises(UserError, match=r"it lacks model.layers.1.mlp.up_proj.weight"):
            load_causal_lm(str(lacking), "float32", "cpu")
    for lost in ("my_models/none.gguf", "none.gguf", str(tmp_path / "none.gguf")):
        with pytest.raises(UserError, match=rf"^model\.path={lost}: no such file; check"):
            check_causal_lm(lost)
    monkeypatch.setitem(sys.modules, "gguf", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'grao-bench\[gguf\]'"):
        check_causal_lm(str(whole))


@pytest.mark.slow
def test_a_real_one(tmp_path):
    """SmolLM2-135M-Instruct in 4 bits: as many parameters, its end of turn, its template."""
    path = os.environ.get("GRAO_BENCH_GGUF", "")
    if not Path(path).is_file():
        pytest.skip("GRAO_BENCH_GGUF names no GGUF file of SmolLM2-135M-Instruct")
    model, tokenizer = load_causal_lm(path, "bfloat16", "cpu")
    assert sum(each.numel() for each in model.parameters()) == 134_515_008
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == model.generation_config.eos_token_id
    assert "<|im_start|>" in tokenizer.chat_template
