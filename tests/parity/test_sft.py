"""SFT against TRL's `SFTTrainer.compute_loss`: its nll is our token mean."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from grao_bench.objectives import load_objective
from tests.parity.agreement import assert_same_loss, one_process
from tests.small import moved, rectangle

pytestmark = pytest.mark.slow
LENGTHS = [[5], [1], [7], [3]]


def nll(trl, mask, tokens_in_window=None):
    """TRL's own loss of log-probs [P 1 T]: the fake model returns them as TRL's fused head would, exactly 0 where a label is ignored."""

    def loss(logp):
        model_says = SimpleNamespace(
            log_probs=torch.where(mask, logp, 0.0).flatten(0, 1),
            label_mask=mask.flatten(0, 1),
            entropy=torch.zeros(mask.flatten(0, 1).shape),
            is_top1=mask.flatten(0, 1),
        )
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=one_process(),
            args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=True),
            aux_loss_enabled=False,
            compute_loss_func=None,
            label_smoother=None,
            get_tp_size=lambda: 1,
            _metrics={"train": defaultdict(list)},
            _total_train_tokens=0,
            _tp_size=1,
        )
        inputs = {"attention_mask": mask.flatten(0, 1)}
        return trl.SFTTrainer.compute_loss(trainer, lambda **_: model_says, inputs, num_items_in_batch=tokens_in_window)

    return loss


def batch_of(objective):
    return moved(objective.needs, rectangle(objective.needs, LENGTHS, seed=1), seed=2)


def test_token_mean_is_nll(trl):
    objective = load_objective("sft_token")
    batch, policy = batch_of(objective)
    assert_same_loss(objective, batch, policy, nll(trl, batch.mask))


def test_accumulated_over_micro_batches_it_is_nll_with_the_windows_tokens(trl):
    """TRL is told the tokens of the whole accumulation window; our weights are taken over the whole batch before it is cut."""
    objective = load_objective("sft_token")
    batch, policy = batch_of(objective)

    def two_micro_batches(logp):
        tokens = torch.tensor(int(batch.mask.sum()))
        return sum(nll(trl, batch.mask[rows], tokens)(logp[rows]) for rows in (slice(0, 1), slice(1, 4)))

    assert_same_loss(objective, batch, policy, two_micro_batches)


def test_eq_1s_mean_per_sequence_is_another_loss(trl):
    """Equal lengths: the same as nll. Unequal ones: not."""
    objective = load_objective("sft")
    equal, policy = moved(objective.needs, rectangle(objective.needs, [[4], [4], [4]], seed=1), seed=2)
    assert_same_loss(objective, equal, policy, nll(trl, equal.mask))
    batch, policy = batch_of(objective)
    loss = objective.loss(policy, objective.prepare(batch)).total.mean()
    assert (loss - nll(trl, batch.mask)(policy.logp)).abs() > 0.01
