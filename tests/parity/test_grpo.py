"""The GRPO family against TRL's `GRPOTrainer`: its loss types, ratios, KL and advantages."""

from __future__ import annotations

import inspect
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from grao_bench.objectives import load_objective
from grao_bench.objectives.grpo import group_advantages
from tests.parity.agreement import FLOAT32_FACTOR, LOSS, assert_same_loss, default_dtype, one_process
from tests.parity.excerpt import excerpt, run
from tests.small import moved, rectangle

pytestmark = pytest.mark.slow
LENGTHS = [[5, 2, 3], [1, 6, 8], [4, 4, 7], [2, 8, 1]]
SCALING = {"sample": "group", "batch": "batch", "none": "none"}


def advantages(trl, rewards, scale):
    """TRL's own advantages of rewards [P G], by the lines of its `_generate_and_score_completions`."""
    from trl.trainer import grpo_trainer

    source = inspect.getsource(trl.GRPOTrainer._generate_and_score_completions)
    code = excerpt(source, "unscorable_mask = torch.isnan", "advantages = torch.nan_to_num(advantages, nan=0.0)")
    trainer = SimpleNamespace(
        multi_objective_aggregation="sum_then_normalize", scale_rewards=scale, reward_weights=torch.ones(1), reward_funcs=[None]
    )
    names = {"self": trainer, "rewards_per_func": rewards.reshape(-1, 1), "num_generations": rewards.shape[1], "device": "cpu"}
    return run(code, grpo_trainer, **names)["advantages"].reshape(rewards.shape)


def policy_loss(trl, objective, batch, loss_type, *, level="token", corrected=False, A=None, num_items=None, steps_per_generation=1):
    """TRL's own loss of log-probs [P G T], with these advantages [P G] (ours where none are given)."""
    A = objective.prepare(batch).advantages[..., 0] if A is None else A
    mask = batch.mask.flatten(0, 1)

    def loss(logp):
        rows = logp.flatten(0, 1)
        trainer = SimpleNamespace(
            _get_per_token_logps_and_entropies=lambda *_, **__: (rows, torch.zeros_like(rows), None),
            model=SimpleNamespace(training=True),
            accelerator=one_process(sync_gradients=True),
            args=SimpleNamespace(use_bias_correction_kl=corrected, delta=None, steps_per_generation=steps_per_generation),
            beta=objective.kl,
            epsilon_low=objective.clip_low,
            epsilon_high=objective.clip_high,
            loss_type=loss_type,
            importance_sampling_level=level,
            max_completion_length=objective.max_tokens,
            current_gradient_accumulation_steps=1,
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            use_vllm=False,
            aux_loss_enabled=False,
            _entropy_bonus_enabled=False,
            _metrics={"train": defaultdict(list)},
        )
        inputs = {
            "prompt_ids": batch.prompts.repeat_interleave(batch.mask.shape[1], 0),
            "prompt_mask": batch.prompt_mask.repeat_interleave(batch.mask.shape[1], 0).long(),
            "completion_ids": batch.tokens.flatten(0, 1),
            "completion_mask": mask.long(),
            "advantages": A.flatten(),
            "old_per_token_logps": batch.old_logp.flatten(0, 1),
            "num_items_in_batch": mask.sum() if num_items is None else num_items,
        }
        if "reference_logp" in batch:
            inputs["ref_per_token_logps"] = batch.reference_logp.flatten(0, 1)
        return trl.GRPOTrainer._compute_loss(trainer, None, inputs)

    return loss


def batch_of(name, **changed):
    if name == "dr_grpo":
        changed["max_tokens"] = 10  # longer than the longest answer
    objective = load_objective(name, rollouts=3, epochs=2, **changed)
    batch, policy = moved(objective.needs, rectangle(objective.needs, LENGTHS, seed=1), seed=2)
    return objective, batch, policy


LOSS_TYPES = {  # ours, TRL's loss_type, and what else TRL must be told
    "grpo": ("grpo", {}),
    "bnpo": ("bnpo", {}),
    "dr_grpo": ("dr_grpo", {}),
    "dapo": ("dapo", {}),
    "gspo": ("grpo", {"level": "sequence"}),
    "grpo_trl": ("dapo", {"corrected": True}),
    "grpo_k3_corrected": ("grpo", {"corrected": True}),
}


