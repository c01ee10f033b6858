"""Properties of every objective in conf/objective/: a new YAML is tested by being there."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest
import torch
import yaml
from torch import Tensor

from grao_bench.core.interfaces import Objective
from grao_bench.core.ops import stream_seed
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.models.policy import Policy
from grao_bench.objectives import conf_dir, load_objective
from grao_bench.training.collect import Collector, collect
from grao_bench.training.loop import Trainer, draw, minibatches, prepared, train

from .small import WORDS, moved, rectangle, tiny_qwen2
from .training import setting
from .training.setting import EXAMPLES

FILES = {path.stem: path for path in sorted((conf_dir() / "objective").glob("*.yaml"))}
SAMPLING = [name for name in FILES if load_objective(name).needs.rollouts > 1]
COLUMNS = ("rewards", "old_logp", "reference_logp", "old_values", "returns", "advantages", "token_weights")
P, T = 5, 6
SEED = 3

everywhere = pytest.mark.parametrize("name", FILES)


@dataclass
class Case:
    """A ragged batch with exactly the columns that the objective asks for, and a policy that has moved since they were taken."""

    objective: Objective
    batch: Batch
    policy: PolicyOutput

    @property
    def loss(self) -> Loss:
        return self.objective.loss(self.policy, self.objective.prepare(self.batch))


def case(name: str, seed: int = 0) -> Case:
    objective = load_objective(name)
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (P, len(objective.needs.slots)), generator=random)
    lengths[0, 0], lengths[1] = T, lengths[1].clamp(max=2)  # one full row, one that can be trimmed
    batch, policy = moved(objective.needs, rectangle(objective.needs, lengths.tolist(), seed), seed)
    return Case(objective, batch, policy)


def outputs(policy: PolicyOutput) -> list[Tensor]:
    """What the loss may be differentiated by."""
    return [policy.logp, *policy.filled.values()]


def gradients(total: Tensor, policy: PolicyOutput) -> list[Tensor]:
    return list(torch.autograd.grad(total, outputs(policy), retain_graph=True))


def picked(policy: PolicyOutput, index: object) -> PolicyOutput:
    """The policy's outputs at an index."""
    return PolicyOutput(policy.logp[index], {name: x[index] for name, x in policy.filled.items()})


def assert_same(ours: object, theirs: object) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-13)


def said(objective: Objective, logp: Tensor, *others: Tensor) -> PolicyOutput:
    """What a policy says that has a value head where one is needed."""
    return PolicyOutput(logp, dict(zip(["values"] if objective.needs.values else [], others, strict=True)))


def with_junk(x: Tensor, mask: Tensor, extra: int, random: torch.Generator) -> Tensor:
    """`x` [P K T] with `extra` more positions and random numbers wherever the mask is False."""
    wide = torch.nn.functional.pad(x.detach(), (0, extra))
    junk = torch.randn(wide.shape, generator=random, dtype=torch.float64) * 4
    return torch.where(torch.nn.functional.pad(mask, (0, extra)), wide.double(), junk).to(x.dtype)


def filled_with_junk(batch: Batch, extra: int, random: torch.Generator) -> Batch:
    columns = {name: with_junk(x, batch.mask, extra, random) for name, x in batch.filled.items() if x.dim() == 3}
    return batch.fill(**columns)


@everywhere
def test_padding_changes_nothing(name):
    """Three more columns, other ids in the padding and anything in every column there: the same loss, the same gradient, none outside."""
    c, random = case(name), torch.Generator().manual_seed(9)
    batch = replace(
        filled_with_junk(c.batch, 3, random),
        tokens=with_junk(c.batch.tokens, c.batch.mask, 3, random),
        mask=torch.nn.functional.pad(c.batch.mask, (0, 3)),
        prompts=torch.nn.functional.pad(c.batch.prompts, (2, 0), value=7),
        prompt_mask=torch.nn.functional.pad(c.batch.prompt_mask, (2, 0)),
    )
    wide = [with_junk(x, c.batch.mask, 3, random).requires_grad_() for x in outputs(c.policy)]
    policy = said(c.objective, *wide)
    loss, padded = c.loss, c.objective.loss(policy, c.objective.prepare(batch))
    assert_same(padded.parts, loss.parts)
    assert_same(padded.stats, loss.stats)
    for ours, theirs in zip(gradients(padded.total.sum(), policy), gradients(loss.total.sum(), c.policy), strict=True):
        assert_same(ours[..., :T], theirs)
        assert not ours[..., T:].any()


