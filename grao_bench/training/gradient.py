"""One gradient step, whatever is trained: a loss over micro-batches, checked, clipped, applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from grao_bench.core.batching import micro_batches
from grao_bench.core.errors import UserError
from grao_bench.core.types import Batch, Loss


@runtime_checkable
class Trained(Protocol):
    """Something in training: its module, the optimiser and schedule that move it, steps done."""

    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip_norm: float
    step: int

    @property
    def module(self) -> nn.Module: ...


def gradient_step(
    trained: Trained,
    batch: Batch,
    tokens_per_forward: int,
    loss_of: Callable[[Batch], Loss],
    advice: str,
    held: Sequence[str] = (),
) -> dict[str, float]:
    """One optimiser update on a batch, accumulated over micro-batches of at most
    tokens_per_forward tokens; the loss is the mean over the batch's prompts however it is cut.

    `loss_of` is called with each part of the batch. `held`: the optimiser's groups, by name, that
    do not move in this step.
    Returns loss, loss/<part>, the loss's stats, grad_norm (before clipping) and lr. A loss or a
    gradient that is not a number raises UserError, which ends with `advice`; nothing is updated.
    """
    totals: dict[str, float] = {}
    broken: list[str] = []
    for rows in micro_batches(batch, tokens_per_forward):
        part = batch.select(rows).trimmed()
        loss = loss_of(part)
        total = loss.total
        (total.sum() / batch.size).backward()
        finite = total.isfinite().tolist()
        broken += [example for example, fine in zip(part.ids, finite, strict=True) if not fine]
        named = {f"loss/{name}": value for name, value in loss.parts.items()}
        for name, value in (named | {"loss": total} | loss.stats).items():
            totals[name] = totals.get(name, 0.0) + value.sum().item() / batch.size
    what = "loss" if not broken else f"loss of example {broken[0]}"
    _require_finite(trained, what, totals["loss"], advice)
    moving: list[nn.Parameter] = []
    for group in trained.optimizer.param_groups:
        if group["name"] not in held:
            moving += group["params"]
            continue
        for parameter in group["params"]:
            parameter.grad = None
    # of half-precision parameters these are the copies in which their gradients were summed
    norm = float(torch.nn.utils.clip_grad_norm_(moving, trained.clip_norm))
    _require_finite(trained, "gradient's norm", norm, advice)
    lr = trained.optimizer.param_groups[0]["lr"]
    trained.optimizer.step()
    trained.schedule.step()
    _forget(trained)
    return totals | {"grad_norm": norm, "lr": float(lr)}


def _forget(trained: Trained) -> None:
    """The gradients, those of frozen parameters and of held groups too."""
    trained.module.zero_grad()
    trained.optimizer.zero_grad()


def _require_finite(trained: Trained, what: str, value: float, advice: str) -> None:
    if not np.isfinite(value):
        _forget(trained)
        where = f"step {trained.step + 1}: the {what} is {value}"
        raise UserError(f"{where}; nothing was updated; {advice}")
