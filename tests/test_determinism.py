"""The same configuration and seed leave the same bytes, wherever they run; every random number has a seed and a named stream; golden steps.

What the clock and the place decide is kept apart, and is all that `outcome` leaves out of a run's files: timing.jsonl's seconds,
run.json's peak memory and the git state at its start, and Hydra's own account of how it was called (.hydra/).
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import grao_bench
from grao_bench.core.interfaces import Sampling
from grao_bench.core.ops import stream_seed
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.record_files import read_records, read_run
from grao_bench.core.records import StepRecord
from grao_bench.core.specs import load
from grao_bench.core.types import Prompt
from grao_bench.runs.cell import build
from grao_bench.runs.run import run
from grao_bench.text.tokens import TextCodec
from grao_bench.training.loop import train
from tests.cells import SMALL_WORLD, cell
from tests.golden import regenerate
from tests.small import END, WORDS, synced, tiny_llama, word_tokenizer

MAIN = ("sft", "dpo", "ppo", "grpo", "grao")
BUDGET = {"steps": 5, "answers_per_step": 8, "probe_every": 5, "checkpoint_every": 0}  # PPO's fifth step is the first that moves the model
ARGUMENTS = (*SMALL_WORLD, *(f"budget.{key}={value}" for key, value in BUDGET.items()), "sweep=grid")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
BY_PLACE = ("git", "git_dirty")
"""Of run.json's environment; these, and the peak of memory, may differ between two runs of one configuration and seed on one machine."""


def outcome(folder: Path) -> dict[str, Any]:
    """Every file below a folder of runs, as bytes; run.json and timing.jsonl without what the clock and the place decide."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".hydra" not in path.parts and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): _comparable(path) for path in files}


def _comparable(path: Path) -> Any:
    if path.name == "timing.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    if path.name != "run.json":
        return path.read_bytes()
    info = json.loads(path.read_text())
    around = {key: value for key, value in info["environment"].items() if key not in BY_PLACE}
    return info | {"environment": around, "peak_memory": None}


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def assert_whole(folder: Path, names: Sequence[str]) -> None:
    """That what is compared holds each cell's weights, which moved, its steps, probes and evaluations, and the base's evaluation."""
    found = set(outcome(folder))
    kept = ("model/model.safetensors", "steps.jsonl", "probes.jsonl", "evaluations/world_helpful-gold.jsonl", "run.json", "config.yaml")
    for name in names:
        (finished,) = (folder / "world_helpful").glob(f"{name}-*/seed0")
        assert {f"{finished.relative_to(folder)}/{file}" for file in kept} <= found
        read = read_run(finished)
        assert len(read.steps) == len(read.timing) == BUDGET["steps"]
        assert weights_fingerprint(AutoModelForCausalLM.from_pretrained(finished / "model")) != read.info.fingerprints["base"]
    assert sorted(Path(name).name for name in found if name.startswith("base/")) == ["run.json", "world_helpful-gold.jsonl"]


def library(name: str, disturbed_by: int) -> Path:
    """The same cell through the library, below the current folder, with Python's, NumPy's and torch's global generators put elsewhere."""
    random.seed(disturbed_by)
    np.random.seed(disturbed_by)  # noqa: NPY002
    torch.manual_seed(disturbed_by)
    changed = {"objective": load(f"objective/{name}"), "budget": load("budget/smoke", **BUDGET)}
    return run(replace(cell(name, "runs", sweep="grid", optimizer=load("optimizer/adamw", lr=0.002)), **changed))


def below(folder: Path) -> Path:
    return folder / "runs" / "grid" / "tiny"


