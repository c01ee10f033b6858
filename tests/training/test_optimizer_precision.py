"""Half-precision parameters are trained through float32 copies, and a checkpoint keeps those."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.training.checkpoint import load_checkpoint, save_checkpoint
from grao_bench.training.collect import collect
from grao_bench.training.loop import prepared, update

from ..small import tiny_llama
from .setting import EXAMPLES, budget, collector, trainer

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


def gradients(policy, batch, bound, spec=SFT):
    """What the optimiser is given for one update, by parameter, in float64."""
    found = {}
    trainer_ = trainer(spec, policy, budget(tokens_per_forward=bound), clip_norm=1e9)
    masters = [each for group in trainer_.optimizer.param_groups for each in group["params"]]
    names = [name for name, _ in policy.named_parameters()]

    def look(*_):
        found.update({n: m.grad.double().clone() for n, m in zip(names, masters, strict=True)})

    trainer_.optimizer.register_step_pre_hook(look)
    metrics = update(trainer_, batch, value_only=False)
    return found, metrics["grad_norm"]


def many_rows():
    """64 rows of SFT, prepared."""
    examples = [replace(EXAMPLES[row % 5], id=f"e{row}") for row in range(64)]
    policy = Policy(tiny_llama(), 1.0, False)
    asked = collector(SFT, policy)
    return prepared(SFT, collect(asked, policy, examples, SFT.needs, SFT.updates, 0)[0])


def apart(found, right):
    """|found - right| / |right| over all parameters."""
    distance = sum((found[name] - right[name]).square().sum() for name in right) ** 0.5
    return float(distance / sum(value.square().sum() for value in right.values()) ** 0.5)


def test_gradients_of_micro_batches_are_summed_in_float32():
    """64 micro-batches of a row: the sum, in float64, of the gradients that each has in bfloat16,
    and its norm. Summed in bfloat16, as the parameters' own gradients are, it is far from that."""
    batch = many_rows()
    plain = Policy(tiny_llama().to(torch.bfloat16), 1.0, False)
    exact = {name: torch.zeros_like(each).double() for name, each in plain.named_parameters()}
    rough = {name: torch.zeros_like(each) for name, each in plain.named_parameters()}
    for row in range(batch.size):
        part = batch.select([row]).trimmed()
        (SFT.loss(plain(part), part).total.sum() / batch.size).backward()
        for name, each in plain.named_parameters():
            exact[name] += each.grad.double()
            rough[name] += each.grad
        plain.zero_grad()
    found, norm = gradients(Policy(tiny_llama().to(torch.bfloat16), 1.0, False), batch, 1)
    assert apart(found, exact) < 1e-6
    assert apart({name: value.double() for name, value in rough.items()}, exact) > 1e-3
    assert norm == pytest.approx(float(sum(x.square().sum() for x in exact.values()) ** 0.5))


def test_however_a_batch_is_cut_half_precision_is_as_far_from_float64():
    """Of the same weights in float64; the parts' own rounding stays, and the sum adds none."""
    batch, half = many_rows(), tiny_llama().to(torch.bfloat16)
    right, _ = gradients(Policy(copy.deepcopy(half).double(), 1.0, False), batch, 10_000)
    errors = []
    for bound in (10_000, 200, 1):
        found, _ = gradients(Policy(copy.deepcopy(half), 1.0, False), batch, bound)
        errors.append(apart(found, right))
    assert max(errors) < 1.5 * errors[0] < 0.05


def test_a_value_only_step_leaves_half_precision_weights_and_their_copies():
    spec = load_objective("ppo", rollouts=4)
    policy = Policy(tiny_llama().to(torch.bfloat16), 1.0, True)
    trainer_, asked = trainer(spec, policy), collector(spec, policy)
    batch = prepared(spec, collect(asked, policy, EXAMPLES, spec.needs, spec.updates, 0)[0])
    before = [each.detach().clone() for each in policy.parameters()]
    update(trainer_, batch, value_only=True)
    pairs = zip(policy.named_parameters(), before, strict=True)
    changed = [name for (name, now), then in pairs if not torch.equal(now, then)]
    assert changed == ["value_head.weight", "value_head.bias"]
    trained = [each for group in trainer_.optimizer.param_groups for each in group["params"]]
    assert all(each.grad is None for each in trained)


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


def some_layers(dtype=torch.bfloat16):
    """A policy of which only the second layer's attention output trains, with float32 copies."""
    model = tiny_llama().to(dtype).requires_grad_(False)
    chosen = model.model.layers[1].self_attn.o_proj.weight.requires_grad_()
    return chosen, trainer(SFT, Policy(model, 1.0, False), lr=1e-2, schedule="constant")


def move(trainer_, chosen, seed):
    random = torch.Generator().manual_seed(seed)
    chosen.grad = torch.randn(chosen.shape, generator=random).to(chosen.dtype)
    trainer_.optimizer.step()
    trainer_.policy.zero_grad()


def test_frozen_parameters_cost_the_optimiser_nothing(tmp_path):
    """One master copy and one state, of the one trainable matrix; the others keep their bits; and
    a checkpoint goes on exactly."""
    chosen, one = some_layers()
    before = {name: each.clone() for name, each in one.policy.named_parameters()}
    for seed in range(3):
        move(one, chosen, seed)
    (master,) = (each for group in one.optimizer.param_groups for each in group["params"])
    assert (master.dtype, master.shape) == (torch.float32, chosen.shape)
    numbers = sum(value.numel() for state in one.optimizer.state.values() for value in state.values())
    assert numbers == 2 * chosen.numel() + 1  # two moments and a step
    changed = [name for name, each in one.policy.named_parameters() if not torch.equal(each, before[name])]
    assert changed == ["model.model.layers.1.self_attn.o_proj.weight"]

    save_checkpoint(tmp_path / "checkpoint", one)
    other_chosen, other = some_layers()
    assert load_checkpoint(tmp_path / "checkpoint", other)
    for seed in range(3, 6):
        move(one, chosen, seed)
        move(other, other_chosen, seed)
    assert torch.equal(chosen, other_chosen)


def test_a_policy_of_which_nothing_trains_is_refused():
    policy = Policy(tiny_llama().requires_grad_(False), 1.0, False)
    with pytest.raises(UserError, match="none of its parameters asks for a gradient"):
        trainer(SFT, policy)
