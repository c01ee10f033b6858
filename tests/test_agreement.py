"""Settings that must agree are compared before training, in a line each."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from grao_bench.core.precision import times_slower
from grao_bench.core.specs import load
from grao_bench.runs.agreement import remarks

from .cells import cell


@pytest.mark.parametrize(
    ("objective", "changed", "line"),
    [
        ("grpo", {}, None),
        ("grpo", {"model": {"logp_temperature": 0.7}}, None),
        ("sft", {"model": {"logp_temperature": 1.0}}, None),
        (
            "grpo",
            {"model": {"logp_temperature": 1.0}},
            "model.logp_temperature=1: grpo learns from answers drawn at 0.7, and its ratio, KL",
        ),
        ("dpo", {"model": {"logp_temperature": 0.7}}, "model.logp_temperature=0.7: dpo has no"),
        ("grao", {"rollout": {"top_p": 0.9}}, "rollout.top_p=0.9: answers are drawn from a part"),
        ("ppo", {"rollout": {"top_k": 50, "min_p": 0.1}}, "rollout.top_k=50 rollout.min_p=0.1:"),
        ("sft", {"rollout": {"top_p": 0.9}}, None),
        # 16 answers a step: two groups of 8 or 6 are 16 or 12, one group of 20 is 20
        ("grpo", {"objective": {"rollouts": 6}}, "budget.answers_per_step=16: a step of grpo has 12"),
        ("grpo", {"objective": {"rollouts": 20}}, "a step of grpo has 20, in groups of 20"),
        (
            "grpo",
            {"objective": {"rollouts": 6}, "budget": {"prompts_per_step": 3}},
            None,
        ),
        ("dapo", {"budget": {"answers_per_step": 8}}, "objective.minibatches=2: a step has 1 prompt"),
    ],
)
def test_settings_of_a_cell(objective, changed, line, tmp_path):
    one = cell(objective, tmp_path)
    parts = {name: replace(getattr(one, name), **fields) for name, fields in changed.items()}
    lines = remarks(replace(one, **parts))
    assert [line in each for each in lines] == ([] if line is None else [True]), lines


@pytest.mark.parametrize(
    ("shaping", "changed", "line"),
    [
        (["soft_overlong"], {}, "reward.soft_overlong.longest: it punishes answers of more than 384"),
        (["length"], {}, "reward.length.target: it punishes answers of more than 256 tokens"),
        (["clip"], {}, None),
        (["length"], {"target": 20}, None),
    ],
)
def test_a_penalty_that_no_answer_can_get(shaping, changed, line, tmp_path):
    """The budget's answers have at most 32 tokens."""
    spec = load("reward/shaped", shaping=shaping, source=load("reward/gold_score"))
    spec = replace(spec, length=replace(spec.length, **changed))
    lines = remarks(replace(cell("grpo", tmp_path), reward=spec))
    assert [line in each for each in lines] == ([] if line is None else [True])


@pytest.mark.parametrize(("reads", "told"), [(159, True), (160, False)])
def test_a_reward_model_that_reads_less_than_the_budget_writes(reads, told, tmp_path):
    """128 tokens of prompt and 32 of answer; alone, and as a part of another reward."""
    folder = tmp_path / "judge"
    folder.mkdir()
    record = {"prompt_format": "hh", "max_tokens": reads}
    (folder / "reward_model.json").write_text(json.dumps(record), encoding="utf-8")
    alone = load("reward/reward_model", path=str(folder))
    shaped = replace(load("reward/shaped", source=load("reward/gold_score")), source=alone)
    for spec in (alone, shaped):
        lines = remarks(replace(cell("grpo", tmp_path), reward=spec))
        assert [f"reads {reads} tokens of prompt and answer" in each for each in lines] == [True] * told


def test_bfloat16_on_a_processor_without_it_is_said_for_models_and_rewards(tmp_path, monkeypatch):
    """Here the flags are those of a processor without it; what is measured is this one's."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    model = load("model/hf", path="somewhere", dtype="bfloat16", device="cpu")
    judge = load("reward/reward_model", path="owner/name", dtype="bfloat16", device="cpu")
    lines = remarks(replace(cell("grpo", tmp_path), model=model, reward=judge))
    found = [line for line in lines if "=bfloat16: this processor has no bfloat16" in line]
    there = times_slower() > 1
    keys = ["model.dtype", "reward.dtype"] if there else []
    assert [line.partition("=")[0] for line in found] == keys
