"""The training loop: draws, updates however they are cut, value-only steps, records, and resuming."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import get_scheduler

from grao_bench.core.errors import UserError
from grao_bench.core.records import StepRecord
from grao_bench.core.specs import conf_dir, load
from grao_bench.core.types import Needs
from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.rewards.gold import GoldReward
from grao_bench.training.checkpoint import load_checkpoint, save_checkpoint
from grao_bench.training.collect import collect
from grao_bench.training.loop import draw, fewer_minibatches, minibatches, prepared, train, update
from grao_bench.training.loop import minibatches as cut
from grao_bench.training.optimizer import share_of_rate

from ..small import tiny_llama
from .setting import EXAMPLES, WordJudge, budget, codec, collector, policy, trainer

NAMES = sorted(path.stem for path in (conf_dir() / "objective").glob("*.yaml"))
everywhere = pytest.mark.parametrize("name", NAMES)


def objective(name, **changed):
    spec = load_objective(name)
    return replace(spec, **({"rollouts": 4} if spec.needs.rollouts else {}) | changed)


def started(spec, budget_=None, sampled=False, **optimizer):
    """(trainer, collector) that share one policy."""
    policy_ = policy(spec)
    return trainer(spec, policy_, budget_, **optimizer), collector(spec, policy_, sampled=sampled)


def prepared_batch(spec, trainer_, collector_, examples=EXAMPLES):
    """A batch of these examples, as `train` makes it before its updates."""
    return prepared(spec, collect(collector_, trainer_.policy, examples, spec.needs, spec.updates, 0)[0])


def weights(policy_):
    return {name: value.detach().clone() for name, value in policy_.named_parameters()}


def moved(before, policy_):
    """The names of the parameters that changed."""
    return {name for name, value in policy_.named_parameters() if not torch.equal(value, before[name])}


@everywhere
@pytest.mark.parametrize("bound", [1, 60])
def test_cutting_into_micro_batches_makes_the_same_update(name, bound):
    """A row at a time, a few, or all: the same metrics and the same weights after the step, to float64's precision."""
    spec = objective(name)
    outcomes = []
    for tokens_per_forward in (10_000, bound):
        trainer_, collector_ = started(spec, budget(tokens_per_forward=tokens_per_forward))
        metrics = update(trainer_, prepared_batch(spec, trainer_, collector_), value_only=False)
        outcomes.append((metrics, weights(trainer_.policy)))
    (whole, after_whole), (cut, after_cut) = outcomes
    assert cut == pytest.approx(whole, rel=1e-9, abs=1e-12)
    for key, value in after_whole.items():
        torch.testing.assert_close(after_cut[key], value, atol=1e-7, rtol=0)
    assert moved(weights(policy(spec)), trainer_.policy)


@everywhere
@pytest.mark.parametrize("bound", [1, 15])
def test_groups_cut_in_two_passes_make_the_same_update(name, bound):
    """The policy cuts within a group too, every answer by itself or a few together: the same metrics, and the gradient to the 1e-6 that
    transformers' RMSNorm leaves, which is in float32. Not the weights: Adam's first step divides each gradient by its own size."""
    spec = objective(name)
    outcomes, slices = [], []
    for tokens_per_forward in (10_000, bound):
        trainer_, collector_ = started(spec, budget(tokens_per_forward=tokens_per_forward))
        policy_ = trainer_.policy
        policy_.tokens_per_forward, gradient = tokens_per_forward, []
        trainer_.optimizer.register_step_pre_hook(
            lambda *_, into=gradient, of=policy_: into.extend(parameter.grad.clone() for parameter in of.parameters())
        )
        batch = prepared_batch(spec, trainer_, collector_)
        slices.append(max(len(policy_._slices(batch.select([row]).trimmed())) for row in range(batch.size)))
        metrics = update(trainer_, batch, value_only=False)
        outcomes.append((metrics.pop("grad_norm"), metrics, torch.cat([each.double().flatten() for each in gradient])))
    (norm, whole, gradient), (cut_norm, cut, cut_gradient) = outcomes
    assert slices[0] == 1
    assert slices[1] == len(spec.needs.slots) if bound == 1 else slices[1] >= (2 if spec.needs.rollouts else 1)
    assert cut == pytest.approx(whole, rel=1e-9, abs=1e-12)
    assert cut_norm == pytest.approx(norm, rel=1e-6)
    assert (cut_gradient - gradient).norm() <= 1e-6 * gradient.norm()
    assert gradient.norm() > 1e-3


