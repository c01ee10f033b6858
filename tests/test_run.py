"""Cells from start to finish through the library: what they leave, resuming, repeating, sharing, failing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from grao_bench.core.errors import UserError
from grao_bench.core.process import peak_memory, process_settings, reset_peak_memory
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.record_files import find_unfinished, read_records, read_run
from grao_bench.core.records import EvalRecord, Lengths
from grao_bench.core.specs import load, rebuild
from grao_bench.core.values import HASH_VERSION, value_hash
from grao_bench.models.build import load_policy
from grao_bench.rollouts.shared_prefix import SharedPrefixEngine, SharedPrefixRollout
from grao_bench.runs.cell import build, models_wanted
from grao_bench.runs.run import run
from grao_bench.runs.summary import summary
from grao_bench.training.loop import train
from tests.cells import OBJECTIVES, RESULTS, cell, contents, small, snapshot
from tests.small import tiny_llama, word_tokenizer

SETS = ("world_helpful", "world_harmless", "world_helpful_new")


class Stopped(Exception):
    """What stands for an interruption."""


def stop_after(step):
    """An on_step that interrupts the run when this step is done, before its probe and its checkpoint."""

    def on_step(record):
        if record.step == step:
            raise Stopped(f"at step {step}")

    return on_step


def weights(folder: Path) -> str:
    return weights_fingerprint(AutoModelForCausalLM.from_pretrained(folder / "model"))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Where cells lie whose base is evaluated once."""
    return tmp_path_factory.mktemp("together")


MAIN = ("dpo", "grao", "grao_clip0", "grpo", "ppo", "sft")


@pytest.mark.parametrize(
    "objective",
    # the others' updates are in training/test_loop.py; a whole cell of each is for make test-all
    [name if name in MAIN else pytest.param(name, marks=pytest.mark.slow) for name in OBJECTIVES],
)
def test_every_objective_trains_evaluates_and_records(objective, together):
    experiment = cell(objective, together)
    folder = run(experiment)

    assert folder == together / "small" / "tiny" / "world_helpful" / f"{objective}-{experiment.config_hash}" / "seed0"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "run.json", "steps.jsonl", "probes.jsonl", "timing.jsonl", "alarms.txt", "model/config.json"} <= files
    assert not any(name.startswith(("checkpoint", "best", "error")) for name in files)
    found = read_run(folder)
    assert [record.step for record in found.steps] == [1, 2]
    assert [record.step for record in found.probes] == [0, 1, 2]
    assert [line["step"] for line in found.timing] == [1, 2]
    assert all(value == value for record in (*found.steps, *found.probes) for value in record.metrics.values())
    assert rebuild(found.info.config, "run.json") == experiment == rebuild(yaml.safe_load((folder / "config.yaml").read_text()), "config")
    # the probe before the first step measures the base against itself
    assert found.probes[0].metrics["kl"] == pytest.approx(0, abs=1e-5)
    assert found.probes[2].metrics["kl"] != pytest.approx(0, abs=1e-5)
    assert all(0 < probe.metrics["sampler_mismatch"] <= 1e-5 for probe in found.probes)

    assert [*found.evaluations] == [("world_helpful", "gold")]
    records = found.evaluations["world_helpful", "gold"]
    assert [(record.example_id, record.reference) for record in records] == [
        (e.id, e.chosen) for e in small("data/world_helpful").build().test
    ]
    assert {record.verdict for record in records} <= {-1.0, 0.0, 1.0}
    assert all(1 <= record.num_tokens <= 32 and (record.finished or record.num_tokens == 32) for record in records)
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert len(AutoTokenizer.from_pretrained(folder / "model")) == model.config.vocab_size
    assert found.info.peak_memory > 100 * 2**20
    assert (found.info.config_hash, found.info.hash_version) == (experiment.config_hash, HASH_VERSION)
    budget, tests = experiment.budget, small("data/world_helpful").build().test
    for name, count in (("training", 32), ("world_helpful", len(tests))):
        told = found.info.lengths[name]
        over, rule = told.answers_over_limit, budget.long_references
        assert told == Lengths(count, 0, over, rule, prompts=count)
    assert found.info.end_token == "<|end|>"
    assert (found.info.drops, found.info.judges, found.info.kept_step) == ({}, {}, None)
    assert weights_fingerprint(model) != found.info.fingerprints["base"], "the policy was not trained"


