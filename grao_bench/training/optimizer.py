"""The optimiser and its schedule, as a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch

from grao_bench.core.errors import UserError

MODEL, HEAD = "model", "head"
"""The names of an optimiser's groups."""
Schedule = Literal["constant", "linear", "cosine"]


@runtime_checkable
class Trainable(Protocol):
    """A module that says what of it is trained: a policy, a scorer."""

    def parameter_groups(self) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
        """(the trainable parameters at `lr`, those at `value_lr`)."""
        ...


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Decoupled weight decay. value_lr is the value head's own rate. warmup_steps and the schedule count optimiser updates.

    clip_norm bounds the global gradient norm. For the schedule see `share_of_rate`.
    """

    revision: ClassVar[int] = 1

    lr: float
    value_lr: float
    betas: Sequence[float]
    eps: float
    weight_decay: float
    schedule: Schedule
    warmup_steps: int
    clip_norm: float

    def check(self) -> None:
        """UserError for a number that can't be: a rate below 0 would climb the loss."""
        for name in ("lr", "value_lr", "weight_decay", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise UserError(f"optimizer.{name}={getattr(self, name)}: must be at least 0")
        for name in ("eps", "clip_norm"):
            if not getattr(self, name) > 0:
                raise UserError(f"optimizer.{name}={getattr(self, name)}: must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optimizer.betas={list(self.betas)}: must be two numbers, each at least 0 and below 1")

    def build(
        self,
        policy: Trainable,
        updates: int,
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """The optimiser over what of it is trainable, and a schedule of `updates` updates. Its
        groups are named MODEL and HEAD.

        Those in half precision are updated through float32 copies, which also sum their gradients:
        at a rate of 1e-6 their own digits would not move, and each micro-batch would round the sum
        of those before it. UserError where nothing is trainable.
        """
        model, head = policy.parameter_groups()
        if not model and not head:
            what = "none of its parameters asks for a gradient"
            raise UserError(f"model: {what}; nothing would train")
        masters = [_master(parameter) for parameter in model]
        groups = [
            {"params": masters, "lr": self.lr, "name": MODEL},
            {"params": head, "lr": self.value_lr, "weight_decay": 0.0, "name": HEAD},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        halves = [(own, master) for own, master in zip(model, masters, strict=True) if own is not master]
        if halves:
            for own, master in halves:
                own.register_post_accumulate_grad_hook(partial(_to_master, master))
            optimizer.register_step_pre_hook(lambda *_: _to_masters(halves))
            optimizer.register_step_post_hook(lambda *_: _from_masters(halves))
        share = partial(share_of_rate, self.schedule, self.warmup_steps, updates)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def share_of_rate(schedule: Schedule, warmup: int, updates: int, done: int) -> float:
    """The share of its rate that the update after `done` others has.

    Of n warm-up updates the i-th has i/n, so that the first moves something and the n-th has all
    of it (transformers gives them (i-1)/n: its first update is at rate 0). After them as in
    transformers, from 1 on: `linear` and `cosine` would reach 0 after the last update.
    """
    if done < warmup:
        return (done + 1) / warmup
    progress = (done - warmup) / max(1, updates - warmup)
    if schedule == "linear":
        return max(0.0, (updates - done) / max(1, updates - warmup))
    return 1.0 if schedule == "constant" else max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))


def _master(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    half = parameter.dtype in (torch.bfloat16, torch.float16)
    return torch.nn.Parameter(parameter.detach().float().clone()) if half else parameter


def _to_master(master: torch.nn.Parameter, own: torch.Tensor) -> None:
    """A micro-batch's gradient goes to the sum of those before it, in float32."""
    if own.grad is not None:
        wide = own.grad.float()
        master.grad = wide if master.grad is None else master.grad.add_(wide)
        own.grad = None


def _to_masters(halves: list[tuple[torch.nn.Parameter, torch.nn.Parameter]]) -> None:
    for own, master in halves:
        _to_master(master, own)


@torch.no_grad()
def _from_masters(halves: list[tuple[torch.nn.Parameter, torch.nn.Parameter]]) -> None:
    for own, master in halves:
        own.copy_(master)
        master.grad = None