@everywhere
def test_the_gradient_is_zero_outside_the_mask_and_not_inside(name):
    c = case(name)
    for gradient in gradients(c.loss.total.sum(), c.policy):
        assert not gradient[~c.batch.mask].any()
        assert gradient[c.batch.mask].any()


@everywhere
def test_the_gradient_is_the_losss_own(name):
    """Against finite differences: nothing that the loss depends on is detached."""
    c = case(name, seed=1)
    prepared = c.objective.prepare(c.batch)

    def loss(*x: Tensor) -> Tensor:
        return c.objective.loss(said(c.objective, *x), prepared).total.sum()

    assert torch.autograd.gradcheck(loss, [x.detach().requires_grad_() for x in outputs(c.policy)], fast_mode=True)


@everywhere
def test_the_order_of_prompts_changes_nothing(name):
    c, order = case(name), [3, 0, 4, 1, 2]
    shuffled = c.objective.loss(picked(c.policy, order), c.objective.prepare(c.batch.select(order)))
    assert_same(shuffled.parts, {part: value[order] for part, value in c.loss.parts.items()})
    assert_same(shuffled.stats, {stat: value[order] for stat, value in c.loss.stats.items()})


@everywhere
@pytest.mark.parametrize("chunks", [[[0], [1], [2], [3], [4]], [[3, 0], [1], [4, 2]], [[1, 2, 3], [0, 4]]], ids=str)
def test_cutting_into_micro_batches_changes_nothing(name, chunks):
    """Prepared whole, cut and trimmed: the same parts prompt by prompt, and the same gradient summed up."""
    c = case(name)
    whole, prepared = c.loss, c.objective.prepare(c.batch)
    total = torch.zeros((), dtype=torch.float64)
    for rows in chunks:
        part = prepared.select(rows).trimmed()
        loss = c.objective.loss(picked(c.policy, (rows, slice(None), slice(part.tokens.shape[-1]))), part)
        assert_same(loss.parts, {key: value[rows] for key, value in whole.parts.items()})
        assert_same(loss.stats, {key: value[rows] for key, value in whole.stats.items()})
        total = total + loss.total.sum()
    assert_same(gradients(total, c.policy), gradients(whole.total.sum(), c.policy))


def model_gradient(policy: Policy, objective: Objective, batch: Batch, chunks: list[list[int]]) -> list[Tensor]:
    """Of the batch's mean loss on every parameter of a model, accumulated over micro-batches as the trainer does."""
    policy.zero_grad()
    prepared = objective.prepare(batch)
    for rows in chunks:
        part = prepared.select(rows).trimmed()
        (objective.loss(policy(part), part).total.sum() / batch.size).backward()
    return [torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in policy.parameters()]


