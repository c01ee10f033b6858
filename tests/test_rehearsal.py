"""What can fail is tried before a base is made or a checkpoint read: each fault is a line, and nothing else has happened."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from grao_bench.core.errors import UserError
from grao_bench.core.ops import masked_mean
from grao_bench.core.process import process_settings
from grao_bench.core.specs import load
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates, Verdict
from grao_bench.models.toy import toy_models
from grao_bench.runs import rehearsal
from grao_bench.runs.cell import read_data
from grao_bench.runs.rehearsal import rehearse
from grao_bench.runs.run import run
from tests.cells import OBJECTIVES, SMALL_WORLD, cell, small
from tests.small import FAMILIES


@pytest.fixture(autouse=True)
def _nothing_tried(monkeypatch):
    monkeypatch.setattr(rehearsal, "_tried", set())


def tried(experiment: Any) -> None:
    with process_settings(1):
        rehearse(experiment, read_data)


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """An objective with one fault."""

    name: str
    fault: str

    @property
    def needs(self) -> Needs:
        return Needs(rollouts=2, chosen=True, rewards=True)

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Any:
        if self.fault == "prepare":
            raise ZeroDivisionError("in prepare")
        return None if self.fault == "no batch" else batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Any:
        J = masked_mean(policy.logp, batch.mask)[:, 0]
        losses = {
            "loss": lambda: J.no_such,
            "need": lambda: Loss({"a": batch.reference_logp[:, 0, 0] + J}),
            "no gradient": lambda: Loss({"a": J.detach()}),
            "shape": lambda: Loss({"a": policy.logp.mean()}),
            "no loss": lambda: J,
            "nan": lambda: Loss({"a": J * float("nan")}),
        }
        return losses.get(self.fault, lambda: Loss({"a": J}))()


OBJECTIVE_FAULTS = {
    "prepare": r"objective=mine: raised ZeroDivisionError: in prepare \(.*test_rehearsal\.py:\d+\)",
    "no batch": "objective=mine: its prepare gave NoneType, not a Batch",
    "loss": r"objective=mine: raised \w+: .* \(.*test_rehearsal\.py:\d+\)",
    "need": r"batch\.reference_logp: nobody asked for it; the objective needs Needs\(reference_logp=True\)",
    "no gradient": "objective=mine: its loss depends on nothing that the policy says",
    "shape": r"objective=mine: its a has the shape \(\), not \[P\] = \(2,\)",
    "no loss": "objective=mine: its loss gave no Loss with parts",
    "nan": r"the loss of example .* is nan",
}


@pytest.fixture
def as_installed():
    """Without the type checks that tests run under: a user has none."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(("fault", "message"), OBJECTIVE_FAULTS.items(), ids=OBJECTIVE_FAULTS)
def test_an_objective_that_would_fail(fault, message, tmp_path):
    tried(replace(cell("sft", tmp_path), objective=Faulty(name="mine", fault="none")))
    with pytest.raises(UserError, match=message) as raised:
        tried(replace(cell("sft", tmp_path), objective=Faulty(name="mine", fault=fault)))
    assert "\n" not in str(raised.value)


REWARDS = """
import math


def raises(prompts, completions, references):
    return [1 / 0 for _ in completions]


def short(prompts, completions, references):
    return [1.0]


def nan(prompts, completions, references):
    return [math.nan for _ in completions]


def words(prompts, completions, references):
    return ["good" for _ in completions]
"""
REWARD_FAULTS = {
    "raises": r"raised ZeroDivisionError: division by zero",
    "short": "gave 1 numbers for 2 completions",
    "nan": "gave nan for completion 0",
    "words": "gave 'good' for completion 0",
}


@pytest.mark.parametrize("evaluation", [False, True], ids=["training", "evaluation"])
@pytest.mark.parametrize(("name", "message"), REWARD_FAULTS.items(), ids=REWARD_FAULTS)
def test_a_reward_that_would_fail(name, message, evaluation, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "users_faults.py").write_text(REWARDS)
    reward = load("reward/python", function=f"users_faults.{name}")
    changed = {"evaluation": small("evaluation/standard", reward=reward)} if evaluation else {"reward": reward}
    with pytest.raises(UserError, match=message):
        tried(cell("sft", tmp_path, **changed))
    # within others as well
    part = load("reward/mixture").parts["verdict"]
    mixed = load("reward/mixture", parts={"mine": replace(part, source=reward)})
    with pytest.raises(UserError, match=message):
        tried(cell("grpo", tmp_path, reward=mixed))


@dataclass(frozen=True)
class Fixed:
    """A reward of a user's class: what it gives."""

    gives: Any

    def needs_reference(self, data: Any) -> bool:
        return False

    def check(self, data: Any) -> None: ...

    def build(self, data: Any) -> FixedSource:
        if self.gives == "no source":
            raise KeyError("model")
        return FixedSource(self.gives)


