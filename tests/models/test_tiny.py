"""The embedded base: made once, the same every time, and loadable by anyone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from grao_bench.core.errors import UserError
from grao_bench.core.specs import load
from grao_bench.models.load import load_causal_lm
from grao_bench.models.tiny import END, PAD, TinyModel, cache_folder, length_bucketed, train_tokenizer

WORDS = ("red", "green", "blue", "one", "two", "three")
CORPUS = [f"\n\nHuman: Say {a} then {b}.\n\nAssistant: {a} {b}." for a in WORDS for b in WORDS]
SPEC: TinyModel = load(
    "model/tiny", hidden_size=16, layers=1, heads=2, vocab_size=300, max_positions=48, steps=30, batch_size=8, learning_rate=0.01
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAO_BENCH_CACHE", str(tmp_path))
    return tmp_path


def parameters(path):
    # copies: loaded weights are mapped from a file that a test may write over
    return {name: value.detach().clone() for name, value in AutoModelForCausalLM.from_pretrained(path).named_parameters()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_is_trained_once_then_found(cache):
    """The first call trains and reports every step; the next finds the folder and asks for nothing. The loss falls far below chance."""
    seen = []
    path = SPEC.checkpoint(lambda: CORPUS, lambda *progress: seen.append(progress))
    assert [(step, steps) for step, steps, _ in seen] == [(step, 30) for step in range(1, 31)]
    assert seen[-1][2] < 0.7 * seen[0][2]
    assert Path(path).parent == cache / "tiny"
    assert cache_folder() == cache
    again = SPEC.checkpoint(lambda: CORPUS, lambda *progress: pytest.fail("trained again"))
    assert again == path
    assert [folder.name for folder in (cache / "tiny").iterdir() if folder.is_dir()] == [Path(path).name]


def test_it_is_the_same_every_time_and_leaves_the_global_random_state_alone(cache, monkeypatch):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = parameters(SPEC.checkpoint(lambda: CORPUS))
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setenv("GRAO_BENCH_CACHE", str(cache / "elsewhere"))
    torch.manual_seed(2)
    assert same(parameters(SPEC.checkpoint(lambda: CORPUS)), first)
    assert not same(parameters(replace(SPEC, seed=1).checkpoint(lambda: CORPUS)), first)


def test_what_shapes_the_weights_has_a_folder_of_its_own(cache):
    """And what does not shape them, the name and the losses' temperature, shares it."""
    short = replace(SPEC, steps=1)
    path = short.checkpoint(lambda: CORPUS)
    assert replace(short, name="other", logp_temperature=0.5).checkpoint(lambda: CORPUS) == path
    others = [replace(short, seed=1), replace(short, steps=2), replace(short, hidden_size=8), replace(short, learning_rate=0.02)]
    paths = [other.checkpoint(lambda: CORPUS) for other in others] + [short.checkpoint(lambda: CORPUS[:-1])]
    assert len({path, *paths}) == 6


def test_it_loads_with_the_auto_classes_and_speaks_its_tokenizer(cache):
    """Text survives encoding, no token is added by itself, and the end and pad tokens are where the config says."""
    path = SPEC.checkpoint(lambda: CORPUS)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    text = CORPUS[7] + " Ünïcode\n"
    trained = train_tokenizer(CORPUS, SPEC.vocab_size)
    assert tokenizer(text)["input_ids"] == trained(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert 258 < len(tokenizer) == model.config.vocab_size <= SPEC.vocab_size
    assert model.config.tie_word_embeddings
    assert load_causal_lm(path, "float32", "cpu")[0].num_parameters() == model.num_parameters()


def test_it_learns_where_an_answer_ends(cache):
    """After more steps the end token follows a whole document, and not its middle."""
    path = replace(SPEC, steps=150).checkpoint(lambda: CORPUS)
    model, tokenizer = load_causal_lm(path, "float32", "cpu")
    ids = torch.tensor([tokenizer(CORPUS[0])["input_ids"]])
    end = model(ids).logits[0].softmax(-1)[:, tokenizer.eos_token_id]
    assert end[-1] > 0.5
    assert end[:-1].max() < 0.1


def test_a_half_made_base_is_made_anew(cache):
    """What an interrupted process left aside is not taken for a base."""
    path = Path(SPEC.checkpoint(lambda: CORPUS))
    expected = parameters(str(path))
    path.rename(path.with_name(path.name + ".partial"))
    (path.with_name(path.name + ".partial") / "model.safetensors").write_bytes(b"half")
    assert same(parameters(SPEC.checkpoint(lambda: CORPUS)), expected)


def test_a_corpus_is_needed(cache):
    with pytest.raises(UserError, match="the data has no corpus to pre-train on"):
        SPEC.checkpoint(lambda: [])


def test_start_from_a_run_replaces_the_base(tmp_path):
    hf = load("model/hf", path=str(tmp_path / "base"))
    for spec in (SPEC, hf):
        other = replace(spec, start_from=str(tmp_path))
        (tmp_path / "model").mkdir(exist_ok=True)
        assert other.checkpoint(lambda: pytest.fail("read")) == str(tmp_path / "model")
        (tmp_path / "model").rmdir()
        with pytest.raises(UserError, match=r"model.start_from=.*: holds no model/"):
            other.checkpoint(lambda: CORPUS)
    assert hf.checkpoint(lambda: pytest.fail("read")) == str(tmp_path / "base")


def test_batches_hold_every_document_once_an_epoch_and_rows_of_similar_length():
    lengths = [1 + (7 * i) % 40 for i in range(100)]
    encoded = [torch.zeros(length).numpy() for length in lengths]
    batches = length_bucketed(encoded, 10, 23, seed=0)
    assert len(batches) == 23
    for epoch in (batches[:10], batches[10:20]):
        assert sorted(row for batch in epoch for row in batch) == list(range(100))
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert max(spread) <= 8
    assert batches[:10] != batches[10:20]
    assert length_bucketed(encoded, 10, 23, seed=0) == batches != length_bucketed(encoded, 10, 23, seed=1)
