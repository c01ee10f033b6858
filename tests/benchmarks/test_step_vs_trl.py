"""The paired benchmark: what it computes from the steps, our arm in this process, and (slow) all of it against TRL on a toy model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import step_vs_trl
from benchmarks.ours import build, timed_steps
from benchmarks.pipe import Clock
from benchmarks.step_vs_trl import ROOT, Arm, checked, fastest_trl, floor_seconds, main, measure, parse, rounds, summary, workload
from benchmarks.workload import SHAPES, Shape, Workload, write_checkpoint

RATES = {"layers": 100.0, "head": 10.0, "bytes": 1.0, "matmul": "medium"}
TOY = "--models toy --sequences 8 --answers 4 --prompt-tokens 8 12 --max-answer-tokens 12 --repeats 1"


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoint(SHAPES["toy"], folder, seed=0)
    return folder


@pytest.mark.parametrize("objective", ["grpo", "sft", "dpo"])
def test_our_arm_does_the_whole_workload(objective, checkpoint, tmp_path):
    options = parse(TOY.split())
    work = workload(options, objective, "toy")
    machines = build(work, checkpoint, "cpu", "float32", tokens_per_forward=64, cache=tmp_path)
    before = machines.trainer.policy.model.get_input_embeddings().weight.clone()
    steps = list(timed_steps(machines, Clock("cpu"), tmp_path / "steps.jsonl"))
    assert len(steps) == options.warmup + options.repeats
    tasks = work.tasks()
    for number, step in enumerate(steps):
        answers, sequences = work.step_tokens(number, tasks)
        assert (step.generated, step.sequence_tokens) == (answers if objective == "grpo" else 0, sequences)
        assert 0 <= step.rollout < step.seconds
    assert len((tmp_path / "steps.jsonl").read_text().splitlines()) == len(steps)
    assert not torch.equal(before, machines.trainer.policy.model.get_input_embeddings().weight)


def step(seconds: float, rollout: float = 1.0, rss: float = 100.0) -> dict[str, object]:
    return {
        "seconds": seconds,
        "rollout": rollout,
        "generated": 50,
        "sequence_tokens": 600,
        "peak_rss_mb": rss,
        "peak_device_mb": None,
    }


def arm(name: str, *steps: dict[str, object]) -> Arm:
    return Arm(name, process=None, log=Path(), base_rss_mb=10.0, steps=list(steps))  # type: ignore[arg-type]


def test_ratios_are_of_the_same_round():
    """Three timed rounds after a warm-up; the slow arm left after one. Medians and ranges by hand."""
    options = SimpleNamespace(warmup=1, device="cpu", dtype="float32", tokens_per_forward=1)
    ours = arm("ours", step(99.0), step(2.0, rss=110.0), step(4.0), step(3.0, rss=200.0))
    peer = arm("trl-fp32", step(1.0), step(8.0), step(8.0), step(9.0, rss=300.0))
    slow = arm("trl-defaults", step(1.0), step(20.0, rss=330.0))
    found = {one.name: summary(one, [ours, peer, slow], options) for one in (ours, peer, slow)}
    assert found["trl-fp32"]["seconds_over_ours"] == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert found["trl-fp32"]["memory_over_ours"] == 1.5
    assert found["trl-fp32"]["rollout_tokens_per_s"] == 50.0
    assert found["trl-fp32"]["train_tokens_per_s"] == 600 / 7
    # against ours of that round, and against what ours had used by then
    assert found["trl-defaults"]["seconds_over_ours"] == {"median": 10.0, "min": 10.0, "max": 10.0}
    assert found["trl-defaults"]["memory_over_ours"] == 3.0
    assert fastest_trl({"arms": found}) == "trl-fp32"
    assert fastest_trl({"arms": {"ours": found["ours"]}}) is None


def test_the_floor_is_of_the_same_round_and_of_the_same_products():
    """A warm-up and two rounds; an arm whose products are in another dtype than ours has no ratio."""
    options = SimpleNamespace(warmup=1, device="cpu", dtype="float32", tokens_per_forward=1)
    ours = arm("ours", step(99.0), step(2.0), step(6.0))
    peer, slow = arm("trl-fp32", step(99.0), step(8.0), step(12.0)), arm("trl-fp32-8", step(99.0), step(20.0))
    autocast, weights = (arm(name, step(99.0), step(8.0), step(8.0)) for name in ("trl-defaults", "trl-bf16-weights"))
    arms, floors = [ours, peer, slow, autocast, weights], {"seconds": [1.0, 2.0, 4.0]}
    found = {one.name: summary(one, arms, options, floors)["seconds_over_floor"] for one in arms}
    assert found == {
        "ours": {"median": 1.25, "min": 1.0, "max": 1.5},
        "trl-fp32": {"median": 3.5, "min": 3.0, "max": 4.0},
        "trl-fp32-8": {"median": 10.0, "min": 10.0, "max": 10.0},
        "trl-defaults": None,
        "trl-bf16-weights": None,
    }
    options.dtype = "bfloat16"
    found = {one.name for one in arms if summary(one, arms, options, floors)["seconds_over_floor"]}
    assert found == {"ours", "trl-defaults", "trl-bf16-weights"}
    assert summary(ours, arms, options)["seconds_over_floor"] is None


@pytest.mark.parametrize(("dtype", "rollout"), [("float32", 54.0), ("bfloat16", 27.0)])
def test_floor_seconds_by_hand(dtype, rollout):
    """test_floor's step by hand, twice: 424 and 120 operations or 432 bytes (of 4 to a number), then 1272 and 480 operations."""
    shape = Shape(hidden=2, layers=1, heads=1, kv_heads=1, ff=1, vocab=10)
    work = Workload("grpo", 10, 1, 2, (4, 4), 2, steps=2, seed=0, lengths="full")
    after = {"layers": 106.0, "head": 5.0, "bytes": 8.0, "matmul": "highest"}
    found = floor_seconds(SimpleNamespace(dtype=dtype), work, shape, [RATES, after])
    assert found["rates"] == {"layers": 106.0, "head": 10.0, "bytes": 8.0, "matmul": "highest"}
    # 424 / 106 + 120 / 10 = 16 s of products take less than the bytes; 1272 / 106 + 480 / 10
    assert found["seconds"] == [rollout + 60.0] * 2


