"""An objective that nobody foresaw is one class: RLOO with its KL in the reward, read in `prepare`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from grao_bench.core.ops import masked_sum
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.rewards.gold import GoldReward
from grao_bench.training.collect import collect
from grao_bench.training.loop import prepared, train, update

from .setting import EXAMPLES, WordJudge, budget, collector, policy, trainer


@dataclass(frozen=True)
class RLOO:
    """REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740) on r - beta KL."""

    rollouts: int = 4
    beta: float = 0.3
    name: str = "rloo"

    @property
    def needs(self) -> Needs:
        return Needs(
            rollouts=self.rollouts,
            rewards=True,
            old_logp="prepare",
            reference_logp=True,
            linear_in_logp=True,
        )

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        kl = masked_sum(batch.old_logp - batch.reference_logp, batch.mask)
        R = batch.rewards - self.beta * kl
        others = (R.sum(-1, keepdim=True) - R) / (self.rollouts - 1)
        return batch.fill(advantages=(R - others)[..., None])

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        S = masked_sum(policy.logp, batch.mask)
        return Loss({"policy": -(batch.advantages[..., 0] * S).sum(-1)})


def in_float64(policy_):
    """The policy with its norms in float64 throughout; transformers' round to float32 inside."""
    model = policy_.model
    for name, norm in [*model.named_modules()]:
        if type(norm).__name__.endswith("RMSNorm"):
            wide = torch.nn.RMSNorm(len(norm.weight), norm.variance_epsilon, dtype=torch.float64)
            wide.weight = norm.weight
            model.set_submodule(name, wide)
    return policy_


def summed_logprobs(model, batch):
    """S [P][K]: each answer by itself after its prompt, unpadded, through the plain model."""
    return [
        [_summed(model, batch.prompts[p][batch.prompt_mask[p]], tokens[mask]) for tokens, mask in rows]
        for p, rows in enumerate(map(zip, batch.tokens, batch.mask))
    ]


def _summed(model, prompt, answer):
    logits = model(input_ids=torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, answer[:, None]).sum()


@pytest.mark.parametrize("bound", [1, 60, 10_000])
def test_its_gradient_is_the_one_made_by_hand(bound):
    """sum_i (r_i - beta KL_i - the mean of the others') grad S_i, averaged over prompts, from one
    forward pass per answer."""
    spec = RLOO()
    policy_ = in_float64(policy(spec))
    collector_ = collector(spec, policy_)
    in_float64(collector_.reference)
    batch, _ = collect(collector_, policy_, EXAMPLES, spec.needs, spec.updates, 0)
    by_hand = torch.zeros((), dtype=torch.float64)
    ours, theirs = (summed_logprobs(one.model, batch) for one in (policy_, collector_.reference))
    for r, S, S_ref in zip(batch.rewards.tolist(), ours, theirs, strict=True):
        R = [r[i] - 0.3 * (S[i] - S_ref[i]).item() for i in range(4)]
        for i in range(4):
            others = [R[j] for j in range(4) if j != i]
            by_hand = by_hand - (R[i] - sum(others) / 3) * S[i] / len(EXAMPLES)
    expected = torch.autograd.grad(by_hand, [*policy_.parameters()])

    trainer_ = trainer(spec, policy_, budget(tokens_per_forward=bound), clip_norm=1e9)
    seen: list[torch.Tensor] = []
    trainer_.optimizer.register_step_pre_hook(lambda *_: seen.extend(each.grad.clone() for each in policy_.parameters()))
    metrics = update(trainer_, prepared(spec, batch), value_only=False)
    whole, hand = (torch.cat([each.flatten() for each in one]) for one in (seen, expected))
    assert (whole - hand).norm() <= 1e-12 * hand.norm()
    assert metrics["loss"] == pytest.approx(by_hand.item(), rel=1e-12)
    assert hand.norm() > 0.1


def test_it_trains():
    """Through the loop: 0.25 for each "good" of at most five; a nearly uniform policy has 0."""
    spec = RLOO(rollouts=8, beta=0.01)
    policy_ = policy(spec, initializer_range=0.05)
    reward = GoldReward(mode="score", tie_band=0.05).source(WordJudge())
    collector_ = collector(spec, policy_, reward=reward, sampled=True)
    records = train(trainer(spec, policy_, budget(steps=15)), collector_, EXAMPLES, seed=0)
    rewards = [record.metrics["reward/mean"] for record in records]
    assert abs(sum(rewards[:3]) / 3) < 0.2
    assert sum(rewards[-3:]) / 3 > 0.6