def test_other_draws_before_a_run_change_none_of_its_bytes(tmp_path, monkeypatch):
    """PPO has every kind of draw: an order of prompts, rollouts, minibatches."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        monkeypatch.chdir(folder)
        library("ppo", disturbed_by=seed)
    assert_whole(below(folders[0]), ["ppo"])
    assert_same(*map(outcome, map(below, folders)))


@pytest.mark.slow
def test_joblib_jobs_and_other_processes_leave_the_same_bytes(command, tmp_path, monkeypatch):
    """Every main objective, three ways: joblib jobs (as sweeps/demo.yaml has them), the library, and a process with other hashes of
    strings and an empty cache, which pre-trains the base again."""
    here, process = tmp_path / "library", tmp_path / "process"
    here.mkdir()
    process.mkdir()
    arguments = ("-m", f"objective={','.join(MAIN)}", *ARGUMENTS)
    done = command("train", *arguments, *JOBLIB)
    assert done.code == 0, done.err
    environment = os.environ | {"GRAO_BENCH_CACHE": str(tmp_path / "cache"), "PYTHONHASHSEED": "7"}
    line = [sys.executable, "-m", "grao_bench.train", *arguments]
    alone = subprocess.run(line, cwd=process, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert alone.returncode == 0, alone.stderr
    assert_whole(below(process), MAIN)
    monkeypatch.chdir(here)
    for name in MAIN:
        library(name, disturbed_by=1)
    assert_same(outcome(below(here)), outcome(below(process)))
    assert_same(outcome(below(tmp_path)), outcome(below(process)))


# --- named streams ---

GLOBAL_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like", "dropout"}
IN_PLACE_DRAWS = {"uniform_", "normal_", "bernoulli_", "random_", "exponential_", "multinomial"}


def unseeded(tree: ast.AST, forked: bool = False) -> Iterator[str]:
    """What draws from, or seeds, a global generator, other than torch.manual_seed inside torch.random.fork_rng.

    A module that imports `random` may say random.Random alone; elsewhere that name is a local generator's.
    """
    if isinstance(tree, ast.Module) and any(isinstance(node, ast.Import) and node.names[0].name == "random" for node in ast.walk(tree)):
        named = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        yield from (name for name in named if re.fullmatch(r"random\.\w+", name) and name != "random.Random")
    if isinstance(tree, ast.With):
        forked = forked or any("torch.random.fork_rng" in ast.unparse(item.context_expr) for item in tree.items)
    if isinstance(tree, ast.ImportFrom) and tree.module == "random" and any(alias.name != "Random" for alias in tree.names):
        yield ast.unparse(tree)
    if isinstance(tree, ast.Call):
        name, given = ast.unparse(tree.func), {keyword.arg for keyword in tree.keywords}
        owner, _, last = name.rpartition(".")
        seeds = name == "hash" or (name in ("np.random.default_rng", "Random", "random.Random") and not tree.args)
        numpy = owner in ("np.random", "numpy.random") and last not in ("default_rng", "SeedSequence")
        draws = (owner in ("torch", "F", "torch.nn.functional") and last in GLOBAL_DRAWS) or (
            last in IN_PLACE_DRAWS and owner != "rng"  # a generator of numpy's, by its name
        )
        if seeds or numpy or (draws and "generator" not in given) or (name in ("torch.manual_seed", "torch.seed") and not forked):
            yield ast.unparse(tree)
    for child in ast.iter_child_nodes(tree):
        yield from unseeded(child, forked)


SEEDING = {
    "train_reward.py": "transformers initialises a reward model's head, in a command that does nothing else at random",
    "evaluation/lm_eval.py": "lm-eval's tasks draw from the global generators, which are seeded for it and put back",
    "runs/rehearsal.py": "a rehearsal puts the global generators back, which a user's code may draw from",
}
"""Modules that touch a global generator for other code's sake, with the reason. None draws from one
itself."""


def test_no_module_draws_from_a_global_generator():
    package = Path(grao_bench.__file__).parent
    found = {path.relative_to(package).as_posix(): [*unseeded(ast.parse(path.read_text("utf-8")))] for path in package.rglob("*.py")}
    assert len(found) > 50
    assert {name for name, calls in found.items() if calls} == set(SEEDING)
    for call in (call for calls in found.values() for call in calls):
        assert re.search(r"\b(manual_seed|seed|getstate|setstate|get_state|set_state)\b", call), call


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("import random\nrandom.shuffle(x)", "random.shuffle"),
        ("import random\nrandom.Random()", "random.Random()"),
        ("from random import shuffle", "from random import shuffle"),
        ("np.random.rand(3)", "np.random.rand(3)"),
        ("np.random.default_rng()", "np.random.default_rng()"),
        ("torch.randn(3)", "torch.randn(3)"),
        ("x.normal_()", "x.normal_()"),
        ("torch.manual_seed(0)", "torch.manual_seed(0)"),
        ("hash(name)", "hash(name)"),
        ("import random\nrandom.Random(3).shuffle(x)", None),
        ("torch.randn(3, generator=g)", None),
        ("p.multinomial(3)", "p.multinomial(3)"),
        ("rng.multinomial(3, p)", None),
        ("with torch.random.fork_rng():\n    torch.manual_seed(0)", None),
    ],
)
def test_a_draw_from_a_global_generator_is_seen(text, seen):
    assert [*unseeded(ast.parse(text))] == ([] if seen is None else [seen])


def test_streams_are_the_names_hash():
    """sha256 of "seed/name/...", its first 8 bytes without the last bit; other names, numbers and seeds are other streams."""
    digest = hashlib.sha256(b"3/rollouts/7").hexdigest()
    assert stream_seed(3, "rollouts", 7) == int(digest[:16], 16) // 2
    used = [
        stream_seed(seed, *names)
        for seed in range(3)
        for names in [
            *[(stream, step) for stream in ("rollouts", "order") for step in range(20)],
            *[("minibatches", step, epoch) for step in range(10) for epoch in range(3)],
            ("probe", "kl"),
            ("probe", "reward"),
            ("evaluation", "world_helpful"),
            ("evaluation", "world_harmless"),
        ]
    ]
    assert len(set(used)) == len(used)


# --- common random numbers ---


class Listening:
    """A codec that notes whose prompts are asked for."""

    def __init__(self, codec: TextCodec) -> None:
        self.codec, self.asked = codec, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def prompt(self, example_id: str, turns: Any) -> Prompt:
        self.asked.append(example_id)
        return self.codec.prompt(example_id, turns)


def asked_in_training(name: str, tmp_path: Path, **changed: Any) -> list[str]:
    experiment = cell(name, tmp_path, budget=load("budget/smoke", steps=4), **changed)
    built = build(experiment)
    codec = Listening(built.codec)
    for _ in train(built.trainer, replace(built.collector, codec=codec), built.examples, experiment.seed):
        pass
    return codec.asked


def test_objectives_see_the_same_prompts_in_the_same_order(tmp_path):
    """However many prompts each takes in a step: 16 (SFT), 8 (DPO) or 2 of 32, where SFT sees each twice."""
    sft, dpo, grao = (asked_in_training(name, tmp_path) for name in ("sft", "dpo", "grao"))
    assert [len(asked) for asked in (sft, dpo, grao)] == [64, 32, 8]
    assert sft[:32] == dpo
    assert dpo[:8] == grao
    assert sorted(sft[:32]) == sorted(sft[32:])
    assert sft[:32] != sft[32:], "each epoch has an order of its own"
    assert asked_in_training("dpo", tmp_path, seed=1) != dpo


def test_a_draw_is_a_function_of_seed_prompt_sample_and_position_alone():
    """A model of equal logits says the uniform number itself: token = floor(u V), u the position's of numpy's stream for the sample.

    Whatever else is drawn: other prompts, more samples, longer answers, fewer slots, another call before.
    """
    model, V, T = tiny_llama(), len(WORDS), 10
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()  # tied: the output layer's too
    codec, seed = TextCodec(word_tokenizer(), "hh", 64), 5

    def expected(prompt: str, sample: int) -> tuple[int, ...]:
        stream = int(hashlib.sha256(f"{seed}/{prompt}/{sample}".encode()).hexdigest()[:16], 16) // 2
        tokens = [int(u * V) for u in np.random.default_rng(stream).random(T)]
        return tuple(tokens[: tokens.index(END) + 1] if END in tokens else tokens)

    prompts = [Prompt("a", (6, 7, 8)), Prompt("b", (9,)), Prompt("c", (10, 11))]
    for slots, asked, n in ((256, prompts, 6), (4, prompts[::-1], 6), (2, prompts[1:2], 3)):
        engine = load("rollout/shared_prefix", temperature=1.0, answers_per_call=slots)
        drawn = synced(engine.build(codec), model).sample(asked, n, Sampling(1.0, 1.0, T), seed)
        for prompt, answers in zip(asked, drawn, strict=True):
            assert [answer.tokens for answer in answers] == [expected(prompt.id, sample) for sample in range(n)]
    assert len({expected(prompt.id, sample) for prompt in prompts for sample in range(6)}) > 12


# --- golden steps ---


@pytest.fixture(scope="module")
def golden_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    regenerate.save_base(folder)
    return folder


@pytest.mark.parametrize(("name", "temperature"), regenerate.GOLDEN)
def test_five_steps_are_the_golden_ones(name, temperature, golden_base, tmp_path):
    """In float64 over scripted rollouts, every metric to 1e-9 and every count exactly.

    A failure means that this objective's numbers changed. Where that is meant, `python -m tests.golden.regenerate` writes
    tests/golden/<objective>.jsonl anew: the change is a visible diff, and the commit that holds it explains it.
    """
    golden = read_records(regenerate.path_of(name, temperature), StepRecord)
    assert_golden(golden, [*regenerate.golden_steps(name, golden_base, tmp_path, temperature)])


@pytest.mark.parametrize("name", regenerate.OBJECTIVES)
def test_rollouts_at_another_temperature_have_the_golden_steps_of_1(name, golden_base, tmp_path):
    """Losses at model.logp_temperature=1, as all were once; SFT's and DPO's are by themselves."""
    told = {} if name in ("sft", "dpo") else {"logp_temperature": 1.0}
    golden = read_records(regenerate.path_of(name), StepRecord)
    assert_golden(golden, [*regenerate.golden_steps(name, golden_base, tmp_path, 0.7, **told)])


def assert_golden(golden, found):
    assert len(golden) == len(found) == regenerate.STEPS
    for before, now in zip(golden, found, strict=True):
        assert list(now.metrics) == list(before.metrics)
        assert now.metrics == pytest.approx(before.metrics, rel=1e-9, abs=1e-9)
        assert replace(now, metrics={}) == replace(before, metrics={})


@pytest.mark.parametrize("name", regenerate.OBJECTIVES)
def test_the_golden_steps_hold_something(name):
    """Losses and gradients that move from step to step, and for what samples, groups whose rewards differ."""
    steps = read_records(regenerate.path_of(name), StepRecord)
    for metric in ("loss", "grad_norm"):
        values = [step.metrics[metric] for step in steps]
        assert len(values) == len({round(value, 6) for value in values}) == regenerate.STEPS
    assert all(step.metrics.get("reward/std", 1.0) > 0.1 for step in steps)


@pytest.fixture(scope="module")
def golden_parts(golden_base, tmp_path_factory):
    return regenerate.parts(golden_base, tmp_path_factory.mktemp("parts"))


def test_every_part_says_what_its_revision_said(golden_parts):
    """A failure means that a part's numbers changed: where that is meant, raise its class's `revision` and regenerate."""
    stored = regenerate.read_json(regenerate.PARTS)
    assert stored.keys() == golden_parts.keys()
    for name, (_, numbers) in golden_parts.items():
        assert regenerate.same(stored[name], json.loads(json.dumps(numbers()))), name


def test_golden_numbers_are_of_the_revisions_that_stand_there(golden_base, golden_parts, tmp_path):
    """A revision that was raised without regenerating would leave numbers of nobody."""
    known = regenerate.read_json(regenerate.REVISIONS)
    for objective, temperature in regenerate.GOLDEN:
        name = str(regenerate.path_of(objective, temperature).relative_to(regenerate.HERE))
        cell = regenerate.golden_cell(objective, golden_base, tmp_path, temperature)
        assert known.pop(name) == regenerate.of_cell(cell), f"{name}: run python -m tests.golden.regenerate"
    assert known == {name: regenerate.revisions(spec) for name, (spec, _) in golden_parts.items()}


def test_numbers_that_change_under_their_revision_are_refused(monkeypatch):
    now = regenerate.revisions(load("objective/grpo"), load("budget/smoke"))
    assert now.keys() == {"grao_bench.objectives.grpo.GRPO", "grao_bench.training.loop.Budget"}
    number = now["grao_bench.objectives.grpo.GRPO"]
    assert regenerate.forgotten("grpo.jsonl", False, now, now) == ""
    said = regenerate.forgotten("grpo.jsonl", True, now, now)
    assert said.startswith("grpo.jsonl: its numbers have changed and no revision was raised")
    assert f"grao_bench.objectives.grpo.GRPO ({number})" in said
    monkeypatch.setattr(type(load("objective/grpo")), "revision", number + 1)
    raised = regenerate.revisions(load("objective/grpo"), load("budget/smoke"))
    assert regenerate.forgotten("grpo.jsonl", True, now, raised) == ""