def test_the_base_is_evaluated_once_and_shared(tmp_path):
    both = small("evaluation/standard", sets="all", max_examples=4)
    run(cell("sft", tmp_path, evaluation=both))
    (base,) = (tmp_path / "small" / "tiny" / "base").glob("*/seed*")
    before = snapshot(base)

    run(cell("grpo", tmp_path, evaluation=both))
    run(cell("sft", tmp_path, evaluation=both, seed=3))
    run(cell("sft", tmp_path, evaluation=both, data=small("data/world_harmless")))

    assert [*(tmp_path / "small" / "tiny" / "base").glob("*/seed*")] == [base]
    assert snapshot(base) == before
    found = read_run(base)
    assert found.info.objective == "base"
    assert {key: len(records) for key, records in found.evaluations.items()} == {(name, "gold"): 4 for name in SETS}


@pytest.mark.parametrize(("objective", "seed"), [("sft", 0), ("grpo", 5)])
def test_evaluation_draws_with_common_random_numbers(objective, seed, tmp_path):
    # at a rate of 0 the policy stays the base, so only other random numbers could make its answers differ from the base's
    still = {"seed": seed, "optimizer": load("optimizer/adamw", lr=0.0, value_lr=0.0)}
    folder = run(cell(objective, tmp_path, evaluation=small("evaluation/standard", sets="all"), **still))

    (base,) = (tmp_path / "small" / "tiny" / "base").glob("*/seed*")
    assert contents(folder, "evaluations/*.jsonl") == contents(base, "evaluations/*.jsonl")
    assert {path.name for path in (folder / "evaluations").iterdir()} == {f"{name}-gold.jsonl" for name in SETS}
    other = read_run(run(cell(objective, tmp_path, evaluation=small("evaluation/standard", seed=1), **still)))
    answers = [[record.answer for record in found.evaluations["world_helpful", "gold"]] for found in (read_run(folder), other)]
    assert answers[0] != answers[1], "evaluation.seed draws others"


def test_greedy_evaluation_is_what_the_saved_model_says(tmp_path):
    folder = run(cell("sft", tmp_path, evaluation=small("evaluation/standard", temperature=0.0)))

    assert [path.name for path in (folder / "evaluations").iterdir()] == ["world_helpful-gold.jsonl"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder / "model"), AutoTokenizer.from_pretrained(folder / "model")
    for record in read_records(folder / "evaluations" / "world_helpful-gold.jsonl", EvalRecord)[:4]:
        prompt = tokenizer(f"\n\nHuman: {record.prompt}\n\nAssistant:", return_tensors="pt")
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=32)[0, prompt["input_ids"].shape[1] :]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == record.answer
        assert record.finished == (ids[-1] == tokenizer.eos_token_id)


def test_evaluation_by_another_reward_and_without_texts(tmp_path):
    evaluation = small("evaluation/standard", reward=load("reward/gold_score"), store_text=False, max_examples=3, sets="all")
    found = read_run(run(cell("grpo", tmp_path, evaluation=evaluation)))

    assert found.info.reward == "gold"
    assert set(found.evaluations) == {(name, reward) for name in SETS for reward in ("gold", "gold_score")}, "and by the training reward"
    for records in found.evaluations.values():
        assert len(records) == 3
        assert all((record.prompt, record.reference, record.answer) == ("", "", "") and -1 <= record.reward <= 1 for record in records)


