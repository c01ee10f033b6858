"""What an objective asks for is there when it reads it: old log-probabilities, entropy, time, and the
model's own losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.objectives import load_objective
from grao_bench.training.collect import collect
from grao_bench.training.loop import prepared, train, update

from .setting import EXAMPLES, budget, collector, policy, trainer


def started(spec, budget_=None):
    """(trainer, collector) that share one policy."""
    policy_ = policy(spec)
    return trainer(spec, policy_, budget_), collector(spec, policy_)


@dataclass(frozen=True)
class Minimal:
    """An objective of a test: gains per token, its needs, and the pure functions it is made of."""

    needs: Needs
    gain: Callable[[PolicyOutput, Batch], torch.Tensor]
    at_prepare: Callable[[Batch], Batch] = lambda batch: batch
    updates: Updates = field(default_factory=Updates)
    name: str = "minimal"
    part: str = "gain"

    def prepare(self, batch):
        return self.at_prepare(batch)

    def loss(self, policy_, batch):
        return Loss({self.part: -torch.where(batch.mask, self.gain(policy_, batch), 0.0).sum((1, 2))})


@pytest.mark.parametrize("updates", [Updates(), Updates(epochs=2)], ids=["one", "two"])
def test_old_log_probabilities_asked_for_the_loss_are_not_there_in_prepare(updates):
    """However many updates a batch gets: what fails with one fails with two, and says why."""
    needs = Needs(rollouts=4, old_logp="loss")

    def reads(batch):
        return batch.fill(seen=batch.old_logp)

    def ratio(policy_, batch):
        return torch.exp(policy_.logp - batch.old_logp)

    spec = Minimal(needs, ratio, reads, updates)
    trainer_, collector_ = started(spec)
    with pytest.raises(UserError, match=r"^batch\.old_logp: .* needs Needs\(old_logp='prepare'\)"):
        next(train(trainer_, collector_, EXAMPLES, seed=0))
    in_the_loss_alone = replace(spec, at_prepare=lambda batch: batch)
    assert len(list(train(*started(in_the_loss_alone), EXAMPLES, seed=0))) == 3


def test_a_schedule_reads_the_step_in_prepare_and_in_the_loss():
    """A weight that falls from 1 to 1/4 in four steps, on both sides: the loss is its square."""

    def weight(batch):
        return 1 - (batch.step - 1) / batch.steps

    def at_prepare(batch):
        return batch.fill(weight=torch.full((batch.size, 1, 1), weight(batch)))

    def gain(policy_, batch):
        return -batch["weight"] * weight(batch) / batch.mask.sum((1, 2), keepdim=True) + 0 * policy_.logp

    spec = Minimal(Needs(chosen=True), gain, at_prepare)
    losses = [record.metrics["loss"] for record in train(*started(spec, budget(steps=4, tokens_per_forward=60)), EXAMPLES, seed=0)]
    assert losses == pytest.approx([1, 9 / 16, 4 / 16, 1 / 16])


def test_an_objective_may_train_on_the_entropy_it_asks_for():
    """Alone in the loss it rises at every step; not asked for, it says how to ask."""

    def entropy(policy_, batch):
        return policy_.entropy / batch.mask.sum()

    spec = Minimal(Needs(chosen=True, entropy=True), entropy)
    losses = [record.metrics["loss"] for record in train(*started(spec), EXAMPLES, seed=0)]
    assert losses[2] < losses[1] < losses[0] < 0
    unasked = replace(spec, needs=Needs(chosen=True))
    with pytest.raises(UserError, match=r"^policy\.entropy: .* needs Needs\(entropy=True\)"):
        next(train(*started(unasked), EXAMPLES, seed=0))


@pytest.mark.parametrize("asked", ["entropy", "values"])
def test_a_claim_to_be_linear_changes_nothing_of_a_loss_that_reads_no_log_probability(asked):
    def gain(policy_, batch):
        return -((getattr(policy_, asked) - 1) ** 2) * batch.mask / batch.mask.sum()

    needs = Needs(chosen=True, **{asked: True})
    runs = []
    for claim in (False, True):
        started_ = started(Minimal(replace(needs, linear_in_logp=claim), gain))
        runs.append(list(train(*started_, EXAMPLES, seed=0)))
    assert runs[0] == runs[1]
    assert runs[0][0].metrics["grad_norm"] > 0


def with_own_loss(policy_):
    """The policy, made to say a loss of its own: 3 w^2 per prompt, w a weight of its last norm."""

    def add(module, args, out):
        w = module.model.model.norm.weight[0]
        return replace(out, model_losses={"router": 3 * w.square().expand(args[0].size)})

    policy_.register_forward_hook(add)
    return policy_


@pytest.mark.parametrize("bound", [1, 10_000])
def test_a_models_own_loss_is_a_named_part_of_the_loss_with_its_gradient(bound):
    """3 w^2 at w = 1 adds 3 to the loss and 6 to the gradient of w, however the batch is cut."""
    spec, outcomes = load_objective("sft"), []
    for policy_ in (policy(spec), with_own_loss(policy(spec))):
        trainer_ = trainer(spec, policy_, budget(tokens_per_forward=bound), clip_norm=1e9)
        collector_ = collector(spec, policy_)
        batch, _ = collect(collector_, policy_, EXAMPLES, spec.needs, spec.updates, 0)
        batch, gradients = prepared(spec, batch), []
        trainer_.optimizer.register_step_pre_hook(lambda *_, of=policy_, into=gradients: into.append(of.model.model.norm.weight.grad[0]))
        outcomes.append((update(trainer_, batch, value_only=False), gradients[0].item()))
    (plain, before), (routed, after) = outcomes
    assert routed["loss/router"] == pytest.approx(3.0)
    assert routed["loss"] == pytest.approx(plain["loss"] + 3.0)
    assert routed["loss/imitation"] == pytest.approx(plain["loss/imitation"])
    assert after == pytest.approx(before + 6.0)


def test_a_models_loss_and_an_objectives_of_one_name_are_refused():
    spec = Minimal(Needs(chosen=True), lambda policy_, batch: policy_.logp, part="router")
    policy_ = with_own_loss(policy(spec))
    with pytest.raises(UserError, match=r"^loss part router: the model has a loss of this name"):
        next(train(trainer(spec, policy_), collector(spec, policy_), EXAMPLES, seed=0))
