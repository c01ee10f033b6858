"""A loss and its gradient, ours and a peer's, and how closely they must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from grao_bench.core.interfaces import Objective
from grao_bench.core.types import Batch, PolicyOutput

LOSS, GRADIENT = 1e-12, 1e-10
FLOAT32_FACTOR = 3e-8
"""Where the peer multiplies float64 by a float32 number: a quotient of two integers, which torch takes in its default dtype."""


def assert_same_loss(objective: Objective, batch: Batch, policy: PolicyOutput, peer: Callable[[Tensor], Tensor]) -> None:
    """The batch's loss and its gradient by the log-probs, ours and the peer's; `peer` is given log-probs [P K T]."""
    loss = objective.loss(policy, objective.prepare(batch)).total.mean()
    (gradient,) = torch.autograd.grad(loss, policy.logp)
    logp = policy.logp.detach().clone().requires_grad_()
    theirs = peer(logp)
    assert loss.dtype == theirs.dtype == torch.float64
    assert loss.abs() > 1e-3, "nothing to compare"
    torch.testing.assert_close(loss, theirs, rtol=0, atol=LOSS)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, logp)[0], rtol=0, atol=GRADIENT)


def one_process(**more: Any) -> SimpleNamespace:
    """What TRL's losses ask of an accelerator where there is one process."""
    same = {name: lambda x, **_: x for name in ("gather", "gather_for_metrics", "reduce")}
    return SimpleNamespace(num_processes=1, device=torch.device("cpu"), parallelism_config=None, **same, **more)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """In float64 a peer's factors of integers are exact to float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