def test_the_training_reward_judges_the_same_answers_beside_another(tmp_path):
    evaluation = small("evaluation/standard", reward=load("reward/gold_score"))
    experiment = cell("grpo", tmp_path, evaluation=evaluation)
    found = read_run(run(experiment))
    bases = {key: path for path in (tmp_path / "small" / "tiny" / "base").glob("*/seed0") for key in read_run(path).evaluations}

    by_judge, by_trained_on = (found.evaluations["world_helpful", reward] for reward in ("gold_score", "gold"))
    assert [record.answer for record in by_judge] == [record.answer for record in by_trained_on]
    assert [record.reward for record in by_judge] == [record.parts["score"] for record in by_trained_on]
    assert {"reward/world_helpful/gold", "reward/world_helpful/gold_score"} <= set(found.info.fingerprints)
    assert set(bases) == {("world_helpful", "gold"), ("world_helpful", "gold_score")}, "the base is judged by both"
    # a cell that is evaluated by its training reward asks the same of the base
    run(cell("sft", tmp_path))
    assert len({*(tmp_path / "small" / "tiny" / "base").glob("*/seed0")}) == len(set(bases.values())) == 2
    assert "world_helpful/ras" in (named := summary(experiment.folder, [*bases.values()]))
    assert {"world_helpful/gold/ras", "world_helpful/gold/nag_mean"} <= set(named)


def test_judges_of_one_name_are_told_apart(tmp_path):
    wide = load("reward/gold", tie_band=0.9)
    found = read_run(run(cell("sft", tmp_path, evaluation=small("evaluation/standard", reward=wide))))

    by_trained_on, by_judge = (found.evaluations["world_helpful", name] for name in ("gold", f"gold_{value_hash(wide)[:4]}"))
    assert len(found.evaluations) == 2
    assert sum(record.verdict == 0 for record in by_judge) > sum(record.verdict == 0 for record in by_trained_on)


