"""python -m grao_bench.evaluate model=...: any checkpoint gets the numbers that a run of its
weights gets, and stands beside runs in their report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import load
from grao_bench.report import build_report
from grao_bench.runs.checkpoints import CheckpointEvaluation, evaluate_checkpoint
from grao_bench.runs.run import run
from tests.cells import SMALL_WORLD, cell, contents, small, write_rows

RECORDS = "evaluations/*.jsonl"
WORLD = tuple(word for word in SMALL_WORLD if word.startswith("data."))
SMOKE = (
    "evaluation.sets=own",
    "evaluation.answers_per_prompt=1",
    "budget=smoke",
    "model.prompt_format=hh",
    "model.device=cpu",
)
ASKED = (*WORLD, *SMOKE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps: its folder."""
    return run(cell("sft", tmp_path_factory.mktemp("trained")))


@pytest.fixture(scope="module")
def base(finished):
    """The folder of the base that it started from."""
    spec = small("model/tiny")
    return spec.checkpoint(small("data/world_helpful").corpus)


@pytest.fixture
def elsewhere(finished, tmp_path):
    """The run's model as another trainer would leave it, in a folder of its own."""
    return shutil.copytree(finished / "model", tmp_path / "trl" / "checkpoint-2")


def asked(path, output, **changed):
    """The same from the library; the names of the folders above are as the run's."""
    fields = {
        "model": load("model/hf", path=str(path), name="tiny", prompt_format="hh", device="cpu"),
        "name": "elsewhere",
        "base": None,
        "data": small("data/world_helpful"),
        "reward": load("reward/gold"),
        "rollout": load("rollout/shared_prefix"),
        "budget": load("budget/smoke"),
        "evaluation": small("evaluation/standard"),
        "threads": 1,
        "output": str(output),
        "sweep": "small",
    }
    return CheckpointEvaluation(**(fields | changed))


def test_the_numbers_are_those_of_the_run(finished, elsewhere, base, command, tmp_path):
    """Byte for byte, the run's and its base's; and the scores are printed."""
    words = (f"model.path={elsewhere}", f"base={base}", "name=elsewhere", *ASKED)
    outcome = command("evaluate", "model=hf", "model.name=tiny", *words)

    assert outcome.code == 0, outcome.err
    *scores, last = outcome.out.splitlines()
    folder = tmp_path / last
    assert last.startswith("runs/single/tiny/world_helpful/elsewhere-")
    assert contents(folder, RECORDS) == contents(finished, RECORDS)
    (ours,) = (tmp_path / "runs").glob("single/tiny/base/*/seed0")
    (theirs,) = finished.parents[2].glob("base/*/seed0")
    assert contents(ours, RECORDS) == contents(theirs, RECORDS)
    (line,) = scores
    found = read_run(finished).evaluations["world_helpful", "gold"]
    ras = 100 * sum(record.verdict > 0 for record in found) / len(found)
    assert line.startswith(f"world_helpful by gold: RAS {ras:.1f}%, nag_mean ")
    assert line.endswith(f", {len(found)} prompts")
    # a second time nothing is made again
    before = {path: path.stat().st_mtime_ns for path in folder.glob(RECORDS)}
    assert command("evaluate", "model=hf", "model.name=tiny", *words).out == outcome.out
    assert {path: path.stat().st_mtime_ns for path in folder.glob(RECORDS)} == before


def test_it_stands_beside_runs_in_their_report(finished, elsewhere, base, tmp_path):
    """A row without steps, seeds that are not missing, and no part of the tested differences."""
    shutil.copytree(finished.parents[4], tmp_path / "runs")
    second = replace(cell("grpo", tmp_path / "runs"), seed=1)
    run(second)
    evaluate_checkpoint(asked(elsewhere, tmp_path / "runs", base=base))
    report = build_report(tmp_path / "runs" / "small", tmp_path / "report")
    rows = pd.read_csv(tmp_path / "report" / "tables.csv").set_index("method")
    assert set(rows.index) == {"base", "sft", "grpo", "elsewhere"}
    for score in ("ras", "nag_mean", "length"):
        assert rows.loc["elsewhere", score] == rows.loc["sft", score]
    assert pd.isna(rows.loc["elsewhere", "trained_on"])
    assert pd.isna(rows.loc["elsewhere", "kl"])
    text = (tmp_path / "report" / "tables.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| elsewhere |")][:1]
    assert "not run" not in line
    assert "Beside them, trained elsewhere: elsewhere" in text
    assert "differs between rows" not in text
    assert "elsewhere" in report.brief
    cost = pd.read_csv(next((tmp_path / "report" / "tables").glob("cost*.csv")))
    assert "elsewhere" not in set(cost.method)


