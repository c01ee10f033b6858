"""Checkpoints of a trainer: written aside and renamed, so that a half-written one is never read."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from grao_bench.errors import UserError
from grao_bench.training.loop import Trainer


def save_checkpoint(folder: Path, trainer: Trainer) -> None:
    """Policy, optimiser, schedule and step, replacing the folder's former checkpoint."""
    aside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    state = {
        "policy": trainer.policy.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "masters": [parameter.detach() for parameter in _masters(trainer)],
        "schedule": trainer.schedule.state_dict(),
        "step": trainer.step,
    }
    torch.save(state, aside / "state.pt")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def load_checkpoint(folder: Path, trainer: Trainer) -> bool:
    """Put a checkpoint's state into the trainer; False where there is none. UserError where it does not fit the trainer."""
    path = folder / "state.pt"
    if not path.exists():
        return False
    state = torch.load(path, map_location=trainer.policy.model.device, weights_only=True)
    try:
        trainer.policy.load_state_dict(state["policy"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for parameter, stored in zip(_masters(trainer), state["masters"], strict=True):
                parameter.copy_(stored)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: does not fit this run ({str(error).splitlines()[0]}); remove its folder to start the cell anew") from None
    trainer.schedule.load_state_dict(state["schedule"])
    trainer.step = state["step"]
    return True


def _masters(trainer: Trainer) -> list[torch.nn.Parameter]:
    """The optimiser's float32 copies of a half-precision policy's parameters."""
    own = {id(parameter) for parameter in trainer.policy.parameters()}
    return [parameter for group in trainer.optimizer.param_groups for parameter in group["params"] if id(parameter) not in own]
