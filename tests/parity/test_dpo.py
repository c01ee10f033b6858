"""DPO and IPO against TRL's `DPOTrainer._compute_loss`."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from grao_bench.objectives import load_objective
from tests.parity.agreement import assert_same_loss, one_process
from tests.small import moved, rectangle

pytestmark = pytest.mark.slow
LENGTHS = [[5, 2], [1, 6], [4, 4], [3, 7]]


def preference(trl, batch, loss_type, beta, label_smoothing=0.0):
    """TRL's own loss of log-probs [P 2 T]: a batch of chosen rows above rejected rows, each behind one prompt token."""
    mask = batch.mask.transpose(0, 1).flatten(0, 1)
    behind_prompt = torch.nn.functional.pad(mask, (1, 0)).long()
    reference = batch.reference_logp.sum(-1)

    def loss(logp):
        zeros = torch.zeros(mask.shape)
        model_says = SimpleNamespace(
            log_probs=torch.where(mask, logp.transpose(0, 1).flatten(0, 1), 0.0), entropy=zeros, mean_logits=zeros, is_top1=mask
        )
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=one_process(),
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=[loss_type],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=label_smoothing,
            use_weighting=False,
            _metrics={"train": defaultdict(list)},
            _total_train_tokens=0,
            _tp_size=1,
        )
        inputs = {
            "input_ids": torch.ones_like(behind_prompt),
            "attention_mask": behind_prompt,
            "completion_mask": behind_prompt,
            "ref_chosen_logps": reference[:, 0],
            "ref_rejected_logps": reference[:, 1],
        }
        return trl.DPOTrainer._compute_loss(trainer, lambda **_: model_says, inputs, False)

    return loss


@pytest.mark.parametrize("beta", [0.1, 0.3])
@pytest.mark.parametrize(("name", "loss_type"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_loss_and_gradient(trl, name, loss_type, beta):
    objective = load_objective(name, beta=beta)
    batch, policy = moved(objective.needs, rectangle(objective.needs, LENGTHS, seed=1), seed=2)
    assert_same_loss(objective, batch, policy, preference(trl, batch, loss_type, beta))


def test_summed_ipo_is_trls_where_every_answer_has_one_token(trl):
    """TRL averages over the tokens, and has no other reading."""
    objective = load_objective("ipo_sum")
    batch, policy = moved(objective.needs, rectangle(objective.needs, [[1, 1]] * 4, seed=1), seed=2)
    assert_same_loss(objective, batch, policy, preference(trl, batch, "ipo", objective.beta))


def test_trl_ignores_label_smoothing_in_its_sigmoid_loss(trl):
    """So conservative DPO has no counterpart there: told to smooth, TRL computes plain DPO's loss, our `dpo` and not our `cdpo`."""
    objective = load_objective("cdpo")
    batch, policy = moved(objective.needs, rectangle(objective.needs, LENGTHS, seed=1), seed=2)
    smoothed = preference(trl, batch, "sigmoid", objective.beta, objective.label_smoothing)
    assert_same_loss(load_objective("dpo", beta=objective.beta), batch, policy, smoothed)
    loss = objective.loss(policy, objective.prepare(batch)).total.mean()
    assert (loss - smoothed(policy.logp)).abs() > 0.01
