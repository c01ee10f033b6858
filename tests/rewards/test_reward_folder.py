"""What a reward model's folder says of its training, and that it is asked as it was trained."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.specs import load
from grao_bench.models.scorer import Scorer
from grao_bench.rewards.reward_folder import TrainedAs, read_record, shared_pairs
from grao_bench.rewards.reward_model import RewardModel
from grao_bench.runs.progress import Bars
from grao_bench.text.tokens import TextCodec
from grao_bench.train_reward import RewardExperiment, train_reward_model
from grao_bench.training.bradley_terry import pair_margins, read_pairs

from ..cells import world_rows, write_rows
from ..small import tiny_llama
from ..training.rewards import reward_training
from .judge.checkpoint import USER, tokenizer_for

DATA = load("data/hh_helpful")
SPEC: RewardModel = load("reward/reward_model", path="x", device="cpu")
TRAINED = TrainedAs(prompt_format="hh", max_tokens=40)


@pytest.fixture
def folder(tmp_path):
    """A reward model's folder with no record, in which there is a chat template."""
    from transformers import AutoModelForSequenceClassification

    tokenizer = tokenizer_for([row["chosen"] for row in world_rows(40)])
    tiny_llama(vocab=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "model")
    make = AutoModelForSequenceClassification.from_pretrained
    make(tmp_path / "base", num_labels=1, dtype=torch.float32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_record_is_read_back(tmp_path):
    record = replace(TRAINED, dtype="bfloat16", end_token=3, chat_template="12", started_from="ab")
    record.write(tmp_path)
    assert read_record(str(tmp_path)) == record
    assert read_record("owner/name") is None
    (tmp_path / "reward_model.json").write_text("{")
    with pytest.raises(UserError, match="what it says of its training can't be read"):
        read_record(str(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": "40"}, {"max_tokens": True}, {"max_tokens": -3}, {"end_token": "x"}],
)
def test_a_record_edited_into_what_cant_be_is_refused(tmp_path, wrong):
    """Unread, a text would fail later in a comparison, and no end token would ever match."""
    record = {"prompt_format": "hh", "max_tokens": 40} | wrong
    (tmp_path / "reward_model.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="can't be read"):
        read_record(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"pairs": 3}', '{"pairs": [[1]]}'])
def test_a_list_of_pairs_that_is_none_is_named(tmp_path, text):
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(UserError, match=r"pairs.json: is no list of training pairs"):
        shared_pairs(tmp_path, tmp_path)


def test_folders_of_before_the_record_say_it_in_their_config(tmp_path):
    config = {"model": {"prompt_format": "chat", "name": "hf"}, "max_tokens": 256}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert read_record(str(tmp_path)) == TrainedAs(prompt_format="chat", max_tokens=256)


@pytest.mark.parametrize(("key", "asked", "trained"), [("prompt_format", "chat", "hh"), ("max_tokens", 50, 40)])
def test_a_config_that_contradicts_the_folder_is_refused_before_anything_loads(tmp_path, key, asked, trained):
    """By `check`: the folder holds no model at all. Null, and the same value, are right."""
    TRAINED.write(tmp_path)
    message = rf"^reward\.{key}={asked}: .* was trained with {key}={trained}; use {trained}, or null$"
    for spec in (replace(SPEC, path=str(tmp_path)), replace(SPEC, path=str(tmp_path), **{key: trained})):
        spec.check(DATA)
    with pytest.raises(UserError, match=message):
        replace(SPEC, path=str(tmp_path), **{key: asked}).check(DATA)


def test_what_no_one_says_is_asked_for(folder):
    """A foreign folder: its chat template, its context; without the template the format is asked for."""
    spec = replace(SPEC, path=str(folder))
    source = spec.build(DATA)
    tokenizer = tokenizer_for([row["chosen"] for row in world_rows(40)])
    request = RewardRequest(example_of("a", "b"), "b", True)
    (((prompt, _),),) = source.read(request.example, [("b", True)], False)
    assert tokenizer.decode(prompt) == "<|user|>hi<|assistant|>"
    (((prompt, _),),) = source.read(example_of("a", "b", "hello " * 200), [("b", True)], False)
    assert len(prompt) < 64, "of the model's context"
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"^reward\.prompt_format=null: .*model says neither how .*; give hh .* or pair"):
        spec.build(DATA)
    replace(spec, prompt_format="hh").build(DATA)


def test_the_fingerprint_knows_what_null_left_to_the_folder(folder):
    """The same weights, read otherwise: in another format, to another length, by another template."""
    spec = replace(SPEC, path=str(folder))
    found = {spec.build(DATA).fingerprint, spec.build(DATA).fingerprint}
    assert len(found) == 1
    TRAINED.write(folder)
    found.add(spec.build(DATA).fingerprint)
    replace(TRAINED, max_tokens=41).write(folder)
    found.add(spec.build(DATA).fingerprint)
    (folder / "reward_model.json").unlink()
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "\n")
    found.add(spec.build(DATA).fingerprint)
    assert len(found) == 4


def example_of(chosen: str, rejected: str, prompt: str = "hi"):
    from grao_bench.core.types import Example, Turn

    return Example("e", (Turn("user", prompt),), chosen, rejected, "s")


def test_a_length_beyond_the_models_context_is_one_line(folder):
    message = r"^reward\.max_tokens=65: .* reads at most 64 tokens"
    with pytest.raises(UserError, match=message):
        replace(SPEC, path=str(folder), max_tokens=65).build(DATA)
    replace(SPEC, path=str(folder), max_tokens=64).build(DATA)


def test_a_length_beyond_the_context_is_told_before_anything_loads(folder):
    """Asked for, and in a record of another model's: by `check`, from the folder's config alone."""
    (folder / "model.safetensors").unlink()
    replace(SPEC, path=str(folder), max_tokens=64).check(DATA)
    with pytest.raises(UserError, match=r"^reward\.max_tokens=65: .* reads at most 64 tokens"):
        replace(SPEC, path=str(folder), max_tokens=65).check(DATA)
    replace(TRAINED, max_tokens=1024).write(folder)
    with pytest.raises(UserError, match=r"^reward\.max_tokens=1024: .* reads at most 64 tokens"):
        replace(SPEC, path=str(folder)).check(DATA)


@pytest.mark.parametrize("max_tokens", [300, 60])
def test_the_margins_are_those_of_training(tmp_path, max_tokens):
    """train_reward model=hf, then reward=reward_model_margin: of every pair the margin that the
    trainer sees of the same weights, also where prompts are cut, to fit the longer answer."""
    chat_base(tmp_path)
    made = experiment(tmp_path, max_tokens=max_tokens)
    with Bars() as bars:
        metrics = train_reward_model(made, bars)
    assert (metrics["pairs_cut"] > 0) == (max_tokens == 60)
    record = read_record(str(tmp_path / "out"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    codec = TextCodec(tokenizer, "chat", max_tokens, end_token=record.end_token)
    pairs = made.data.build().train
    read = read_pairs(codec, pairs, max_tokens)
    expected = pair_margins(Scorer(float32(tmp_path / "out")), read, 10_000)
    source = load("reward/reward_model_margin", path=str(tmp_path / "out"), device="cpu")
    asked = [RewardRequest(example, example.rejected, True) for example in pairs]
    found = [-verdict.reward for verdict in source.build(made.data).score(asked)]
    kept = [not pair.equal and pair.chosen.finished and pair.rejected.finished for pair in read]
    assert sum(kept) > len(pairs) / 2
    for margin, right, whole in zip(found, expected, kept, strict=True):
        assert not whole or margin == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"end_token": 7, "end_text": "another"}, "end token"),
        ({"chat_template": "ab"}, "chat template"),
    ],
)
def test_a_tokenizer_that_is_another_since_is_refused(folder, changed, what):
    replace(TRAINED, prompt_format="chat", **changed).write(folder)
    with pytest.raises(UserError, match=rf"^reward\.path=.*: its tokenizer's {what} is not the one"):
        replace(SPEC, path=str(folder)).build(DATA)