def test_alone_it_has_ras_and_no_nag(elsewhere, tmp_path):
    """Two checkpoints without a base, and no run at all: a report of both."""
    for name, change in (("first", 0.0), ("second", 0.5)):
        path = tmp_path / name
        model = AutoModelForCausalLM.from_pretrained(elsewhere)
        with torch.no_grad():
            model.model.norm.weight += change
        model.save_pretrained(path)
        AutoTokenizer.from_pretrained(elsewhere).save_pretrained(path)
        evaluate_checkpoint(asked(path, tmp_path / "runs", name=None))
    build_report(tmp_path / "runs", tmp_path / "report")
    rows = pd.read_csv(tmp_path / "report" / "tables.csv")
    assert rows.ras.notna().all()
    assert "nag_mean" not in rows
    names = sorted(rows.method)
    assert [name.rpartition("_")[2] for name in names] == ["first", "second"]
    assert not list((tmp_path / "runs").glob("*/*/base"))


def test_a_base_that_is_given_later_is_added(elsewhere, base, tmp_path):
    alone = evaluate_checkpoint(asked(elsewhere, tmp_path / "runs"))
    assert "base" not in read_run(alone).info.fingerprints
    beside = evaluate_checkpoint(asked(elsewhere, tmp_path / "runs", base=base))
    assert beside == alone
    assert "base" in read_run(alone).info.fingerprints


def test_prompts_alone_and_a_reward_that_needs_no_reference(elsewhere, tmp_path, command):
    rows = write_rows(tmp_path / "p.jsonl", [{"prompt": f"What is {i}?"} for i in range(40)])
    reward = ("reward=python", "reward.function=tests.rewards.functions.shorter")
    words = (f"model.path={elsewhere}", "data=jsonl", f"data.train={rows}", *reward, *SMOKE)
    outcome = command("evaluate", "model=hf", *words)
    assert outcome.code == 0, outcome.err
    assert "RAS" not in outcome.out
    assert "mean reward" in outcome.out


MISTAKES = {
    "both": (["run=x", "model=hf"], "run= and model=: give a run's folder or a model, not both"),
    "no path": (["model=hf"], "model.path: has no value yet"),
    "no model": (["model=hf", "model.path=none"], "model.path=none: is neither a folder nor a"),
    "no base": (["base=none"], "model.path=none: is neither a folder nor a reachable hub id"),
    "the base's name": (["name=base"], "name=base: that is the name of the base's own row"),
    "no name": (["name='a b'"], "objective.name='a b': it names folders and files"),
    "no judge": (["data=hh_helpful"], "reward=gold: data=hh_helpful has no gold judge"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_bad_input_is_one_line(case, elsewhere, command, tmp_path):
    words, said = MISTAKES[case]
    if not words[-1].startswith(("model", "run")) or (len(words) == 1 and "model" not in words[0]):
        words = ["model=hf", f"model.path={elsewhere}", *words]
    outcome = command("evaluate", *words)
    assert outcome.code == 2
    assert f"grao_bench: {said}" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_tiny_base_is_no_checkpoint_with_a_base(tmp_path):
    with pytest.raises(UserError, match=r"^base=x: model=tiny is a base itself"):
        evaluate_checkpoint(asked("", tmp_path, model=small("model/tiny"), base="x"))


def test_the_record_says_what_it_is_of(elsewhere, tmp_path):
    folder = evaluate_checkpoint(asked(elsewhere, tmp_path / "runs"))
    said = json.loads((folder / "run.json").read_text())
    assert said["config"]["objective"] is None
    assert said["config"]["model"]["path"] == str(elsewhere)
    assert {"model", "data/world_helpful", "reward/world_helpful/gold"} <= set(said["fingerprints"])
    assert said["lengths"]["world_helpful"]["examples"] == 8
    assert not (folder / "steps.jsonl").exists()
    assert Path(folder).parts[-4:-2] == ("tiny", "world_helpful")


def test_an_adapter_is_measured_on_the_model_that_it_lies_on(base, tmp_path):
    """Another trainer's, as peft writes it: the answers are those of the two merged."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with_adapter = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        torch.manual_seed(0)
        for name, weight in with_adapter.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    with_adapter.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "merged")
    with_adapter.merge_and_unload().save_pretrained(tmp_path / "merged")
    key = ("world_helpful", "gold")
    found = {}
    for name in ("adapter", "merged"):
        path = tmp_path / name
        folder = evaluate_checkpoint(asked(path, tmp_path / "runs", name=name, base=base))
        found[name] = [record.answer for record in read_run(folder).evaluations[key]]
    (bare,) = (tmp_path / "runs").glob("small/tiny/base/*/seed0")
    assert found["adapter"] == found["merged"]
    assert found["adapter"] != [one.answer for one in read_run(bare).evaluations[key]]
