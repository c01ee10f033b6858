"""Half-precision parameters are trained through float32 copies, and a checkpoint keeps those."""

from __future__ import annotations

import torch

from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.training.checkpoint import load_checkpoint, save_checkpoint

from ..small import tiny_llama
from .setting import trainer

SFT = load_objective("sft")


def half(**optimizer):
    return trainer(SFT, Policy(tiny_llama().to(torch.bfloat16), 1.0, False), weight_decay=0.0, schedule="constant", **optimizer)


def step(trainer_):
    for parameter in trainer_.policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer_.optimizer.step()
    trainer_.policy.zero_grad()


def test_small_steps_add_up():
    """Adam moves each weight by lr a step: 100 steps of 1e-4 are 0.01, which no single bfloat16 weight near 1 could follow step by step."""
    trainer_ = half(lr=1e-4)
    before = [parameter.detach().float().clone() for parameter in trainer_.policy.parameters()]
    for _ in range(100):
        step(trainer_)
    for old, new in zip(before, trainer_.policy.parameters(), strict=True):
        assert new.dtype == torch.bfloat16
        torch.testing.assert_close(new.float(), (old - 0.01).bfloat16().float(), atol=0.008, rtol=0)
        assert not torch.equal(new.float(), old)


def test_a_checkpoint_keeps_the_digits_below_half_precision(tmp_path):
    one, other = half(lr=1e-4), half(lr=1e-4)
    for _ in range(3):
        step(one)
    save_checkpoint(tmp_path / "checkpoint", one)
    assert load_checkpoint(tmp_path / "checkpoint", other)
    for _ in range(40):
        step(one)
        step(other)
    for a, b in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_float32_parameters_are_the_optimisers_own():
    trainer_ = trainer(SFT, Policy(tiny_llama(), 1.0, False))
    assert {id(p) for group in trainer_.optimizer.param_groups for p in group["params"]} == {id(p) for p in trainer_.policy.parameters()}