def experiment(folder, **changed) -> RewardExperiment:
    """On a chat model, with pairs of which each is a micro-batch by itself."""
    rows = world_rows(24)
    write_rows(folder / "pairs.jsonl", rows)
    fields = {
        "model": load("model/hf", path=str(folder / "base"), device="cpu"),
        "data": load("data/jsonl", train=str(folder / "pairs.jsonl")),
        "training": reward_training(tokens_per_forward=1, batch_size=8),
        "half": "all",
        "length_balance": False,
        "baseline": False,
        "max_tokens": 300,
        "seed": 0,
        "threads": 1,
        "output": str(folder / "out"),
    }
    return RewardExperiment(**(fields | changed))


def chat_base(folder):
    tokenizer = tokenizer_for([str(row) for row in world_rows(24)])
    tokenizer.save_pretrained(folder / "base")
    tiny_llama(vocab=len(tokenizer), max_position_embeddings=300).save_pretrained(folder / "base")


def ids_seen():
    """A hook on every embedding, and the rows of ids that went through."""
    rows: list[tuple[int, ...]] = []

    def look(module, inputs):
        if isinstance(module, torch.nn.Embedding):
            rows.append(tuple(inputs[0].flatten().tolist()))

    return torch.nn.modules.module.register_module_forward_pre_hook(look), rows


