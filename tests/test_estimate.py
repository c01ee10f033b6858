"""What a cell would take, against what it takes; and that nothing is trained for it."""

from __future__ import annotations

import json
import time

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from grao_bench.core.process import process_settings
from grao_bench.core.record_files import read_info, read_run
from grao_bench.core.specs import load
from grao_bench.runs.estimate import estimate
from grao_bench.runs.run import run
from tests.cells import SMALL_WORLD, cell


def estimated(experiment):
    with process_settings(1):
        return estimate(experiment)


def test_sizes_are_counted(tmp_path):
    """By hand, for a Llama of hidden size 32 with one layer and tied embeddings over 512 tokens, in float32: GRPO with a reference."""
    experiment = cell("grpo", tmp_path)
    run(cell("sft", tmp_path))  # which makes the base
    found = estimated(experiment)
    count = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512, hidden_size=32, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=True
        )
    ).num_parameters()
    assert found.parameters == found.trained == count == 512 * 32 + 4 * 32 * 32 + 3 * 32 * 128 + 3 * 32
    memory = found.memory
    # the policy, and one base that is its reference
    assert memory["weights"] == 2 * 4 * count
    assert (memory["gradients"], memory["optimiser"], memory["masters"]) == (4 * count, 8 * count, 0)
    assert memory["activations"] > 0
    assert found.peak >= memory["process"] + memory["weights"] + memory["optimiser"]
    assert found.tokens["prompts"] == 2
    assert found.tokens["answers"] == 16
    # 2 FLOPs per parameter and token, 3 times for a gradient
    sampled, trained = found.tokens["sampled tokens"], found.tokens["trained tokens, with their prompts"]
    assert found.flops["sampling"] == pytest.approx(2 * count * sampled, rel=0.1)
    assert found.flops["gradient"] == pytest.approx(6 * count * trained, rel=0.1)
    assert found.flops["reference"] == pytest.approx(2 * count * trained, rel=0.1)
    assert found.seconds["training"] == pytest.approx(found.step_seconds * experiment.budget.steps)
    assert found.notes == ()


def test_a_base_that_is_not_made_is_said_and_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAO_BENCH_CACHE", str(tmp_path / "cache"))
    experiment = cell("sft", tmp_path)
    found = estimated(experiment)
    assert "the base is not made yet" in found.notes[0]
    with process_settings(1):
        assert not experiment.model.is_made(experiment.data.corpus)
    assert not [*tmp_path.rglob("*.jsonl"), *tmp_path.rglob("seed*")]


def test_half_precision_has_masters(tmp_path):
    model = load("model/hf", path=str(tmp_path / "model"), dtype="bfloat16", prompt_format="hh", device="cpu")
    from tests.golden.regenerate import save_base

    save_base(tmp_path / "model")
    found = estimated(cell("sft", tmp_path, model=model))
    memory, count = found.memory, found.parameters
    assert memory["weights"] == 2 * 2 * count
    assert (memory["gradients"], memory["optimiser"], memory["masters"]) == (4 * count, 8 * count, 4 * count)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sft", "grpo"])
def test_the_figures_are_within_a_quarter_of_a_short_run(objective, tmp_path, monkeypatch):
    """On the tiny base, by the processor's own seconds, which other work does not stretch."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    budget = load("budget/laptop", steps=12, probe_every=0)
    changed = {"model": load("model/tiny"), "data": load("data/world_helpful"), "budget": budget}
    experiment = cell(objective, tmp_path, **changed, evaluation=load("evaluation/standard", sets="own", max_examples=32))
    experiment.model.checkpoint(experiment.data.corpus)
    found = estimated(experiment)
    folder = run(experiment)
    seconds = [line["seconds"] for line in read_run(folder).timing[1:]]
    assert found.step_seconds == pytest.approx(sum(seconds) / len(seconds), rel=0.25)
    assert found.peak == pytest.approx(read_info(folder).peak_memory, rel=0.25)


def test_the_command_estimates_a_grid_and_trains_nothing(tmp_path, command):
    grid = ("-m", "objective=sft,grpo", "seed=0,1", *SMALL_WORLD)
    outcome = command("train", *grid, "estimate=true")
    assert outcome.code == 0, outcome.err
    assert "4 cells one after another" in outcome.out
    assert "memory at its peak" in outcome.out
    told = json.loads(command("train", *grid, "estimate=json").out)
    assert [one["seeds"] for one in told["cells"]] == [2, 2]
    assert told["total_seconds"] == pytest.approx(sum(2 * one["total_seconds"] for one in told["cells"]))
    assert not [*tmp_path.rglob("*.partial"), *tmp_path.rglob("steps.jsonl")]
    alone = command("train", "objective=sft", *SMALL_WORLD, "estimate=true")
    assert alone.code == 0
    assert "1 cell one after another" in alone.out
    wrong = command("train", *SMALL_WORLD, "estimate=maybe")
    assert (wrong.code, wrong.err) == (2, "grao_bench: estimate=maybe: must be true, false or json\n")
