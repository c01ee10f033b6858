"""PPO against TRL 1.12's experimental trainer, the last one there was: rewards, GAE, whitening, both clips, the loss, its gradients.

TRL adds the reward one position past the end token, where it has a value; here the last token carries it. Two kinds of input must agree
all the same: answers that fill the rectangle (no position is left past their end), and, for gamma = 1, shorter ones whose value past the
end is the reward itself (then nothing is learned there).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from grao_bench.objectives import load_objective
from grao_bench.objectives.ppo import shaped_rewards
from tests.small import PAD, moved, rectangle

pytestmark = pytest.mark.slow
FULL = [[6, 6], [6, 6], [6, 6]]
RAGGED = [[3, 6], [1, 2], [5, 4]]
CASES = {
    "filled": {"lengths": FULL, "gamma": 1.0, "lam": 0.95, "kl": 0.05, "clip": 0.2, "value_clip": 0.2, "value_coef": 0.1},
    "filled, discounted": {"lengths": FULL, "gamma": 0.9, "lam": 0.7, "kl": 0.3, "clip": 0.1, "value_clip": 0.05, "value_coef": 0.5},
    "shorter": {"lengths": RAGGED, "gamma": 1.0, "lam": 0.95, "kl": 0.05, "clip": 0.2, "value_clip": 0.2, "value_coef": 0.1},
    "shorter, undiscounted": {"lengths": RAGGED, "gamma": 1.0, "lam": 1.0, "kl": 0.02, "clip": 0.2, "value_clip": 0.2, "value_coef": 0.5},
}
# TRL's Bessel factor is a quotient of two integers, in torch's default dtype: the whole of TRL is in float64 where that is
TOLERANCE = {"float64": (1e-12, 1e-10), "float32": (3e-8, 3e-8)}
cases = pytest.mark.parametrize("name", CASES)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


def ours(name):
    """(objective, prepared batch, what a policy that has moved says of it)."""
    spec = CASES[name]
    fields = {key: value for key, value in spec.items() if key != "lengths"}
    objective = load_objective("ppo", rollouts=2, epochs=2, minibatches=1, **fields)
    batch, policy = moved(objective.needs, rectangle(objective.needs, spec["lengths"], seed=3), seed=5)
    return objective, objective.prepare(batch), policy


def theirs(name, dtype):
    """The same as TRL is given it: [B T], and past the end of a shorter answer a value that is its reward."""
    objective, batch, policy = ours(name)
    rows = {key: getattr(batch, key).flatten(0, 1) for key in ("tokens", "mask", "old_logp", "reference_logp", "old_values")}
    scores = batch.rewards.flatten()
    past = rows["mask"].sum(-1, keepdim=True) == torch.arange(rows["mask"].shape[-1])
    new_values = policy.values.detach().flatten(0, 1)
    return {
        "responses": rows["tokens"],
        "pad": PAD,
        "logprobs": rows["old_logp"],
        "ref_logprobs": rows["reference_logp"],
        "values": torch.where(past, scores[:, None], rows["old_values"]),
        "scores": scores,
        "new_logprobs": policy.logp.detach().flatten(0, 1),
        "new_values": torch.where(past, scores[:, None], new_values),
        "default_dtype": dtype,
        "args": {
            "kl_estimator": "k1",
            "kl_coef": objective.kl,
            "whiten_rewards": False,
            "gamma": objective.gamma,
            "lam": objective.lam,
            "cliprange": objective.clip,
            "cliprange_value": objective.value_clip,
            "vf_coef": objective.value_coef,
        },
    }


@pytest.fixture(scope="module")
def trl_says(trl_with_ppo, tmp_path_factory):
    """What TRL makes of every case, in both dtypes: one process for all."""
    folder = tmp_path_factory.mktemp("ppo")
    inputs, outputs = folder / "inputs.pt", folder / "outputs.pt"
    torch.save({f"{name}/{dtype}": theirs(name, dtype) for name in CASES for dtype in TOLERANCE}, inputs)
    script = Path(__file__).with_name("ppo_of_trl.py")
    done = subprocess.run(
        [sys.executable, str(script), str(trl_with_ppo), str(inputs), str(outputs)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(outputs)


def agree(trl, own, tolerance):
    torch.testing.assert_close(own, trl.reshape(own.shape), rtol=tolerance if tolerance > 1e-10 else 0, atol=tolerance)


def test_the_version_with_ppo_ran(trl_says):
    assert trl_says["version"] == "1.12.0"


@cases
def test_rewards(trl_says, name):
    """The KL on every token and the reward; TRL's stands one position later where there is one."""
    objective, batch, _ = ours(name)
    r = shaped_rewards(batch.rewards, batch.old_logp, batch.reference_logp, batch.mask, objective.kl)
    lengths = batch.mask.sum(-1)
    expected = r.clone()
    for p, k in torch.nonzero(lengths < batch.mask.shape[-1]).tolist():
        expected[p, k, lengths[p, k] - 1] -= batch.rewards[p, k]
        expected[p, k, lengths[p, k]] += batch.rewards[p, k]
    agree(trl_says[f"{name}/float64"]["rewards"], expected, 1e-12)
    agree(trl_says[f"{name}/float64"]["padding_mask"], ~batch.mask, 0)


@cases
@dtypes
def test_whitened_advantages_and_returns(trl_says, name, dtype):
    """The returns are of the advantages before whitening."""
    _, batch, _ = ours(name)
    trl = trl_says[f"{name}/{dtype}"]
    agree(trl["advantages"], batch.advantages, TOLERANCE[dtype][0])
    agree(torch.where(trl["padding_mask"], 0.0, trl["returns"]), batch.returns, TOLERANCE[dtype][0])


@cases
@dtypes
def test_loss_and_gradients(trl_says, name, dtype):
    """TRL's value loss is a mean over the tokens and the positions past the end, where it is 0 here: its sum is ours."""
    objective, batch, policy = ours(name)
    trl, (loss, gradient) = trl_says[f"{name}/{dtype}"], TOLERANCE[dtype]
    parts = {key: part.mean() for key, part in objective.loss(policy, batch).parts.items()}
    agree(trl["pg_loss"], parts["policy"].detach(), loss)
    positions = int((~trl["padding_mask_p1"]).sum()) / int(batch.mask.sum())
    agree(objective.value_coef * trl["vf_loss"] * positions, parts["value"].detach(), loss)
    agree(trl["by_logprobs"], torch.autograd.grad(parts["policy"], policy.logp)[0], gradient)
    agree(trl["by_values"] * positions, torch.autograd.grad(parts["value"], policy.values)[0], gradient)
    if name.startswith("filled"):
        agree(trl["loss"], (parts["policy"] + parts["value"]).detach(), loss)


@cases
def test_the_cases_reach_both_clips(name):
    """Else the agreement above would say nothing of them: each side of the ratio's clip acts, and the value's."""
    objective, batch, policy = ours(name)
    ratio = torch.exp(policy.logp - batch.old_logp)[batch.mask]
    A = batch.advantages[batch.mask]
    assert ((ratio > 1 + objective.clip) & (A > 0)).any()
    assert ((ratio < 1 - objective.clip) & (A < 0)).any()
    assert ((policy.values - batch.old_values)[batch.mask].abs() > objective.value_clip).any()