@pytest.mark.parametrize("asked_end", [None, USER])
def test_a_chat_model_is_asked_with_the_ids_that_it_was_trained_on(tmp_path, asked_end):
    """train_reward model=hf, then reward=reward_model, each with its defaults: pair by pair the same
    ids, which are the template's, the answers', and the end token, whichever it was trained with."""
    chat_base(tmp_path)
    made = experiment(tmp_path)
    made = replace(made, model=replace(made.model, end_token=asked_end))
    hook, trained = ids_seen()
    with Bars() as bars:
        train_reward_model(made, bars)
    hook.remove()
    record = json.loads((tmp_path / "out" / "reward_model.json").read_text())
    assert (record["prompt_format"], record["max_tokens"], record["dtype"]) == ("chat", 300, "float32")

    spec = load("reward/reward_model", path=str(tmp_path / "out"), device="cpu")
    spec.check(made.data)
    source = spec.build(made.data)
    hook, asked = ids_seen()
    data = made.data.build()
    for example in data.train:
        source.score([RewardRequest(example, text, True) for text in (example.chosen, example.rejected)])
    hook.remove()
    assert len(asked) == len(data.train)
    assert {*asked} <= {*trained}

    tokenizer = tokenizer_for([str(row) for row in world_rows(24)])
    first, end = data.train[0], tokenizer.convert_tokens_to_ids(asked_end or tokenizer.eos_token)
    assert (record["end_token"], record["end_text"]) == (end, asked_end or tokenizer.eos_token)
    prompt = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in first.prompt],
        add_generation_prompt=True,
        return_dict=False,
    )
    answers = [[*tokenizer(text)["input_ids"], end] for text in (first.chosen, first.rejected)]
    assert asked[0] == (*prompt, *answers[0], *answers[1])


def test_a_length_beyond_the_bases_context_is_refused_before_it_is_trained(tmp_path):
    chat_base(tmp_path)
    with pytest.raises(UserError, match=r"^max_tokens=301: model=hf reads at most 300 tokens"), Bars() as bars:
        train_reward_model(experiment(tmp_path, max_tokens=301), bars)
    assert not (tmp_path / "out").exists()


def test_a_model_trained_in_half_precision_says_so_and_scores_in_float32(tmp_path):
    from safetensors.torch import load_file

    chat_base(tmp_path)
    made = experiment(tmp_path)
    made = replace(made, model=replace(made.model, dtype="bfloat16"))
    with Bars() as bars:
        train_reward_model(made, bars)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert read_record(str(tmp_path / "out")).dtype == "bfloat16"
    source = replace(SPEC, path=str(tmp_path / "out")).build(made.data)
    example = made.data.build().test[0]
    (verdict,) = source.score([RewardRequest(example, example.chosen, True)])
    model = float32(tmp_path / "out")
    (((prompt, answer),),) = source.read(example, [(example.chosen, True)], False)
    whole = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():  # not its own pooling, which skips an end token that is the pad token
        score = model.score(model.model(input_ids=whole).last_hidden_state[0, -1]).item()
    assert verdict.reward == pytest.approx(score, abs=1e-5)


def float32(folder):
    from transformers import AutoModelForSequenceClassification

    make = AutoModelForSequenceClassification.from_pretrained
    return make(folder, dtype=torch.float32).eval()


def test_a_folder_in_the_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = load("reward/reward_model", path="~/judges/{data}")
    assert spec.paths(["jsonl"]) == [str(tmp_path / "judges" / "jsonl")]