@everywhere
def test_padding_and_cutting_change_no_gradient_of_a_model(name):
    """A Qwen2 in float64 that is not where the old and reference log-probs were taken: one batch, a wide one with other ids in its
    padding, one prompt at a time, and two at a time in another order."""
    c, random = case(name), torch.Generator().manual_seed(4)
    batch = replace(c.batch, tokens=c.batch.tokens % len(WORDS), prompts=c.batch.prompts % len(WORDS))
    policy = Policy(tiny_qwen2(num_hidden_layers=1).double(), 1.0, value_head=c.objective.needs.values)
    if policy.value_head is not None:
        torch.nn.init.normal_(policy.value_head.weight, generator=random)
        policy.value_head.double()
    wide = replace(
        filled_with_junk(batch, 2, random),
        mask=torch.nn.functional.pad(batch.mask, (0, 2)),
        prompts=torch.where(batch.prompt_mask, batch.prompts, 9),
        tokens=torch.nn.functional.pad(torch.where(batch.mask, batch.tokens, 8), (0, 2), value=7),
    )
    whole = [list(range(P))]
    expected = model_gradient(policy, c.objective, batch, whole)
    assert max(gradient.abs().max() for gradient in expected) > 1e-3
    for other, chunks in ((wide, whole), (batch, [[p] for p in range(P)]), (batch, [[4, 2], [0, 3], [1]])):
        for ours, theirs in zip(model_gradient(policy, c.objective, other, chunks), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", SAMPLING)
def test_rollouts_may_be_permuted(name):
    """The answers of a group have no order; the slots after them stay where they are."""
    c = case(name)
    order = list(range(len(c.batch.slots)))
    order[: c.objective.needs.rollouts] = torch.randperm(c.objective.needs.rollouts, generator=torch.Generator().manual_seed(3)).tolist()
    assert order != sorted(order)
    moved_columns = c.batch.map(lambda x: x[:, order] if x.shape[1] == len(order) else x)
    batch = replace(moved_columns, prompts=c.batch.prompts, prompt_mask=c.batch.prompt_mask)
    permuted = c.objective.loss(picked(c.policy, (slice(None), order)), c.objective.prepare(batch))
    assert_same(permuted.parts, c.loss.parts)
    assert_same(permuted.stats, c.loss.stats)


@everywhere
def test_parts_sum_to_the_total_and_everything_is_per_prompt(name):
    loss = case(name).loss
    assert_same(loss.total, torch.stack(list(loss.parts.values())).sum(0))
    assert {(value.shape, value.dtype) for value in (*loss.parts.values(), *loss.stats.values())} == {((P,), torch.float64)}
    assert all(part.requires_grad for part in loss.parts.values())
    assert not any(stat.requires_grad for stat in loss.stats.values())
    assert torch.isfinite(torch.stack([*loss.parts.values(), *loss.stats.values()])).all()


@everywhere
def test_only_what_is_needed_is_read(name):
    """`case` leaves every other column out; here they are NaN, and the loss stays what it was."""
    c = case(name)
    nan = torch.full(c.batch.mask.shape, torch.nan, dtype=torch.float64)
    absent = set(COLUMNS) - set(c.batch.filled)
    filled = c.batch.fill(**{key: nan[..., 0] if key == "rewards" else nan for key in absent})
    assert torch.equal(c.objective.loss(c.policy, c.objective.prepare(filled)).total, c.loss.total)


@everywhere
def test_every_need_is_read(name):
    """A column that `needs` asks for and the loss ignores would be a wasted pass over the model: another value there is another loss."""
    c = case(name)
    for key, column in c.batch.filled.items():
        noise = torch.randn(column.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        other = c.batch.fill(**{key: column + noise})
        assert not torch.allclose(c.objective.loss(c.policy, c.objective.prepare(other)).total, c.loss.total), key


@everywhere
def test_the_same_twice_and_the_batch_left_alone(name):
    c = case(name)
    tensors = vars(c.batch) | dict(c.batch.filled)
    before = {key: x.clone() for key, x in tensors.items() if isinstance(x, Tensor)}
    assert torch.equal(c.loss.total, c.loss.total)
    assert torch.equal(c.loss.total, case(name).loss.total)
    assert all(torch.equal(value, getattr(c.batch, key)) for key, value in before.items())


@everywhere
@pytest.mark.parametrize("rewards", [torch.float32, torch.float64], ids=str)
def test_float32_gives_the_same_number(name, rewards):
    """To float32's precision, and in float32: the dtype of the loss is the policy's, whatever the rewards'."""
    c = case(name)
    single = {key: value.float() for key, value in c.batch.filled.items()}
    if "rewards" in single:
        single["rewards"] = c.batch.rewards.to(rewards)
    policy = said(c.objective, *[x.float() for x in outputs(c.policy)])
    total = c.objective.loss(policy, c.objective.prepare(c.batch.fill(**single))).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.double(), c.loss.total, atol=1e-5, rtol=1e-5)


@everywhere
def test_the_yaml_spells_every_field_and_no_other(name):
    """No field has a default in Python, and the name in the tables is the file's."""
    values = yaml.safe_load(FILES[name].read_text())
    assert set(values) - {"_target_", "role"} == {item.name for item in fields(load_objective(name))}
    assert values["name"] == name


@dataclass(frozen=True)
class Otherwise:
    """An objective with other updates, or other claims."""

    objective: Objective
    needs: Needs
    updates: Updates

    @property
    def name(self) -> str:
        return self.objective.name

    def prepare(self, batch: Batch) -> Batch:
        return self.objective.prepare(batch)

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        return self.objective.loss(policy, batch)


def updated(name: str, epochs: int, minibatches: int) -> Objective:
    """The objective of four rollouts with that many updates per batch; where its YAML doesn't ask
    for them they are asked for here."""
    objective = load_objective(name)
    changed = {"rollouts": 4, "epochs": epochs, "minibatches": minibatches, "value_only_steps": 0}
    own = {key: value for key, value in changed.items() if hasattr(objective, key)}
    objective = replace(objective, **own)
    updates = replace(objective.updates, epochs=epochs, minibatches=minibatches)
    return objective if "epochs" in own else Otherwise(objective, objective.needs, updates)


def written_out(objective: Objective, trainer_: Trainer, collector_: Collector) -> None:
    """Two steps as a paper would say them, every column filled beforehand: no `Needs` is read."""
    policy_, clip = trainer_.policy, trainer_.clip_norm
    for step in (1, 2):
        examples = draw(EXAMPLES, 5, step, SEED)
        everything = replace(objective.needs, old_logp="prepare")
        seed = stream_seed(SEED, "rollouts", step)
        batch, _ = collect(collector_, policy_, examples, everything, objective.updates, seed)
        with torch.no_grad():
            batch = objective.prepare(batch)
        for epoch in range(objective.updates.epochs):
            seed = stream_seed(SEED, "minibatches", step, epoch)
            for rows in minibatches(5, objective.updates.minibatches, seed):
                part = batch.select(rows)
                objective.loss(policy_(part), part).total.mean().backward()
                torch.nn.utils.clip_grad_norm_(policy_.parameters(), clip)
                trainer_.optimizer.step()
                trainer_.schedule.step()
                policy_.zero_grad()


@everywhere
@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 1), (1, 2)], ids=["one", "epochs", "minibatches"])
def test_the_whole_path_is_what_the_paper_says(name, epochs, minibatches):
    """Collect, prepare, loss, update by the loop, two steps: the weights of the loop written out."""
    objective, after = updated(name, epochs, minibatches), []
    for run in (loop, written_out):
        policy_ = setting.policy(objective)
        trainer_ = setting.trainer(objective, policy_, setting.budget(steps=2))
        before = [each.detach().clone() for each in policy_.parameters()]
        run(objective, trainer_, setting.collector(objective, policy_))
        after.append([each.detach() for each in policy_.parameters()])
        assert trainer_.schedule.last_epoch == 2 * epochs * minibatches
    for ours, theirs, old in zip(*after, before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)
        assert torch.isfinite(ours).all()
        assert not torch.equal(ours, old)