@dataclass(frozen=True)
class FixedSource:
    gives: Any
    name: str = "fixed"
    pairwise: bool = False
    fingerprint: str = "fixed"
    tie_margin: float = 0.0

    def score(self, requests: Sequence[Any]) -> list[Verdict]:
        if self.gives == "raises":
            raise RuntimeError("two\nlines")
        return [Verdict(self.gives, "fixed")] * (1 if self.gives == 2.0 else len(requests))


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        ("no source", "reward: raised KeyError: 'model' "),
        ("raises", r"reward \(fixed\): raised RuntimeError: two lines \("),
        (2.0, "reward source fixed: gave 1 verdicts for 2 answers"),
        (float("inf"), "reward source fixed: gave inf for an answer"),
    ],
)
def test_a_reward_source_that_would_fail(gives, message, tmp_path):
    tried(cell("sft", tmp_path, reward=Fixed(0.5)))
    tried(cell("sft", tmp_path, reward=Fixed(None)))
    with pytest.raises(UserError, match=message):
        tried(cell("sft", tmp_path, reward=Fixed(gives)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_passes_and_moves_no_random_stream(name, tmp_path):
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    tried(cell(name, tmp_path))
    after = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after
    assert [*tmp_path.iterdir()] == []


def save_tokenizer(folder: Path, template: str) -> None:
    bytes_alone = Tokenizer(models.BPE({text: i for i, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    bytes_alone.add_special_tokens(["<|end|>", "<|pad|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSING = PLAIN + "{% if messages | length < 9 %}{{ raise_exception('nine turns, please') }}{% endif %}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_tried_in_its_own_shape_without_its_weights(family, tmp_path):
    folder = tmp_path / "model"
    FAMILIES[family](vocab=260, max_position_embeddings=256).save_pretrained(folder)
    save_tokenizer(folder, PLAIN)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()  # nothing reads them
    model = load("model/hf", path=str(folder), prompt_format="chat", device="cpu")
    experiment = cell("grpo", tmp_path / "runs", model=model)
    with process_settings(1):
        wanted = rehearsal.models_wanted(experiment)
        toy = toy_models(model, wanted, ["a"])
    assert toy.real
    # latent attention's sizes hang together in a way of their own
    shape = "llama" if family == "deepseek_v3" else family
    assert toy.models.policy.model.config.model_type.startswith(shape)
    assert toy.models.policy.model.num_parameters() < 200_000
    tried(experiment)


def test_a_template_that_refuses_and_a_context_that_is_too_short(tmp_path):
    folder = tmp_path / "model"
    FAMILIES["llama"](vocab=260, max_position_embeddings=40).save_pretrained(folder)
    model = load("model/hf", path=str(folder), prompt_format="chat", device="cpu")
    save_tokenizer(folder, REFUSING)
    with pytest.raises(UserError, match="nine turns, please"):
        tried(cell("sft", tmp_path / "runs", model=model))
    save_tokenizer(folder, PLAIN)
    with pytest.raises(UserError, match="exceed the model's context of 40"):
        tried(cell("sft", tmp_path / "runs", model=model))
    shutil.rmtree(tmp_path / "model")
    budget = load("budget/smoke", max_answer_tokens=512)
    with pytest.raises(UserError, match=r"budget\.max_answer_tokens=512: the model's context is 512 tokens"):
        tried(cell("sft", tmp_path / "runs", budget=budget))


def test_it_comes_before_the_base_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAO_BENCH_CACHE", str(tmp_path / "cache"))
    experiment = replace(cell("sft", tmp_path / "runs"), objective=Faulty(name="mine", fault="loss"))
    with pytest.raises(UserError, match="objective=mine: raised"):
        run(experiment)
    assert not (tmp_path / "cache").exists()
    assert not [*tmp_path.rglob("steps.jsonl")]


def test_a_grid_tries_every_cell_before_the_first(tmp_path, command):
    rewards = "tests.rewards.functions.shorter,tests.rewards.functions.one_number"
    outcome = command("train", "-m", "objective=sft,grpo", "reward=python", f"reward.function={rewards}", *SMALL_WORLD)
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert lines[0] == "grao_bench: nothing was trained, because of"
    assert len(lines) == 3
    assert all("gave 1 numbers for 2 completions" in line and "one_number" in line for line in lines[1:])
    assert not [*tmp_path.rglob("*.partial"), *tmp_path.rglob("steps.jsonl")]


def test_what_is_tried_is_tried_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(rehearsal, "_step", lambda experiment, dataset: asked.append(experiment.seed))
    for seed in range(3):
        tried(cell("grpo", tmp_path, seed=seed))
    tried(cell("dpo", tmp_path))
    assert asked == [0, 0]


def test_the_record_of_a_run_holds_nothing_of_it(tmp_path):
    folder = run(cell("grpo", tmp_path))
    assert yaml.safe_load((folder / "config.yaml").read_text())["budget"]["steps"] == 2
    assert len((folder / "steps.jsonl").read_text().splitlines()) == 2
