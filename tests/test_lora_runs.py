"""Runs with an adapter from start to finish: what they leave and share, resuming, chains, reward
models, and the command lines."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from grao_bench.core.errors import UserError
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import load
from grao_bench.evaluate import load_experiment
from grao_bench.models.scorer import Scorer, load_classifier, score_rows
from grao_bench.runs.cell import build
from grao_bench.runs.check import check
from grao_bench.runs.run import run
from tests.cells import (
    RESULTS,
    SMALL_WORLD,
    TINY_BASE,
    cell,
    contents,
    small,
    world_rows,
    write_rows,
)
from tests.test_run import RESUMED, Stopped, stop_after

LORA = load("model/adapter/lora", rank=4, alpha=8)
FAST = {"optimizer": load("optimizer/adamw", lr=0.02, warmup_steps=0)}
MODEL = small("model/tiny", adapter=LORA)


def lora_cell(objective, output, **changed):
    return cell(objective, output, **({"model": MODEL} | FAST | changed))


def base_of(folder):
    """The base of a finished run, loaded anew."""
    said = json.loads((folder / "model" / "adapter_config.json").read_text())
    return AutoModelForCausalLM.from_pretrained(said["base_model_name_or_path"])


def base_folders(output):
    return [*(output / "small" / "tiny" / "base").glob("*/seed0")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("lora")


@pytest.fixture(scope="module")
def first(home):
    """A finished run of SFT."""
    return run(lora_cell("sft", home))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("dpo", "grpo", "grao")]


@pytest.mark.parametrize("objective", ["sft", "ppo", *SLOW])
def test_a_run_leaves_an_adapter_that_peft_loads(objective, home, first):
    experiment = lora_cell(objective, home)
    folder = run(experiment)
    names = {path.name for path in (folder / "model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert not names & {"model.safetensors", "config.json"}
    assert ("value_head.pt" in names) == (objective == "ppo")
    found = read_run(folder)
    assert found.probes[0].metrics["kl"] == pytest.approx(0, abs=1e-6), "it begins as its base"
    assert found.probes[-1].metrics["kl"] > 1e-3
    records = [record.metrics for record in (*found.steps, *found.probes)]
    told = [metrics["sampler_mismatch"] for metrics in records if "sampler_mismatch" in metrics]
    assert told
    assert max(told) < 1e-5
    base = base_of(folder)
    assert weights_fingerprint(base) == found.info.fingerprints["base"]
    model = PeftModel.from_pretrained(base, folder / "model")
    stored = load_file(folder / "model" / "adapter_model.safetensors")
    assert any(value.any() for name, value in stored.items() if "lora_B" in name)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    ids = tokenizer("\n\nHuman: Hello.\n\nAssistant:", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, started(folder)(input_ids=ids).logits)


def started(folder):
    """The model of a policy that starts from a finished run's adapter."""
    model = replace(MODEL, start_from=str(folder))
    return build(cell("sft", folder, model=model)).trainer.policy.model


def test_cells_with_and_without_an_adapter_share_the_bases_evaluation(home, first):
    (base,) = base_folders(home)
    run(cell("sft", home))
    assert base_folders(home) == [base]
    plain, one = cell("sft", home, **FAST), lora_cell("sft", home)
    other = lora_cell("sft", home, model=replace(MODEL, adapter=replace(LORA, rank=2)))
    hashes = {each.config_hash for each in (plain, one, other)}
    assert len(hashes) == 3, "an adapter and its fields are part of a cell's identity"


def test_an_interrupted_cell_ends_as_if_it_had_not_been_interrupted(tmp_path):
    whole = run(lora_cell("ppo", tmp_path / "whole", **RESUMED))
    experiment = lora_cell("ppo", tmp_path / "stopped", **RESUMED)
    with pytest.raises(Stopped):
        run(experiment, on_step=stop_after(3))
    partial = experiment.folder.with_name("seed0.partial")
    state = torch.load(partial / "checkpoint" / "state.pt", weights_only=True)
    names = state["module"]
    assert all(".lora_" in name or name.startswith("value_head.") for name in names)
    assert len(state["optimizer"]["state"]) == len(names)
    assert state["masters"] == []
    torch.manual_seed(99)
    folder = run(experiment)
    assert contents(folder, *RESULTS) == contents(whole, *RESULTS)