class Answering(Arm):
    """An arm without a process that has done the whole workload in two seconds."""

    def greet(self):
        pass

    def step(self):
        work = workload(parse(TOY.split()), "grpo", "toy")
        answers, sequences = work.step_tokens(len(self.steps), work.tasks())
        return step(2.0) | {"generated": answers, "sequence_tokens": sequences}

    def close(self):
        pass


@pytest.mark.parametrize("error", [subprocess.CalledProcessError(-9, "worker"), OSError("no memory"), json.JSONDecodeError("", "", 0)])
def test_rates_that_cannot_be_measured_again_lose_no_round(error, monkeypatch, tmp_path):
    answers = iter([RATES])

    def measure_rates(*_):
        for rates in answers:
            return rates
        raise error

    monkeypatch.setattr(step_vs_trl, "measure_rates", measure_rates)
    monkeypatch.setattr(step_vs_trl, "start", lambda name, *_: Answering(name, process=None, log=Path()))
    run = measure(parse([*TOY.split(), "--arms"]), "grpo", "toy", tmp_path)
    assert run["floor"]["rates"] == RATES
    assert len(run["arms"]["ours"]["steps"]) == 2
    assert run["arms"]["ours"]["seconds_over_floor"]["median"] == 2.0 / run["floor"]["seconds"][1]


def test_the_parent_process_has_no_torch():
    words = "import sys, benchmarks.step_vs_trl; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], stdout=subprocess.PIPE, cwd=ROOT, text=True, check=True).stdout == "False\n"


def test_a_slow_arm_leaves_and_ours_stays():
    options = SimpleNamespace(warmup=1, repeats=5, slow_seconds=60.0, slow_repeats=2)
    assert rounds(arm("trl-fp32"), options) == 6
    assert rounds(arm("trl-fp32", step(59.0)), options) == 6
    assert rounds(arm("trl-fp32", step(61.0)), options) == 3
    assert rounds(arm("ours", step(61.0)), options) == 6


def test_an_arm_that_did_other_work_stops_the_run():
    work = workload(parse(TOY.split()), "grpo", "toy")
    tasks = work.tasks()
    answers, sequences = work.step_tokens(0, tasks)
    right = {"generated": answers, "sequence_tokens": sequences}
    assert checked("ours", right, work, 0, tasks) is right
    with pytest.raises(SystemExit, match=rf"trl-fp32, step 1.*{answers + 1}"):
        checked("trl-fp32", right | {"generated": answers + 1}, work, 0, tasks)


@pytest.mark.parametrize(
    "words",
    [
        "--sequences 10 --answers 4",
        "--repeats 0",
        "--answers 0",
        "--sequences 0",
        "--max-answer-tokens 0",
        "--warmup -1",
        "--prompt-tokens 12 8",
        "--prompt-tokens 7 8",
    ],
)
def test_what_cannot_be_is_said(words, capsys):
    with pytest.raises(SystemExit):
        parse(words.split())
    said = capsys.readouterr().err
    assert words.split()[0] in said.splitlines()[-1]
    assert "must be" in said


@pytest.mark.slow
def test_lengths_are_forced_on_transformers():
    pytest.importorskip("trl")
    from benchmarks.trl_arm import ForcedLengths

    force = ForcedLengths([2, 1, 9], prompt_width=3, end=0)
    first = force(torch.ones(3, 3, dtype=torch.long), torch.zeros(3, 4))
    assert first.softmax(-1)[:, 0].tolist() == [0.0, 1.0, 0.0]
    second = force(torch.ones(3, 4, dtype=torch.long), torch.zeros(3, 4))
    assert second.softmax(-1)[:, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "arms"),
    [("grpo", ["trl-fp32", "trl-defaults"]), ("sft", ["trl-fp32-8"]), ("dpo", ["ours-cached", "trl-fp32", "trl-precomputed-8"])],
)
def test_against_trl(objective, arms, tmp_path, capsys):
    """The run itself asserts that every arm generated and trained on the same tokens."""
    pytest.importorskip("trl")
    out = tmp_path / "made" / "out.json"
    main([*TOY.split(), "--objectives", objective, "--arms", *arms, "--out", str(out)])
    (run,) = json.loads(out.read_text())["runs"]
    assert list(run["arms"]) == ["ours", *arms]
    table = capsys.readouterr().out
    for name, found in run["arms"].items():
        assert name in table
        assert len(found["steps"]) == 2
        assert 0 < found["base_rss_mb"] <= found["peak_rss_mb"]
        own = run["arms"][found["compared_with"]]
        assert found["seconds_over_ours"]["median"] == found["steps"][1]["seconds"] / own["steps"][1]["seconds"]
    assert (run["arms"]["ours"]["rollout_tokens_per_s"] is None) == (objective != "grpo")