@pytest.mark.parametrize("kl", [0.0, 0.3])
@pytest.mark.parametrize("name", LOSS_TYPES)
def test_loss_and_gradient(trl, name, kl):
    """Every variant that TRL has, without a KL and with one; TRL's clip range is ours."""
    objective, batch, policy = batch_of(name, kl=kl)
    loss_type, told = LOSS_TYPES[name]
    assert_same_loss(objective, batch, policy, policy_loss(trl, objective, batch, loss_type, **told))


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_kl_with_and_without_bias_correction(trl, level, corrected):
    """The correction multiplies k3 by the ratio, the answer's where the ratio is; value and gradient of the KL alone."""
    objective, batch, policy = batch_of("grpo", kl=0.7, ratio=level, kl_gradient="corrected" if corrected else "as_loss")
    silent = batch.fill(rewards=torch.zeros_like(batch.rewards))
    assert_same_loss(objective, silent, policy, policy_loss(trl, objective, silent, "grpo", level=level, corrected=corrected))


@pytest.mark.parametrize("corrected", [False, True])
def test_on_policy_gradient_of_the_kl(trl, corrected):
    """With ratio 1 the correction changes no value, but the gradient: from 1 - e^-d to d, d = log pi - log pi_ref."""
    objective, batch, policy = batch_of("grpo", kl=0.7, kl_gradient="corrected" if corrected else "as_loss")
    on_policy = batch.fill(rewards=torch.zeros_like(batch.rewards), old_logp=policy.logp.detach())
    assert_same_loss(objective, on_policy, policy, policy_loss(trl, objective, on_policy, "grpo", corrected=corrected))
    logp = policy.logp.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(policy_loss(trl, objective, on_policy, "grpo", corrected=corrected)(logp), logp)
    d = policy.logp.detach() - batch.reference_logp
    weights = objective.prepare(batch).token_weights / batch.size
    torch.testing.assert_close(gradient, 0.7 * weights * (d if corrected else 1 - torch.exp(-d)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.28), (0.1, 0.3)])
def test_both_sides_of_an_asymmetric_clip(trl, low, high):
    objective, batch, policy = batch_of("dapo", clip_low=low, clip_high=high)
    ratio, A = torch.exp(policy.logp - batch.old_logp), objective.prepare(batch).advantages
    assert (batch.mask & (ratio > 1 + high) & (A > 0)).any()
    assert (batch.mask & (ratio < 1 - low) & (A < 0)).any()
    assert_same_loss(objective, batch, policy, policy_loss(trl, objective, batch, "dapo"))


def test_token_mean_of_a_cut_batch_is_dapos(trl):
    """Two optimiser steps on one generation batch: each divides by the whole batch's tokens, times the share of the batch it sees."""
    objective, batch, policy = batch_of("dapo")
    prepared = objective.prepare(batch)
    tokens = batch.mask.sum()
    for rows in ([0, 1], [2, 3]):
        part = prepared.select(rows)
        loss = objective.loss(replace(policy, logp=policy.logp[rows]), part).total.mean()
        peer = policy_loss(trl, objective, part, "dapo", A=part.advantages[..., 0], num_items=tokens, steps_per_generation=2)
        torch.testing.assert_close(loss, peer(policy.logp[rows]), rtol=0, atol=LOSS)


@pytest.mark.parametrize("std", SCALING)
def test_advantages(trl, std):
    """TRL's Bessel factor is float32 unless torch's default dtype is float64: exact in the one, to 3e-8 in the other."""
    rewards = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = group_advantages(rewards, std)
    with default_dtype(torch.float64):
        torch.testing.assert_close(own, advantages(trl, rewards, SCALING[std]), rtol=0, atol=1e-12)
    torch.testing.assert_close(own, advantages(trl, rewards, SCALING[std]), rtol=FLOAT32_FACTOR, atol=FLOAT32_FACTOR)


def test_the_papers_std_is_none_of_trls(trl):
    """Population std, no epsilon: larger than TRL's by sqrt(G / (G - 1)), here sqrt(4/3), but for the epsilon."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, -1.0]], dtype=torch.float64)
    own = group_advantages(rewards, "population")
    torch.testing.assert_close(own, (4 / 3) ** 0.5 * advantages(trl, rewards, "group"), rtol=2e-4, atol=0)
    assert (own - advantages(trl, rewards, "group")).abs().max() > 0.1


def test_equal_rewards_are_no_signal_here_and_rounding_in_trl(trl):
    """Eight float32 rewards of 0.1: their mean is not 0.1, and TRL divides what is left, 7e-9, by 1e-4; here they are exactly 0."""
    rewards = torch.full((1, 8), 0.1)
    assert (group_advantages(rewards, "sample") == 0).all()
    left = advantages(trl, rewards, "group")
    assert (left < -7e-5).all()
    assert (left > -1e-4).all()


@pytest.mark.parametrize("std", SCALING)
def test_from_rewards_to_loss(trl, std):
    """TRL's advantages in TRL's loss against our objective from the rewards on."""
    objective, batch, policy = batch_of("grpo", std=std, kl=0.3)
    with default_dtype(torch.float64):
        A = advantages(trl, batch.rewards, SCALING[std])
        assert_same_loss(objective, batch, policy, policy_loss(trl, objective, batch, "grpo", A=A))