@pytest.mark.slow
def test_the_best_on_dev_is_kept(tmp_path):
    budget = load("budget/smoke", steps=3, probe_every=1, keep="best_dev")
    folder = run(lora_cell("sft", tmp_path, budget=budget))
    kept = read_run(folder).info.kept_step
    shorter = run(lora_cell("sft", tmp_path, budget=replace(budget, steps=kept, keep="last")))
    assert contents(folder, "model/*.safetensors") == contents(shorter, "model/*.safetensors")


def test_a_chain_of_adapters(home, first):
    """SFT, then GRPO on its adapter: measured against the base, held to its start."""
    second = run(lora_cell("grpo", home, model=replace(MODEL, start_from=str(first))))
    before, after = read_run(first), read_run(second)
    assert after.info.fingerprints["base"] == before.info.fingerprints["base"]
    started, ended = after.probes[0].metrics, before.probes[-1].metrics
    assert started["j_reference"] == pytest.approx(ended["j_reference"], abs=1e-6)
    assert started["kl"] == pytest.approx(ended["kl"], abs=1e-5)
    assert started["kl"] > 1e-3
    assert after.steps[0].metrics["kl"] == pytest.approx(0, abs=1e-6), "the reference is the start"


@pytest.mark.slow
def test_the_cache_on_disk_holds_the_references_adapter(home, first):
    """DPO's reference log-probabilities come through it; at its first step the policy is they."""
    run(lora_cell("dpo", home))
    chained = lora_cell("dpo", home, model=replace(MODEL, start_from=str(first)))
    assert read_run(run(chained)).steps[0].metrics["loss"] == pytest.approx(0.6931, abs=1e-4)


@pytest.mark.slow
def test_whole_weights_go_on_from_an_adapter(home, first):
    second = run(cell("grpo", home, model=small("model/tiny", start_from=str(first))))
    started, ended = read_run(second).probes[0].metrics, read_run(first).probes[-1].metrics
    assert started["j_reference"] == pytest.approx(ended["j_reference"], abs=1e-5)
    assert (second / "model" / "config.json").is_file()


def test_a_merged_model_is_saved_where_it_is_asked_for(home, first):
    merged_ = run(lora_cell("sft", home, sweep="merged", save_model="full"))
    assert run(lora_cell("sft", home, sweep="merged")) == merged_
    with pytest.raises(UserError, match="is finished, and kept its whole model"):
        run(lora_cell("sft", home, sweep="merged", save_model="adapter"))
    assert not (merged_ / "model" / "adapter_config.json").exists()
    whole = AutoModelForCausalLM.from_pretrained(merged_ / "model")
    beside = PeftModel.from_pretrained(base_of(first), first / "model")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        ours, theirs = (one(input_ids=ids).logits for one in (whole, beside))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert contents(first, "steps.jsonl") == contents(merged_, "steps.jsonl")


def test_no_model_is_saved_where_none_is_asked_for(tmp_path):
    assert not (run(lora_cell("sft", tmp_path, save_model="none")) / "model").exists()
    with pytest.raises(UserError, match=r"save_model=adapter: all weights train"):
        check(cell("sft", tmp_path, save_model="adapter"))


@pytest.mark.slow
def test_a_grid_has_cells_with_an_adapter_and_without(command, tmp_path):
    line = ("-m", "objective=sft", "model.adapter=null,lora", "sweep=both")
    grid = command("train", *line, *SMALL_WORLD)
    assert grid.code == 0, grid.err
    found = (tmp_path / "runs" / "both").glob("tiny/world_helpful/*/seed0/run.json")
    folders = [path.parent for path in found]
    plain = [load_experiment(folder).model.adapter is None for folder in folders]
    assert sorted(plain) == [False, True]