@everywhere
def test_an_update_follows_the_mean_loss_over_the_batchs_prompts(name):
    """Plain arithmetic beside it: loss and gradient norm from one backward pass of the mean, with the gradient cut to clip_norm."""
    spec = objective(name)
    trainer_, collector_ = started(spec)
    batch = prepared_batch(spec, trainer_, collector_)
    model = policy(spec)
    out = model(batch)
    loss = spec.loss(out, batch if "old_logp" in batch else batch.fill(old_logp=out.logp.detach())).total.mean()
    loss.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]).norm()
    metrics = update(trainer_, batch, value_only=False)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-9, abs=1e-12)
    assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(sum(value for key, value in metrics.items() if key.startswith("loss/")), abs=1e-12)


def test_draw_visits_every_example_once_an_epoch():
    """7 examples, 3 a step: any 7 positions that begin at a multiple of 7 hold each once, across the steps' borders."""
    examples = [replace(EXAMPLES[0], id=str(i)) for i in range(7)]
    ids = [example.id for step in range(1, 8) for example in draw(examples, 3, step, seed=4)]
    epochs = [ids[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == sorted(example.id for example in examples) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_draw_follows_the_seed_and_the_step_alone():
    examples = [replace(EXAMPLES[0], id=str(i)) for i in range(50)]
    assert draw(examples, 8, 5, seed=1) == draw(examples, 8, 5, seed=1)
    assert draw(examples, 8, 5, seed=1) != draw(examples, 8, 5, seed=2)


def test_more_prompts_a_step_than_examples_repeat_them_evenly():
    counts = Counter(example.id for example in draw(EXAMPLES, 12, 1, seed=0))
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]


@pytest.mark.parametrize(("size", "count", "sizes"), [(8, 2, [4, 4]), (7, 3, [3, 2, 2]), (2, 4, [1, 1]), (5, 1, [5])])
def test_minibatches_hold_every_row_once(size, count, sizes):
    chunks = minibatches(size, count, seed=3)
    assert [len(chunk) for chunk in chunks] == sizes
    assert sorted(row for chunk in chunks for row in chunk) == list(range(size))
    assert chunks == minibatches(size, count, seed=3)


def test_minibatches_differ_by_seed_and_one_keeps_the_rows_order():
    assert minibatches(16, 2, seed=0) != minibatches(16, 2, seed=1)
    assert minibatches(4, 1, seed=0) == [[0, 1, 2, 3]]


def test_value_only_steps_move_the_value_head_alone():
    """Two of three steps; weight decay does not touch the model either. The third moves everything."""
    spec = objective("ppo", value_only_steps=2, minibatches=2)
    trainer_, collector_ = started(spec, weight_decay=0.5)
    names = set(weights(trainer_.policy))
    head = {"value_head.weight", "value_head.bias"}
    changes = []
    before = weights(trainer_.policy)
    for _ in train(trainer_, collector_, EXAMPLES, seed=0):
        changes.append(moved(before, trainer_.policy))
        before = weights(trainer_.policy)
    assert changes == [head, head, names]


def test_in_a_value_only_step_the_norm_is_the_heads_own():
    """The model's gradient, which is thrown away, neither counts nor scales the head's."""
    spec = objective("ppo")
    trainer_, collector_ = started(spec)
    batch = prepared_batch(spec, trainer_, collector_)
    model = policy(spec)
    spec.loss(model(batch), batch).total.mean().backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.value_head.parameters()]).norm().item()
    assert update(trainer_, batch, value_only=True)["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_a_value_head_learns_at_its_own_rate_and_does_not_decay():
    """AdamW's first step moves every weight by its rate, the model's after decay: |step| = lr for the head, near lr for the model."""
    spec = objective("ppo")
    trainer_, collector_ = started(spec, lr=0.01, value_lr=0.2, weight_decay=0.0)
    before = weights(trainer_.policy)
    update(trainer_, prepared_batch(spec, trainer_, collector_), value_only=False)
    after = weights(trainer_.policy)
    assert (after["value_head.bias"] - before["value_head.bias"]).abs().item() == pytest.approx(0.2, rel=1e-3)
    largest = max((after[key] - before[key]).abs().max().item() for key in after if not key.startswith("value_head"))
    assert largest == pytest.approx(0.01, rel=1e-3)


@everywhere
def test_a_run_yields_a_record_for_every_step(name):
    """Five prompts of 6, 7, 6, 12 and 6 tokens, computed once each; the counts follow from what the script says."""
    spec = objective(name)
    trainer_, collector_ = started(spec)
    records = list(train(trainer_, collector_, EXAMPLES, seed=0))
    assert [record.step for record in records] == [1, 2, 3]
    assert all(isinstance(record, StepRecord) for record in records)
    assert {(record.prompts, record.answers) for record in records} == {(5, 5 * len(spec.needs.slots))}
    # every epoch of five draws each example once, and the script does not change: the counts of tokens are the same each step
    assert {record.generated_tokens for record in records} == {53 if spec.needs.rollouts else 0}
    reference = 3 + 3 + 3 + 3 + 5
    rejected = 2 + 3 + 4 + 3 + 2
    answers = (53 if spec.needs.rollouts else 0) + reference * spec.needs.chosen + rejected * spec.needs.rejected
    prompts = sum(len(collector_.codec.prompt(example.id, example.prompt).tokens) for example in EXAMPLES)
    expected = spec.updates.epochs * (prompts + answers)
    assert {record.forward_tokens for record in records} == {expected}
    for record in records:
        assert {"loss", "grad_norm", "lr"} <= set(record.metrics)
        assert ("reward/mean" in record.metrics) == spec.needs.rewards
        assert ("length" in record.metrics) == (spec.needs.rollouts > 0)
        assert all(isinstance(value, float) for value in record.metrics.values())


def test_the_schedule_counts_optimiser_updates():
    """PPO with 2 epochs of 3 minibatches makes 6 updates a step, and a linear schedule reaches 0 at the last."""
    spec = objective("ppo", epochs=2, minibatches=3)
    trainer_, collector_ = started(spec, schedule="linear", lr=0.01)
    list(train(trainer_, collector_, EXAMPLES, seed=0))
    assert trainer_.schedule.last_epoch == 3 * 6
    assert [group["lr"] for group in trainer_.optimizer.param_groups] == [0.0, 0.0]


def test_the_schedule_counts_the_updates_that_are_made():
    """Eight steps of one prompt, two minibatches asked for: eight updates, from lr to lr / 8."""
    spec = objective("dapo")
    settings = budget(steps=8, prompts_per_step=1)
    trainer_, collector_ = started(spec, settings, schedule="linear", lr=0.0005)
    rates = [record.metrics["lr"] for record in train(trainer_, collector_, EXAMPLES, seed=0)]
    assert rates == pytest.approx([0.0005 * left / 8 for left in range(8, 0, -1)])
    assert rates[-1] == pytest.approx(6.25e-5)
    assert trainer_.schedule.last_epoch == 8


def test_a_warm_up_begins_with_an_update_that_moves_something():
    """Of four updates the first has a quarter of the rate and the fourth all of it."""
    trainer_, collector_ = started(objective("sft"), budget(steps=6), warmup_steps=4, lr=0.01)
    before, rates = weights(trainer_.policy), []
    for record in train(trainer_, collector_, EXAMPLES, seed=0):
        rates.append(record.metrics["lr"])
        if record.step == 1:
            after = weights(trainer_.policy)
            moves = [(value - before[key]).abs().max().item() for key, value in after.items()]
            assert max(moves) == pytest.approx(0.0025, rel=0.05)  # Adam's first step is its rate
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_after_its_warm_up_a_schedule_is_transformers(schedule, warmup):
    """To the last bit; within it, one update ahead."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = get_scheduler(
        {"constant": "constant_with_warmup"}.get(schedule, schedule),
        torch.optim.SGD([parameter], lr=0.3),
        num_warmup_steps=warmup,
        num_training_steps=11,
    ).lr_lambdas[0]
    for done in range(13):
        expected = theirs(done + 1) if done < warmup else theirs(done)
        assert share_of_rate(schedule, warmup, 11, done) == expected


@pytest.mark.parametrize(
    ("prompts", "epochs", "minibatches", "told"),
    [
        (2, 1, 2, ""),
        (1, 1, 1, ""),
        (1, 1, 2, "=2: a step has 1 prompt, so 1 can be made; with a batch's only update"),
        (1, 2, 2, "=2: a step has 1 prompt, so 1 can be made; give more prompts a step"),
        (3, 1, 4, "=4: a step has 3 prompts, so 3 can be made; give more prompts a step"),
    ],
)
def test_minibatches_that_can_not_be_made_are_told(prompts, epochs, minibatches, told):
    spec = objective("ppo", epochs=epochs, minibatches=minibatches)
    found = fewer_minibatches(spec, budget(prompts_per_step=prompts))
    assert found.startswith(f"objective.minibatches{told}" if told else "")
    assert bool(found) == bool(told)
    made = [len(cut(prompts, minibatches, seed=0)) for _ in range(epochs)]
    assert spec.updates.made(prompts) == sum(made)


def test_training_lowers_the_loss_it_is_given():
    """SFT on five examples again and again: the references become likely."""
    trainer_, collector_ = started(objective("sft"), budget(steps=25), lr=0.02)
    losses = [record.metrics["loss"] for record in train(trainer_, collector_, EXAMPLES, seed=0)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", ["ppo", "grpo", "grao"])
def test_training_raises_the_reward_it_is_given(name):
    """0.25 for each "good", -0.25 for each "bad", five words: a nearly uniform policy has 0, the best 1.25, and 25 steps reach over 1.1."""
    spec = objective(name, rollouts=8)
    policy_ = policy(spec, initializer_range=0.05)
    trainer_ = trainer(spec, policy_, budget(steps=25), lr=0.01, value_lr=0.05)
    reward = GoldReward(mode="score", tie_band=0.05).source(WordJudge())
    records = train(trainer_, collector(spec, policy_, reward=reward, sampled=True), EXAMPLES, seed=0)
    rewards = [record.metrics["reward/mean"] for record in records]
    assert abs(sum(rewards[:3]) / 3) < 0.2
    assert sum(rewards[-3:]) / 3 > 0.9


@everywhere
def test_a_resumed_run_ends_bit_identical(name, tmp_path):
    """Three steps in one go, against one step, a checkpoint, another process's trainer, and the other two."""
    spec = objective(name)
    trainer_, collector_ = started(spec, sampled=True)
    whole = list(train(trainer_, collector_, EXAMPLES, seed=3))
    expected = weights(trainer_.policy)

    trainer_, collector_ = started(spec, sampled=True)
    first = [next(train(trainer_, collector_, EXAMPLES, seed=3))]
    save_checkpoint(tmp_path / "checkpoint", trainer_)
    trainer_, collector_ = started(spec, sampled=True)
    assert load_checkpoint(tmp_path / "checkpoint", trainer_)
    rest = list(train(trainer_, collector_, EXAMPLES, seed=3))
    assert first + rest == whole
    assert all(torch.equal(value, expected[key]) for key, value in weights(trainer_.policy).items())


@pytest.mark.parametrize("name", [name for name in NAMES if load_objective(name).needs.rollouts])
def test_sampler_and_trainer_give_the_same_tokens_the_same_log_probabilities(name):
    """In float32, by the shared-prefix engine, at each step, where the loss is at the temperature
    that was drawn at: their mean difference is a metric, and at most 1e-5."""
    spec = objective(name)
    policy_ = Policy(tiny_llama(), 0.7, spec.needs.values)
    engine = load("rollout/shared_prefix").build(codec())
    engine.sync(policy_, 0)
    collector_ = replace(collector(spec, policy_), engine=engine)
    for record in train(trainer(spec, policy_), collector_, EXAMPLES, seed=0):
        assert 0 < record.metrics["sampler_mismatch"] <= 1e-5


@pytest.mark.parametrize("truncated", [{}, {"top_k": 4}])
def test_a_loss_that_is_not_of_what_was_drawn_from_shows(truncated):
    """The loss at temperature 1, rollouts at 0.7: the mean |log p_1 - log p_0.7| of their tokens, as
    the policy itself says them; and what is cut off of the distribution makes it larger."""
    spec = objective("grpo")
    policy_ = Policy(tiny_llama().double(), 1.0, value_head=False)
    engine = load("rollout/shared_prefix").build(codec())
    engine.sync(policy_, 0)
    collector_ = replace(collector(spec, policy_), engine=engine)
    collector_ = replace(collector_, sampling=replace(collector_.sampling, **truncated))
    batch, _ = collect(collector_, policy_, EXAMPLES, spec.needs, spec.updates, 0)
    with torch.no_grad():
        apart = (policy_(batch, temperature=0.7).logp - policy_(batch).logp)[batch.mask]
    expected = apart.abs().mean().item()
    assert expected > 0.05
    found = update(trainer(spec, policy_), prepared(spec, batch), value_only=False)
    if truncated:
        assert found["sampler_mismatch"] > 1.1 * expected
    else:
        assert found["sampler_mismatch"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bound", [1, 60, 10_000])
def test_the_samplers_mismatch_is_the_mean_over_rollout_tokens(bound):
    """The first answer of each group a quarter of a nat off, however the batch is cut; what the reference is off counts nothing."""
    spec = objective("grao")
    trainer_, collector_ = started(spec, budget(tokens_per_forward=bound))
    batch = prepared_batch(spec, trainer_, collector_)
    rollouts, chosen = batch.columns("rollout"), batch.column("chosen")
    off = torch.zeros(batch.mask.shape, dtype=torch.float64)
    off[:, rollouts[0]], off[:, chosen] = 0.25, 9.0
    sampler = torch.where(batch.mask, trainer_.policy(batch).logp.detach() + off, 0.0)
    share = batch.mask[:, rollouts[0]].sum().item() / batch.mask[:, rollouts].sum().item()
    metrics = update(trainer_, batch.fill(sampler_logp=sampler), value_only=False)
    assert metrics["sampler_mismatch"] == pytest.approx(0.25 * share, rel=1e-9)


def test_there_may_be_no_checkpoint_and_one_of_another_run_is_refused(tmp_path):
    trainer_, _ = started(objective("sft"))
    assert not load_checkpoint(tmp_path / "checkpoint", trainer_)
    save_checkpoint(tmp_path / "checkpoint", trainer(objective("ppo")))
    with pytest.raises(UserError, match=r"state.pt: does not fit this run"):
        load_checkpoint(tmp_path / "checkpoint", trainer_)


@pytest.mark.parametrize("kept", [0, 100, -50])
def test_a_torn_checkpoint_is_named(tmp_path, kept):
    trainer_, _ = started(objective("sft"))
    save_checkpoint(tmp_path, trainer_)
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[:kept])
    with pytest.raises(UserError, match=r"state.pt: can't be read .*; remove its folder"):
        load_checkpoint(tmp_path, trainer_)
    torch.save([1], tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state.pt: does not fit this run .*; remove its folder"):
        load_checkpoint(tmp_path, trainer_)


def test_a_checkpoint_replaces_the_one_before(tmp_path):
    trainer_, collector_ = started(objective("sft"))
    for _ in train(trainer_, collector_, EXAMPLES, seed=0):
        save_checkpoint(tmp_path / "checkpoint", trainer_)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    fresh, _ = started(objective("sft"))
    load_checkpoint(tmp_path / "checkpoint", fresh)
    assert fresh.step == 3


@everywhere
def test_a_loss_that_is_no_number_updates_nothing(name):
    spec = objective(name)
    trainer_, collector_ = started(spec)
    batch = prepared_batch(spec, trainer_, collector_)
    with torch.no_grad():
        trainer_.policy.model.model.norm.weight[0] = torch.nan
    before = weights(trainer_.policy)
    with pytest.raises(UserError, match=r"step 1: the loss of example (e\d|same) is nan"):
        update(trainer_, batch, value_only=False)
    after = weights(trainer_.policy)
    assert all(torch.equal(value.nan_to_num(), before[key].nan_to_num()) for key, value in after.items())


@pytest.mark.parametrize("bound", [1, 10_000])
def test_a_loss_that_is_no_number_names_its_example(bound):
    trainer_, collector_ = started(objective("sft"), budget(tokens_per_forward=bound))
    batch = prepared_batch(objective("sft"), trainer_, collector_)
    batch.token_weights[2] = torch.nan
    with pytest.raises(UserError, match="step 1: the loss of example same is nan; nothing was updated"):
        update(trainer_, batch, value_only=False)


def test_a_gradient_that_is_no_number_updates_nothing():
    """The loss is finite, and one layer's gradient is not."""
    spec = objective("grpo")
    trainer_, collector_ = started(spec)
    batch = prepared_batch(spec, trainer_, collector_)
    trainer_.policy.model.model.norm.weight.register_hook(lambda gradient: gradient * torch.nan)
    before = weights(trainer_.policy)
    with pytest.raises(UserError, match="step 1: the gradient's norm is nan"):
        update(trainer_, batch, value_only=False)
    assert not moved(before, trainer_.policy)


@pytest.mark.parametrize("name", [name for name in NAMES if objective(name).needs.old_logp != "no"])
@pytest.mark.parametrize("apart", [-800.0, -150.0, 150.0, 800.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_ratio_that_overflows_updates_by_what_is_finite(name, apart, sign):
    """In float32, where e^89 is infinite: both ways, for good answers and bad ones, the reference
    as far away. Loss, metrics and gradient are numbers, and weights move to numbers."""
    spec = objective(name, **({"epochs": 2} if hasattr(objective(name), "epochs") else {}))
    policy_ = policy(spec).float()
    trainer_, collector_ = trainer(spec, policy_), collector(spec, policy_)
    batch = prepared_batch(spec, trainer_, collector_)
    far = torch.where(batch.mask, batch.old_logp + apart, 0.0)
    if spec.needs.reference_logp:
        batch = batch.fill(reference_logp=far)
    batch = batch.fill(old_logp=far, advantages=torch.full_like(batch.advantages, sign))
    metrics = update(trainer_, batch, value_only=False)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(value.isfinite().all() for value in weights(policy_).values())
    assert metrics["clipped"] > 0.99


def test_a_step_has_as_many_answers_for_every_objective():
    """64 answers: 64 of SFT's references, 32 of DPO's pairs, 8 groups of 8 rollouts; GRAO's reference beside them counts as none."""
    asked = budget(prompts_per_step=None, answers_per_step=64)
    expected = {"sft": 64, "sft_token": 64, "dpo": 32, "ppo": 8, "grpo": 8, "grao": 8, "grao_clip0": 8}
    assert {name: asked.prompts(load_objective(name).needs) for name in expected} == expected
    assert budget(prompts_per_step=5, answers_per_step=64).prompts(Needs(rollouts=8)) == 5
    assert budget(prompts_per_step=None, answers_per_step=4).prompts(Needs(rollouts=8)) == 1


@pytest.mark.parametrize(
    ("field", "wrong", "least"),
    [
        ("steps", -1, "0"),
        ("answers_per_step", 0, "1"),
        ("max_prompt_tokens", 1, "2"),
        ("max_answer_tokens", 0, "1"),
        ("probe_prompts", 1, "2"),
        ("probe_every", -1, "0"),
        ("checkpoint_every", -1, "0"),
        ("prompts_per_step", 0, "1"),
    ],
)
def test_an_impossible_budget_is_named(field, wrong, least):
    with pytest.raises(UserError, match=rf"^budget\.{field}={wrong}: must be at least {least}"):
        budget(**{field: wrong}).check()
    budget().check()


def test_answers_of_an_earlier_policy_are_refused():
    """An engine that was told of the policy two steps ago; one that says nothing is believed."""
    spec = load_objective("grpo", rollouts=2)
    trainer_ = trainer(spec)
    collector_ = collector(spec, trainer_.policy)
    asked = trainer_.policy, EXAMPLES, spec.needs, spec.updates, 0
    collector_.engine.sync(trainer_.policy, 3)
    assert collect(collector_, *asked, step=3)
    with pytest.raises(UserError, match="of the policy of step 3, and it is at step 5"):
        collect(collector_, *asked, step=5)


def test_the_engine_is_told_of_every_step():
    """The loop itself keeps the engine's answers those of its policy."""
    spec = load_objective("grpo", rollouts=2)
    trainer_ = trainer(spec)
    collector_ = collector(spec, trainer_.policy)
    steps = [collector_.engine.step for _ in train(trainer_, collector_, EXAMPLES, 0)]
    assert steps == [0, 1, 2]
