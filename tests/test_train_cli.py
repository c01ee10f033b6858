"""python -m grao_bench.train: a cell, a grid, presets, help; and every kind of bad input is one clear message before any training."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from grao_bench.core.record_files import read_run
from grao_bench.core.specs import load
from grao_bench.runs.run import run
from tests.cells import RESULTS, SMALL_WORLD, TINY_BASE, cell, contents, snapshot, world_rows, write_rows


def start(folder, *arguments, **environment):
    """The command in a process of its own, as a user starts it."""
    line = [sys.executable, "-m", "grao_bench.train", *arguments]
    return subprocess.run(line, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def inputs(tmp_path):
    """Files and folders that the bad commands name."""
    (tmp_path / "some_model").mkdir()
    write_rows(tmp_path / "pairs.jsonl", world_rows(32))
    write_rows(tmp_path / "no_pairs.jsonl", world_rows(32, pairs=False))
    (tmp_path / "torn.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "d", "cho\n')
    (tmp_path / "empty.jsonl").write_text("")
    return tmp_path


JSONL = ("data=jsonl", "reward=reward_model", "reward.path=some_model", "data.train=")
HH = ("data=hh_helpful", "reward=reward_model", "reward.path=some_model")

NOT_FOUND = "grao_bench: In 'train': Could not find"

MISTAKES = {
    "unknown objective": (["objective=graoo"], f"{NOT_FOUND} 'objective/graoo'; did you mean grao"),
    "unknown sweep": (["+sweeps=tabel1"], f"{NOT_FOUND} 'sweeps/tabel1'; did you mean table1"),
    "unknown preset": (["experiment=tiny"], f"{NOT_FOUND} 'experiment/tiny'; did you mean hh_tiny?"),
    "unknown key": (
        ["objective.betta=1"],
        "grao_bench: Could not override 'objective.betta'; did you mean beta",
    ),
    "a key like no other": (
        ["data=files", "data.columns.foo=x"],
        "grao_bench: Could not override 'data.columns.foo'; there are prompt, chosen, rejected",
    ),
    "a grid without -m": (
        ["seed=0,1"],
        "grao_bench: Ambiguous value for argument 'seed=0,1'; add -m for a grid",
    ),
    "no value": (["objective"], "grao_bench: objective: Error parsing override 'objective' missing EQUAL"),
    "wrong type": (["objective.beta=high"], "grao_bench: objective.beta='high': expected float, got str"),
    "wrong type at the root": (["seed=1.5"], "grao_bench: seed=1.5: expected int, got float"),
    "not a choice": (["evaluation.sets=both"], "grao_bench: evaluation.sets='both': expected Literal['all', 'own'], got str"),
    "missing value": (["data=jsonl"], "grao_bench: data.train: has no value yet"),
    "missing value of a model": (["model=hf"], "grao_bench: model.path: has no value yet"),
    "steps below zero": (["budget.steps=-1"], "grao_bench: budget.steps=-1: must be at least 0"),
    "rate below zero": (["optimizer.lr=-0.1"], "grao_bench: optimizer.lr=-0.1: must be at least 0"),
    "clip below zero": (["optimizer.clip_norm=-1"], "grao_bench: optimizer.clip_norm=-1: must be above 0"),
    "one beta": (["optimizer.betas=[0.9]"], "grao_bench: optimizer.betas=[0.9]: must be two numbers"),
    "no forward pass": (["budget.tokens_per_forward=0"], "grao_bench: budget.tokens_per_forward=0: must be at least 1"),
    "no threads": (["threads=0"], "grao_bench: threads=0: must be at least 1"),
    "no examples": (["evaluation.max_examples=0"], "grao_bench: evaluation.max_examples=0: must be at least 1, or null"),
    "no nucleus": (["rollout.top_p=0"], "grao_bench: rollout.top_p=0: must be above 0"),
    "greedy groups": (["rollout.temperature=0"], "grao_bench: rollout.temperature=0: 8 greedy answers are one answer"),
    "no rollouts": (["objective.rollouts=0"], "grao_bench: objective.rollouts=0: grao learns from sampled answers"),
    "no epochs": (["objective=grpo", "objective.epochs=0"], "grao_bench: objective.epochs=0: must be at least 1"),
    "heads that don't divide": (["model.heads=3"], "grao_bench: model.heads=3: model.hidden_size=64 must be a multiple"),
    "gold reward on HH": (["data=hh_helpful"], "grao_bench: reward=gold: data=hh_helpful has no gold judge"),
    "no reward model": (["reward=reward_model"], "grao_bench: reward.path=runs/reward_models/world_helpful: no such folder"),
    "no pairs": (["objective=dpo", *JSONL[:3], "data.train=no_pairs.jsonl"], "has no rejected answer, which objective=dpo learns from"),
    "malformed line": ([*JSONL[:3], "data.train=torn.jsonl"], "grao_bench: torn.jsonl:2: not JSON"),
    "empty file": ([*JSONL[:3], "data.train=empty.jsonl"], "grao_bench: empty.jsonl: the file is empty"),
    "missing file": ([*JSONL[:3], "data.train=none.jsonl"], "grao_bench: none.jsonl: no such file"),
    "missing folder": ([*HH, "data.path=nowhere"], "grao_bench: nowhere/helpful-base/test.jsonl[.gz]: no such file; data.path (or "),
    "neither folder nor hub": ([*HH], "data.hub_id=Anthropic/hh-rlhf: helpful-base/test could not be loaded"),
    "too many prompts": (["data.num_test=999999"], "grao_bench: data.num_test=999999: the helpful world has only"),
    "missing corpus": (["model.corpus=[none.txt]"], "grao_bench: none.txt: cannot be read"),
    "missing run": (["model.start_from=none"], "grao_bench: model.start_from=none: holds no model/"),
    "no model": (["model=hf", "model.path=none"], "grao_bench: model.path=none: is neither a folder nor a reachable hub id"),
    "an interval in a grid": (
        ["-m", "optimizer.lr=interval(0,1)"],
        "grao_bench: optimizer.lr=interval(0,1): a grid has no such sweep; give values",
    ),
    "no device": (["model.device=cuda:99", *SMALL_WORLD], "grao_bench: model.device=cuda:99: this machine's torch sees no"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_bad_input_is_one_clear_message(arguments, message, inputs, command):
    outcome = command("train", *arguments)

    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    if message.startswith("grao_bench"):
        assert len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.out == ""
    assert not [*inputs.rglob("steps.jsonl")], "something was trained"


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["a cell", "a grid"])
def test_the_traceback_is_there_for_who_asks(mode, tmp_path, command):
    outcome = command("train", *mode, "objective=sft", "seed=x", *SMALL_WORLD, HYDRA_FULL_ERROR="1")

    assert outcome.code != 0
    assert "Traceback (most recent call last)" in outcome.err
    assert "seed='x': expected int, got str" in outcome.err
    assert not [*tmp_path.rglob("steps.jsonl")], "something was trained"


GRIDS = {
    "a bad value": (["objective=sft,grao", "seed=0,x"], ["objective=sft seed=x", "objective=grao seed=x", "expected int"]),
    "an unknown choice": (["objective=sft,graoo"], ["objective=graoo", "Could not find 'objective/graoo'"]),
    "an objective that needs pairs": (
        ["objective=sft,dpo", *JSONL[:3], "data.train=no_pairs.jsonl"],
        ["objective=dpo", "has no rejected answer"],
    ),
    "a missing file": (["objective=sft", *JSONL[:3], "data.train=pairs.jsonl,none.jsonl"], ["data.train=none.jsonl", "no such file"]),
    "a reward that can't score a set": (["data=world_helpful,hh_helpful"], ["data=hh_helpful", "has no gold judge"]),
}


@pytest.mark.parametrize(("arguments", "messages"), GRIDS.values(), ids=GRIDS.keys())
def test_a_grid_with_one_bad_cell_trains_nothing(arguments, messages, inputs, command):
    outcome = command("train", "-m", *arguments, *TINY_BASE, "budget=smoke")

    assert outcome.code != 0
    assert outcome.err.startswith("grao_bench: nothing was trained, because of\n")
    assert all(message in outcome.err for message in messages), outcome.err
    assert "objective=sft seed=0" not in outcome.err, "a good cell is no reason"
    assert "Traceback" not in outcome.err
    assert not [*inputs.rglob("run.json"), *inputs.rglob("steps.jsonl"), *inputs.rglob("*.partial")]


def test_a_grid_whose_base_can_not_be_made_trains_nothing(tmp_path, command):
    outcome = command("train", "-m", "objective=sft,grao", *SMALL_WORLD, f"model.corpus=[{tmp_path}/none.txt]")

    assert outcome.code == 2
    assert outcome.err.startswith("grao_bench: ")
    assert f"{tmp_path}/none.txt" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not [*tmp_path.rglob("*.partial")]


def test_a_grid_that_starts_from_no_run_trains_nothing(tmp_path, command):
    outcome = command("train", "-m", "objective=sft,grao", *SMALL_WORLD, "model.start_from=none")

    assert outcome.code == 2
    assert outcome.err.count("model.start_from=none: holds no model/; give the folder of a finished run\n") == 2
    assert not [*tmp_path.rglob("*.partial")]


def test_a_cell_that_fails_does_not_stop_the_grid(tmp_path, command):
    # the first cell's reward fails on more answers than it is tried on
    functions = "tests.rewards.functions.only_two,tests.rewards.functions.shorter"
    reward = ("reward=python", f"reward.function={functions}")
    outcome = command("train", "-m", "objective=grpo", *reward, *SMALL_WORLD, "sweep=grid")

    assert outcome.code != 0
    assert "raised ValueError: too many" in outcome.err
    assert "Traceback" not in outcome.err
    (done,) = (tmp_path / "runs" / "grid" / "tiny" / "world_helpful").glob("*/seed0")
    assert read_run(done).info.config["reward"]["function"].endswith("shorter")
    (error,) = tmp_path.rglob("error.txt")
    assert "raised ValueError: too many" in error.read_text()


def test_one_cell_in_a_process_of_its_own(tmp_path):
    done = start(tmp_path, "objective=grpo", "seed=3", *SMALL_WORLD, PYTHONHASHSEED="7")

    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.splitlines()[-1]
    assert folder.parts[-5:-2] == ("single", "tiny", "world_helpful")
    assert folder.name == "seed3"
    assert "grpo on world_helpful, seed 3  step 2/2" in done.stderr
    assert (folder / ".hydra" / "overrides.yaml").is_file()
    assert yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())["objective"]["name"] == "grpo"
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "nothing is written elsewhere"
    # the same cell through the library, in another process with other hashes of strings: the same bytes
    twin = run(cell("grpo", tmp_path / "twin", seed=3, optimizer=load("optimizer/adamw", lr=0.002)))
    assert twin.parent.name == folder.parent.name, "the same configuration"
    assert contents(folder, *RESULTS) == contents(twin, *RESULTS)


def test_a_grid_in_two_processes_and_again(tmp_path, command):
    arguments = ("-m", "objective=sft,grao", *SMALL_WORLD, "sweep=grid", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    outcome = command("train", *arguments)

    assert outcome.code == 0, outcome.err
    assert "grid  4/4 steps" in outcome.err
    assert "2/2 cells" in outcome.err
    folder = tmp_path / "runs" / "grid" / "tiny"
    cells = sorted(folder.glob("world_helpful/*/seed0"))
    assert [path.parent.name.split("-")[0] for path in cells] == ["grao", "sft"]
    assert len([*folder.glob("base/*/seed0")]) == 1
    assert all((path / ".hydra" / "overrides.yaml").is_file() for path in cells)

    before = snapshot(folder)
    assert command("train", *arguments[:-2]).code == 0  # one after the other
    assert snapshot(folder) == before, "a finished cell was made again"


def test_presets_compose(command):
    fast = yaml.safe_load(command("train", "debug=fast", "--cfg", "job").out)
    assert (fast["budget"]["steps"], fast["evaluation"]["max_examples"], fast["sweep"]) == (2, 16, "debug")
    overfit = yaml.safe_load(command("train", "debug=overfit", "--cfg", "job").out)
    assert (overfit["data"]["num_train"], overfit["budget"]["prompts_per_step"], overfit["budget"]["steps"]) == (8, 8, 100)
    hh = yaml.safe_load(command("train", "experiment=hh_tiny", "objective=dpo", "--cfg", "job").out)
    assert (hh["data"]["name"], hh["reward"]["mode"], hh["evaluation"]["reward"]["mode"]) == ("hh_helpful", "score", "sign")
    assert (hh["objective"]["name"], hh["evaluation"]["store_text"]) == ("dpo", False)


def test_help_is_short_and_shows_how(command):
    outcome = command("train", "--help")

    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) <= 40
    assert len([line for line in lines if line.startswith("  python -m grao_bench.train")]) >= 4
    named = next(line for line in lines if line.startswith("objective: ")).removeprefix("objective: ").split(", ")
    assert {"dpo", "grao", "grao_clip0", "grpo", "ppo", "sft"} <= set(named)
