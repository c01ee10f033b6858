"""Training on pairs: against a plain loop, its memory, precision and checkpoints."""

from __future__ import annotations

import math

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.training.bradley_terry import Pair, batches, fit_reward_model, pair_loss
from grao_bench.training.checkpoint import load_checkpoint, save_checkpoint

from ..models.test_scorer import classifier, plain, tokens_seen
from .rewards import ids_of, reward_trainer, reward_training

EXAMPLES = [
    Example(f"e{i}", (Turn("user", prompt),), chosen, rejected, "s")
    for i, (prompt, chosen, rejected) in enumerate(
        [
            ("red", "good one", "bad"),
            ("green blue", "good", "bad two three"),
            ("one two three", "two good", "two bad"),
            ("blue", "good good good good", "bad bad"),
            ("three three", "one good two", "bad one"),
            ("two red", "red good", "red red red bad"),
            ("green", "three", "bad three"),
        ]
        * 2
    )
]
PAIRS = ids_of(EXAMPLES)


def plain_losses(steps: int, batch_size: int) -> list[float]:
    """transformers' own class on one sequence at a time, torch's AdamW and LinearLR."""
    model = classifier()
    order = batches([pair.length for pair in PAIRS], batch_size, seed_of_epoch(0))
    order += batches([pair.length for pair in PAIRS], batch_size, seed_of_epoch(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(order))
    losses = []
    for rows in order[:steps]:
        loss = torch.zeros((), dtype=torch.float64)
        for pair in (PAIRS[row] for row in rows):
            better, worse = (plain(model, (pair.prompt, a.tokens)) for a in (pair.chosen, pair.rejected))
            loss = loss + torch.log1p(torch.exp(worse - better)) / len(rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def seed_of_epoch(epoch: int) -> int:
    from grao_bench.core.ops import stream_seed

    return stream_seed(3, "pairs", epoch)


@pytest.mark.parametrize("tokens_per_forward", [1, 40, 1000])
def test_the_first_losses_are_those_of_a_plain_loop(tokens_per_forward):
    """However a batch is cut; 14 pairs in batches of 6 for two epochs, the last of each short."""
    trainer = reward_trainer(classifier(), len(PAIRS), epochs=2, batch_size=6, tokens_per_forward=tokens_per_forward)
    metrics = list(fit_reward_model(trainer, PAIRS, 3))
    assert len(metrics) == trainer.steps == trainer.step == 6
    expected = plain_losses(5, 6)
    assert [each["loss"] for each in metrics[:5]] == pytest.approx(expected, abs=1e-9)
    assert metrics[-1]["lr"] == pytest.approx(0.005 / 6)
    assert all(0 <= each["accuracy"] <= 1 for each in metrics)


def test_a_pairs_loss_by_hand():
    """Margins 2 and -2: log(1 + e^-2) = 0.1269280, and that plus 2; one of the two is right."""
    from grao_bench.training.bradley_terry import pair_batch

    trainer = reward_trainer(classifier(), 2)
    batch = pair_batch(PAIRS[:2], trainer.scorer)
    loss = pair_loss(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), batch)
    assert loss.total.tolist() == pytest.approx([0.1269280, 2.1269280], abs=1e-6)
    assert loss.stats["accuracy"].tolist() == [1, 0]
    assert loss.stats["margin"].tolist() == [2, -2]


def test_training_sees_each_prompt_once_and_no_padding():
    trainer = reward_trainer(classifier("llama", torch.float32), len(PAIRS), tokens_per_forward=60)
    seen = tokens_seen(trainer.scorer)
    list(fit_reward_model(trainer, PAIRS, 0))
    packed = [len(pair.prompt) + len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in PAIRS]
    assert sum(seen) == sum(packed)
    assert max(seen) <= 60


@pytest.mark.parametrize("where", ["weights", "gradient"])
def test_nothing_is_updated_where_a_number_is_none(where):
    trainer = reward_trainer(classifier(), len(PAIRS))
    head = trainer.scorer.model.score.weight
    if where == "weights":
        torch.nn.init.constant_(head, math.nan)
        what = r"step 1: the loss of example e\d+ is nan"
    else:
        head.register_hook(lambda gradient: gradient * math.inf)
        what = "step 1: the gradient's norm is (nan|inf)"
    before = [parameter.detach().clone() for parameter in trainer.scorer.parameters()]
    with pytest.raises(UserError, match=f"{what}; nothing was updated; lower training.lr, or look at"):
        list(fit_reward_model(trainer, PAIRS, 0))
    for parameter, former in zip(trainer.scorer.parameters(), before, strict=True):
        assert torch.equal(parameter.nan_to_num(9), former.nan_to_num(9))
        assert parameter.grad is None
    assert trainer.step == 0


def test_half_precision_weights_learn_through_float32_masters():
    """At a rate of 1e-6 no bfloat16 weight would move by itself: its three digits are too few. A
    hundred steps add up in the masters until some do."""
    model = classifier("llama", torch.bfloat16)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = reward_trainer(model, len(PAIRS), epochs=40, lr=1e-5, schedule="constant", batch_size=7)
    masters = [each for group in trainer.optimizer.param_groups for each in group["params"]]
    first = [master.detach().clone() for master in masters]
    assert {master.dtype for master in masters} == {torch.float32}
    metrics = list(fit_reward_model(trainer, PAIRS, 0))
    assert all(math.isfinite(each["loss"]) for each in metrics)
    assert all(not torch.equal(now, then) for now, then in zip(masters, first, strict=True))
    after = list(model.parameters())
    assert all(own.dtype == torch.bfloat16 for own in after)
    assert any(not torch.equal(now, then) for now, then in zip(after, before, strict=True))
    for own, master in zip(after, masters, strict=True):
        assert torch.equal(own, master.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_interrupted_training_ends_as_if_it_had_not_been(tmp_path, dtype):
    """Across the epochs' border, from a checkpoint in a new trainer over the first weights."""

    def fresh():
        return reward_trainer(classifier("llama", dtype), len(PAIRS), epochs=2, batch_size=4)

    whole, cut, again = fresh(), fresh(), fresh()
    every = list(fit_reward_model(whole, PAIRS, 0))
    for _, metrics in zip(range(5), fit_reward_model(cut, PAIRS, 0), strict=False):
        assert metrics == every[cut.step - 1]
    save_checkpoint(tmp_path / "checkpoint", cut)
    assert load_checkpoint(tmp_path / "checkpoint", again)
    assert list(fit_reward_model(again, PAIRS, 0)) == every[5:]
    for right, found in zip(whole.scorer.parameters(), again.scorer.parameters(), strict=True):
        assert torch.equal(right, found)


def test_a_pair_too_long_is_cut_to_one_prompt():
    """Beside its longer answer; the shorter one is read after the same prompt."""
    (pair,) = ids_of(EXAMPLES[1:2], max_tokens=9)
    whole = PAIRS[1]
    shorter = (*whole.prompt[:2], *whole.prompt[-3:])  # without its first word; the frame stays
    assert pair == Pair("e1", shorter, whole.chosen, whole.rejected)
    assert pair.length == 9


def test_values_that_can_not_be():
    for key, wrong, rule in (
        ("epochs", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("tokens_per_forward", 0, "at least 1"),
        ("checkpoint_every", -1, "at least 0"),
        ("lr", 0.0, "above 0"),
        ("weight_decay", -1.0, "at least 0"),
        ("clip_norm", 0.0, "above 0"),
        ("eps", 0.0, "above 0"),
    ):
        with pytest.raises(UserError, match=rf"^training\.{key}={wrong}: must be {rule}"):
            reward_training(**{key: wrong}).check()