def loop(objective: Objective, trainer_: Trainer, collector_: Collector) -> None:
    list(train(trainer_, collector_, EXAMPLES, SEED))


CLAIMS = [(name, 1) for name in FILES]
CLAIMS += [(name, 2) for name in FILES if hasattr(load_objective(name), "epochs")]


@pytest.mark.parametrize(("name", "epochs"), CLAIMS)
def test_the_claim_of_a_constant_slope_is_true_and_never_modest(name, epochs):
    """d loss / d logp at two policies: the same to the bit where `linear_in_logp` says so, and only
    there. With one update old_logp is, for the loss alone, what the policy says itself."""
    objective = updated(name, epochs, 1)
    needs = objective.needs
    batch, policy = moved(needs, rectangle(needs, [[3, 1, 2, 4, 2][: len(needs.slots)]] * P))
    batch, slopes = prepared(objective, batch), []
    for logp in (policy.logp.detach(), policy.logp.detach() * 1.1 - 0.1 * batch.mask):
        out = said(objective, logp.requires_grad_(), *policy.filled.values())
        own = needs.old_logp == "loss" and objective.updates.count == 1
        part = batch.fill(old_logp=logp.detach()) if own else batch
        slopes.append(torch.autograd.grad(objective.loss(out, part).total.sum(), logp)[0])
    constant = torch.equal(*slopes)
    assert constant == needs.linear_in_logp, f"Needs(linear_in_logp={constant}) is the truth"


@pytest.mark.parametrize("name", ["dpo", "grpo", "sft"])
def test_a_wrong_claim_changes_no_number(name):
    """Weights and metrics to the bit, whatever is claimed; the claim alone makes a guess."""
    objective, outcomes = updated(name, 1, 1), []
    for claim in (False, True):
        claims = Otherwise(objective, replace(objective.needs, linear_in_logp=claim), Updates())
        policy_ = setting.policy(claims)
        collector_, guessed = setting.collector(claims, policy_), []
        trainer_ = setting.trainer(claims, policy_, setting.budget(tokens_per_forward=60))
        policy_.register_forward_pre_hook(
            lambda _, args, kwargs, into=guessed: into.append(kwargs.get("expected") is not None),
            with_kwargs=True,
        )
        records = list(train(trainer_, collector_, EXAMPLES, SEED))
        outcomes.append((records, [each.detach() for each in policy_.parameters()]))
        assert any(guessed) == claim
    (records, weights), (others, other_weights) = outcomes
    assert records == others
    assert all(torch.equal(*pair) for pair in zip(weights, other_weights, strict=True))