def test_the_commands(command, tmp_path):
    """One line trains; a finished run is evaluated again, by lm-eval too."""
    line = ("model.adapter=lora", "model.adapter.rank=3", "model.adapter.targets=[q_proj,v_proj]")
    outcome = command("train", "objective=sft", *line, *SMALL_WORLD)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / outcome.out.splitlines()[-1]
    said = json.loads((folder / "model" / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"], said["target_modules"]) == (3, 32, ["q_proj", "v_proj"])
    tasks = ("lm_eval.tasks=[grao_world_harmless]", "lm_eval.limit=2")
    again = command("evaluate", f"run={folder}", "temperature=0", *tasks)
    assert again.code == 0, again.err
    key = ("world_helpful", "gold_T0")
    assert key in read_run(folder).evaluations
    assert read_run(folder).lm_eval
    none = ("model.adapter=lora", "model.adapter.targets=[query]")
    wrong = command("train", "objective=sft", *none, *SMALL_WORLD)
    assert wrong.code == 2
    assert len(wrong.err.strip().splitlines()) == 1
    assert "model.adapter.targets=query: no layer of LlamaForCausalLM" in wrong.err
    unknown = command("train", "objective=sft", "model.adapter=ia3", *SMALL_WORLD)
    assert unknown.code != 0
    assert "lora" in unknown.err


def test_a_reward_model_with_an_adapter(command, tmp_path):
    """Its head trains in full, and its folder is read back: by us, and by peft."""
    rows = world_rows(60)
    ends = {"chosen": "Thanks.", "rejected": "Never."}
    pairs = [row | {key: f"{row['chosen']} {end}" for key, end in ends.items()} for row in rows]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    own = ("data=jsonl", "data.train=pairs.jsonl", *TINY_BASE)
    how = ("model.adapter=lora", "training.epochs=4", "training.lr=0.02", "output=judges/jsonl")
    outcome = command("train_reward", *own, *how, "baseline=false")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "judges" / "jsonl"
    assert json.loads((folder / "metrics.json").read_text())["test/accuracy"] > 0.8
    stored = load_file(folder / "adapter_model.safetensors")
    assert {name for name in stored if ".lora_" not in name} == {"base_model.model.score.weight"}

    model, tokenizer = load_classifier(str(folder), "float32", "cpu", "reward")
    ids = tokenizer("\n\nHuman: Hello.\n\nAssistant: Hi.")["input_ids"]
    (ours,) = score_rows(Scorer(model), [(tuple(ids[:4]), tuple(ids[4:]))], 512)
    below = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    torch.manual_seed(5)
    base = AutoModelForSequenceClassification.from_pretrained(below, num_labels=1)
    theirs = PeftModel.from_pretrained(base, folder)
    with torch.no_grad():
        score = theirs(input_ids=torch.tensor([ids])).logits.item()
    assert ours == pytest.approx(score, abs=1e-5)

    judged = ("reward=reward_model", "reward.path='judges/{data}'")
    short = ("budget=smoke", "evaluation.max_examples=4")
    outcome = command("train", "objective=grpo", *own, *judged, *short)
    assert outcome.code == 0, outcome.err
    found = read_run(tmp_path / outcome.out.splitlines()[-1])
    assert {record.metrics["reward/std"] > 0 for record in found.steps} == {True}


FRESH = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, folder, out = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
with torch.no_grad():
    torch.save(model(input_ids=torch.arange(3, 40)[None]).logits, out)
"""


@pytest.mark.slow
def test_a_fresh_process_says_the_same_to_the_bit(tmp_path):
    folder = run(lora_cell("sft", tmp_path))
    below = json.loads((folder / "model" / "adapter_config.json").read_text())
    below = below["base_model_name_or_path"]
    line = [sys.executable, "-c", FRESH, below, str(folder / "model"), str(tmp_path / "out")]
    subprocess.run(line, check=True, timeout=120)
    with torch.no_grad():
        ours = started(folder)(input_ids=torch.arange(3, 40)[None]).logits
    assert torch.equal(torch.load(tmp_path / "out"), ours)
