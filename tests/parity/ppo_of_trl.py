"""TRL 1.12's PPO on given tensors, in a process of its own: python ppo_of_trl.py <folder that holds trl> <inputs.pt> <outputs.pt>.

The inputs are a dict of cases, the outputs a dict of what TRL's own lines make of each. Two versions of one package don't share a process.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def run_case(ppo: Any, case: dict[str, Any]) -> dict[str, Tensor]:
    """Rewards, advantages, returns of a rollout, then the loss of an update and its gradients, by the lines of `PPOTrainer.train`."""
    from excerpt import excerpt, run

    source = inspect.getsource(ppo.PPOTrainer.train)
    B = len(case["responses"])
    args = SimpleNamespace(**case["args"])
    given = {
        "args": args,
        "processing_class": SimpleNamespace(pad_token_id=case["pad"]),
        "postprocessed_response": case["responses"],
        "responses": case["responses"],
        "logprobs": case["logprobs"],
        "ref_logprobs": case["ref_logprobs"],
        "values": case["values"],
        "scores": case["scores"],
    }
    lengths = run(excerpt(source, "sequence_length = first_true_indices", "sequence_length = first_true_indices"), ppo, **given)
    rollout = run(
        excerpt(source, "response_idxs = torch.arange", "advantages = torch.masked_fill(advantages, padding_mask, 0)"),
        ppo,
        sequence_lengths=lengths["sequence_length"],
        **given,
    )
    new_logprobs = case["new_logprobs"].clone().requires_grad_()
    new_values = case["new_values"].clone().requires_grad_()
    before = ("args", "padding_mask", "padding_mask_p1", "advantages", "responses", "logprobs", "returns", "values")
    update = run(
        excerpt(source, "mb_advantage = advantages[micro_batch_inds]", "mb_values = values[micro_batch_inds]")
        + "\n"
        + excerpt(source, "new_logprobs = torch.masked_fill(", "loss = pg_loss + args.vf_coef * vf_loss"),
        ppo,
        micro_batch_inds=torch.arange(B),
        query_responses=case["responses"],
        new_logprobs=new_logprobs,
        # TRL cuts the answer's values out of the whole row's: one position is not needed at either end of it
        vpred_temp=torch.cat([new_values, torch.zeros(B, 1, dtype=new_values.dtype)], 1)[..., None],
        context_length=1,
        **{name: rollout[name] for name in before},
    )
    by_logprobs, by_values = torch.autograd.grad(update["loss"], (new_logprobs, new_values))
    names = ("rewards", "advantages", "returns", "padding_mask", "padding_mask_p1")
    outputs = {name: rollout[name] for name in names}
    outputs |= {name: update[name].detach() for name in ("pg_loss", "vf_loss", "loss")}
    return outputs | {"by_logprobs": by_logprobs, "by_values": by_values}


def main(folder: str, inputs: str, outputs: str) -> None:
    sys.path.insert(0, folder)
    import trl
    from trl.experimental.ppo import ppo_trainer

    assert Path(trl.__file__).is_relative_to(folder), f"{trl.__file__} is not the unpacked wheel"
    results = {}
    for name, case in torch.load(inputs).items():
        # the dtype in which TRL's Bessel factor, a quotient of two integers, is computed
        torch.set_default_dtype(getattr(torch, case["default_dtype"]))
        results[name] = run_case(ppo_trainer, case)
    torch.save(results | {"version": trl.__version__}, outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
