"""What a run leaves to who goes on from it: a model or none, and the float32 masters of one in half
precision."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from grao_bench.core.errors import UserError
from grao_bench.core.specs import load
from grao_bench.models.of_run import MASTERS_FILE
from grao_bench.report import build_report
from grao_bench.runs.cell import build
from grao_bench.runs.run import run
from grao_bench.training.checkpoint import named_masters
from tests.cells import cell, contents, small

RATE = 0.0005
"""Against weights of about 0.1, whose bfloat16 digits are 0.0005 apart: half of the steps round."""


@pytest.fixture(scope="module")
def base():
    """The folder of the small base."""
    return small("model/tiny").checkpoint(small("data/world_helpful").corpus)


def half(base, output, steps, **changed):
    """A cell in bfloat16 whose steps depend on nothing but the weights: one example, and an
    optimiser without memory (betas of 0: the sign of the gradient, at the rate)."""
    model = load("model/hf", path=base, prompt_format="hh", device="cpu", dtype="bfloat16")
    budget = load("budget/smoke", steps=steps, prompts_per_step=1, checkpoint_every=0)
    optimizer = load("optimizer/adamw", lr=RATE, betas=[0.0, 0.0], warmup_steps=0, weight_decay=0.0)
    fields = {
        "model": model,
        "budget": budget,
        "optimizer": optimizer,
        "data": small("data/world_helpful", num_train=1),
        "sweep": f"of{steps}",
    }
    return cell("sft", output, **(fields | changed))


@pytest.fixture(scope="module")
def first(base, tmp_path_factory):
    """A run of two such steps."""
    return run(half(base, tmp_path_factory.mktemp("first"), 2))


def going_on(first, base, output, steps=2, **changed):
    asked = half(base, output, steps)
    return replace(asked, model=replace(asked.model, start_from=str(first), **changed))


def test_masters_lie_beside_a_model_in_half_precision(first, base, tmp_path):
    """What the model's weights are rounded from, in float32; a float32 run has none."""
    masters = load_file(first / MASTERS_FILE)
    model = AutoModelForCausalLM.from_pretrained(first / "model", dtype="auto")
    assert {value.dtype for value in masters.values()} == {torch.float32}
    assert set(masters) == {name for name, _ in model.named_parameters()}
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(masters[name].bfloat16(), weight)
    assert any((value.bfloat16().float() != value).any() for value in masters.values())
    single = half(base, tmp_path, 1)
    single = replace(single, model=replace(single.model, dtype="float32"))
    assert not (run(single) / MASTERS_FILE).exists()


def test_who_starts_from_it_has_its_masters_to_the_bit(first, base, tmp_path):
    """In bfloat16 as the optimiser's copies, in float32 as the weights, the reference's too."""
    masters = load_file(first / MASTERS_FILE)
    built = build(going_on(first, base, tmp_path))
    copies = named_masters(built.trainer)
    assert all(torch.equal(masters[name], copy) for name, copy in copies.items())
    wide = going_on(first, base, tmp_path, dtype="float32")
    wide = build(replace(wide, objective=load("objective/dpo")))
    assert wide.collector.reference is not None
    for policy in (wide.trainer.policy, wide.collector.reference):
        named = dict(policy.model.named_parameters())
        assert all(torch.equal(masters[name], named[name]) for name in masters)


def test_two_runs_one_after_the_other_are_one(first, base, tmp_path):
    """Bit for bit; without the masters they are not, which is what those are for."""
    whole = run(half(base, tmp_path, 4))
    second = run(going_on(first, base, tmp_path))
    kept = ("model/*.safetensors", MASTERS_FILE)
    assert contents(second, *kept) == contents(whole, *kept)
    rounded = shutil.copytree(first, tmp_path / "rounded")
    (rounded / MASTERS_FILE).unlink()
    third = run(going_on(rounded, base, tmp_path))
    assert contents(third, MASTERS_FILE) != contents(whole, MASTERS_FILE)


def test_the_best_on_dev_has_its_own_masters(base, tmp_path):
    asked = half(base, tmp_path, 3)
    folder = run(replace(asked, budget=replace(asked.budget, keep="best_dev", probe_every=1)))
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="auto")
    masters = load_file(folder / MASTERS_FILE)
    for name, weight in model.named_parameters():
        assert torch.equal(masters[name].bfloat16(), weight)


def test_masters_that_are_torn_or_another_models_are_one_line(first, base, tmp_path):
    torn = shutil.copytree(first, tmp_path / "torn")
    data = (first / MASTERS_FILE).read_bytes()
    (torn / MASTERS_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"^[^\n]*masters.safetensors: can't be read [^\n]*$"):
        build(going_on(torn, base, tmp_path))
    save_file({"model.other.weight": torch.zeros(2)}, torn / MASTERS_FILE)
    with pytest.raises(UserError, match=r"model.other.weight is of another model"):
        build(going_on(torn, base, tmp_path))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """A float32 run that keeps no model."""
    return run(cell("sft", tmp_path_factory.mktemp("without"), save_model="none"))


def test_a_run_that_keeps_no_model_says_so_to_whoever_needs_it(without, tmp_path, command):
    """Its records are whole, and its report needs no model."""
    assert not (without / "model").exists()
    assert not (without / MASTERS_FILE).exists()
    assert "sft" in build_report(without.parents[4], tmp_path / "report").brief
    said = "keeps no model, as it ran with save_model=none; train it anew with save_model=full"
    again = command("evaluate", f"run={without}", "temperature=0")
    start = command("train", f"model.start_from={without}")
    for outcome, key in ((again, "run"), (start, "model.start_from")):
        assert outcome.code == 2
        assert outcome.err.startswith(f"grao_bench: {key}={without}: {said}")
        assert len(outcome.err.splitlines()) == 1


def test_a_finished_run_without_a_model_is_no_answer_to_who_asks_for_one(without):
    asked = cell("sft", without.parents[4], save_model="none")
    assert asked.folder == without
    assert run(asked) == without
    with pytest.raises(UserError, match="is finished, and kept no model"):
        run(replace(asked, save_model="full"))
    assert (run(replace(asked, save_model="full"), rerun=True) / "model").is_dir()