def test_the_peak_of_memory_is_that_of_the_cell():
    device = torch.device("cpu")
    reset_peak_memory()
    before = peak_memory(device)
    held = torch.ones(48 * 2**20 // 4)  # 48 MiB
    peak = peak_memory(device)
    del held
    assert 32 * 2**20 < peak - before < 300 * 2**20
    reset_peak_memory()
    if Path("/proc/self/clear_refs").exists():
        assert peak_memory(device) < peak - 32 * 2**20


def test_a_finished_cell_is_left_as_it_is(tmp_path):
    folder = run(cell("grpo", tmp_path))
    before = snapshot(folder)

    assert run(cell("grpo", tmp_path), on_step=stop_after(1)) == folder
    assert snapshot(folder) == before


RESUMED = {
    "budget": load("budget/smoke", steps=4, checkpoint_every=2, answers_per_step=8),
    "optimizer": load("optimizer/adamw", lr=0.002, schedule="cosine", warmup_steps=1),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of a cell that ran through, made once for each objective."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return lambda objective: contents(run(cell(objective, folder, **RESUMED)), *RESULTS)


@pytest.mark.parametrize(
    ("objective", "stop", "resumed"),
    [
        pytest.param("ppo", 1, [1, 2, 3, 4], id="before the first checkpoint"),
        pytest.param("ppo", 3, [3, 4], id="between checkpoints"),
        pytest.param("grpo", 3, [3, 4], id="another objective"),
        pytest.param("grpo", 4, [3, 4], id="at the last step"),
    ],
)
def test_an_interrupted_cell_ends_as_if_it_had_not_been_interrupted(objective, stop, resumed, uninterrupted, tmp_path):
    experiment = cell(objective, tmp_path, **RESUMED)

    with pytest.raises(Stopped):
        run(experiment, on_step=stop_after(stop))
    partial = experiment.folder.with_name("seed0.partial")
    assert not experiment.folder.exists()
    assert find_unfinished(tmp_path) == {partial: f"Stopped: at step {stop}"}
    with (partial / "steps.jsonl").open("a") as file:
        file.write('{"step": 9, "metr')  # a line torn by a kill
    steps = []
    folder = run(experiment, on_step=lambda record: steps.append(record.step))

    assert steps == resumed
    assert contents(folder, *RESULTS) == uninterrupted(objective)
    assert not partial.exists()
    assert not [path for path in folder.rglob("*") if path.name in ("error.txt", "checkpoint")]


def test_an_interruption_during_evaluation_resumes_there(tmp_path, monkeypatch):
    both = small("evaluation/standard", sets="all")
    whole = run(cell("grao", tmp_path / "whole", evaluation=both))
    interrupted = cell("grao", tmp_path / "interrupted", evaluation=both)
    # the second set's file can't be written where a folder lies: the first set's is there already
    block = interrupted.folder.with_name("seed0.partial") / "evaluations" / "world_harmless-gold.jsonl.partial"
    block.mkdir(parents=True)

    with pytest.raises(IsADirectoryError):
        run(interrupted)
    done = block.with_name("world_helpful-gold.jsonl")
    written = done.stat().st_mtime_ns
    block.rmdir()
    folder = run(interrupted, on_step=stop_after(1))  # no step is made again

    assert (folder / "evaluations" / done.name).stat().st_mtime_ns == written
    assert contents(folder, *RESULTS) == contents(whole, *RESULTS)


def test_same_configuration_and_seed_same_bytes(tmp_path):
    one, two, other = (run(cell("grao", tmp_path / name, seed=seed)) for name, seed in (("one", 0), ("two", 0), ("other", 1)))

    assert contents(one, *RESULTS) == contents(two, *RESULTS)
    assert one.parent.name == other.parent.name, "the seed is no part of the configuration's hash"
    assert contents(one, "steps.jsonl") != contents(other, "steps.jsonl")
    assert contents(one, "model/*.safetensors") != contents(other, "model/*.safetensors")
    assert read_run(one).info.fingerprints == read_run(other).info.fingerprints, "the seed changes neither the base nor the data"
    assert read_run(one).probes[0] == read_run(other).probes[0], "the base's probe draws with common random numbers"


def test_best_on_dev_is_kept(tmp_path):
    # this rate first teaches and then breaks so small a model
    changed = {"optimizer": load("optimizer/adamw", lr=0.01, warmup_steps=0), "evaluation": small("evaluation/standard", max_examples=2)}
    budget = load("budget/smoke", steps=8, probe_prompts=16, answers_per_step=8, checkpoint_every=3, keep="best_dev")
    experiment = cell("sft", tmp_path, budget=budget, **changed)

    with pytest.raises(Stopped):
        run(experiment, on_step=stop_after(7))
    found = read_run(folder := run(experiment))

    ras = [probe.metrics["ras"] for probe in found.probes]
    best = ras.index(max(ras))
    assert 0 < best < 8, ras
    assert found.info.kept_step == best
    assert not (folder / "best").exists()
    # under a constant rate the first steps of a longer run are those of a shorter one
    shorter = run(cell("sft", tmp_path, budget=replace(budget, steps=best, keep="last"), **changed))
    assert weights(folder) == weights(shorter)
    assert contents(folder, "evaluations/*.jsonl") == contents(shorter, "evaluations/*.jsonl")


TOLD: list[int] = []
"""The steps of training after which an engine of `Noting` was told of a policy."""


@dataclass(frozen=True)
class Noting(SharedPrefixRollout):
    """The values of conf/, and an engine that notes what it is told."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 0
    min_p: float = 0.0
    stop: list[str] | None = None
    answers_per_call: int = 256
    max_seconds: float | None = None
    cuda_graphs: bool = False

    def build(self, codec):
        TOLD.clear()
        return NotingEngine(codec, self.answers_per_call)


class NotingEngine(SharedPrefixEngine):
    def sync(self, policy, step):
        TOLD.append(step)
        super().sync(policy, step)


def test_of_policies_that_are_equally_good_on_dev_the_first_is_kept(tmp_path):
    still = load("optimizer/adamw", lr=0.0, value_lr=0.0)
    budget = load("budget/smoke", keep="best_dev", probe_every=1)
    folder = run(cell("sft", tmp_path, budget=budget, optimizer=still, rollout=Noting()))
    found = read_run(folder)

    assert len({probe.metrics["ras"] for probe in found.probes}) == 1
    assert found.info.kept_step == 0
    assert TOLD == [0, 1, 2, 0, 0], "three probes, the base, and the policy that was kept"


def test_a_run_can_start_from_another_ones_model(tmp_path):
    first = run(cell("sft", tmp_path))
    second = read_run(run(cell("grpo", tmp_path, model=small("model/tiny", start_from=str(first)))))
    before = read_run(first)

    started, ended = second.probes[0].metrics, before.probes[-1].metrics
    assert started["j_reference"] == pytest.approx(ended["j_reference"], abs=1e-6)
    assert started["j_reference"] != pytest.approx(before.probes[0].metrics["j_reference"], abs=1e-6)
    assert second.info.fingerprints["base"] == before.info.fingerprints["base"], "it is measured against the base, not against its start"
    assert started["kl"] == pytest.approx(ended["kl"], abs=1e-5)
    assert len([*(tmp_path / "small" / "tiny" / "base").glob("*/seed0")]) == 1, "the same base, evaluated once"
    assert second.steps[0].metrics["kl"] == pytest.approx(0, abs=1e-6), "GRPO's reference is the model that it starts from"
    with pytest.raises(UserError, match=r"model\.start_from=.*: holds no model/"):
        run(cell("grpo", tmp_path, model=small("model/tiny", start_from=str(tmp_path))))


@pytest.mark.parametrize(("said", "stops"), [(None, (0,)), (9, (0, 9)), ([9, 0, 12], (0, 9, 12))])
def test_an_answer_ends_where_the_models_generation_settings_say(said, stops, tmp_path):
    """Beside the tokenizer's own end token, 0: as one number or as a list, as checkpoints have it."""
    model = tiny_llama()
    model.generation_config.eos_token_id = said
    model.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    asked = cell("sft", tmp_path)
    assert load_policy(asked.model, str(tmp_path), models_wanted(asked))[1].stop_tokens == stops


def test_a_failure_leaves_its_reason(tmp_path):
    experiment = cell("sft", tmp_path, budget=load("budget/smoke", max_answer_tokens=500))

    with pytest.raises(UserError, match=r"exceed the model's context of 512; lower budget\.max_prompt_tokens"):
        run(experiment)

    partial = experiment.folder.with_name("seed0.partial")
    (line,) = (partial / "error.txt").read_text().splitlines()
    assert line.startswith("example ")
    assert "500 answer tokens exceed the model's context of 512" in line
    assert not [*partial.glob("steps.jsonl")], "found before a step is trained, also where nothing is sampled before the evaluation"
    assert find_unfinished(tmp_path) == {partial: line}
    assert rebuild(yaml.safe_load((partial / "config.yaml").read_text()), "config") == experiment, "a report can name what failed"


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path):
    for changed, message in [
        ({"budget": load("budget/smoke", steps=-1)}, r"budget\.steps=-1: must be at least 0"),
        ({"rollout": load("rollout/shared_prefix", temperature=0.0)}, r"rollout\.temperature=0: 8 greedy answers are one answer"),
        ({"data": load("data/jsonl", train="x.jsonl")}, r"reward=gold: data=jsonl has no gold judge"),
    ]:
        with pytest.raises(UserError, match=message):
            run(cell("grao", tmp_path, **changed))
    assert [*tmp_path.iterdir()] == []


def test_training_is_a_generator_that_a_notebook_can_drive(tmp_path):
    experiment = cell("grpo", tmp_path)

    with process_settings(experiment.threads):
        built = build(experiment)
        records = list(train(built.trainer, built.collector, built.examples, experiment.seed))

    assert [json.dumps(record.metrics) for record in records] == [json.dumps(record.metrics) for record in read_run(run(experiment)).steps]
    assert not any(
        torch.equal(a, b)
        for a, b in zip(built.trainer.policy.model.parameters(), built.base.model.parameters(), strict=True)
        if a.dim() > 1
    )


def test_cells_share_a_base_that_is_evaluated_alike(tmp_path):
    """Whatever their own rollouts are drawn at; at another evaluation temperature it is another."""
    for heat, evaluated in ((0.7, 0.7), (1.0, 0.7), (1.0, 0.0)):
        rollout = load("rollout/shared_prefix", temperature=heat)
        evaluation = small("evaluation/standard", temperature=evaluated)
        budget = load("budget/smoke", steps=1, probe_every=0)
        run(cell("grpo", tmp_path, rollout=rollout, evaluation=evaluation, budget=budget))
    assert len([*tmp_path.glob("small/tiny/base/base-*")]) == 2
    assert len([*tmp_path.glob("small/tiny/world_helpful/grpo-*")]) == 3
