"""Checkpoints of a training: written aside and renamed, so a half-written one is never read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from grao_bench.core.errors import UserError
from grao_bench.training.gradient import Trained


def save_checkpoint(folder: Path, trained: Trained) -> None:
    """Weights, optimiser, schedule and step, replacing the folder's former checkpoint."""
    aside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    state = {
        "module": trained_state(trained.module),
        "optimizer": trained.optimizer.state_dict(),
        "masters": [parameter.detach() for parameter in _masters(trained)],
        "schedule": trained.schedule.state_dict(),
        "step": trained.step,
    }
    torch.save(state, aside / "state.pt")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def load_checkpoint(folder: Path, trained: Trained) -> bool:
    """Put a checkpoint's state into what is trained; False where there is none.

    UserError where it does not fit.
    """
    path = folder / "state.pt"
    if not path.exists():
        return False
    device = next(trained.module.parameters()).device
    start_anew = "remove its folder to start the cell anew"
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises what it likes over a torn or foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: can't be read ({reason}); {start_anew}") from None
    try:
        load_trained_state(trained.module, state["module"])
        trained.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for parameter, stored in zip(_masters(trained), state["masters"], strict=True):
                parameter.copy_(stored)
        trained.schedule.load_state_dict(state["schedule"])
        trained.step = state["step"]
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: does not fit this run ({reason}); {start_anew}") from None
    return True


def trained_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's state but for its frozen weights, which are where they came from: of a model
    with an adapter, the adapter."""
    frozen = _frozen(module)
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_trained_state(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put back what `trained_state` gave. RuntimeError where it is not of such a module."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    if odd := [*unexpected, *(set(missing) - _frozen(module))]:
        raise RuntimeError(f"its names are others: {min(odd)}")


def _frozen(module: torch.nn.Module) -> set[str]:
    named = module.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if not parameter.requires_grad}


def named_masters(trained: Trained) -> dict[str, torch.Tensor]:
    """The float32 copy of each half-precision parameter, by its name in the model; empty where
    none is."""
    module: Any = trained.module
    model, _ = module.parameter_groups()
    names = {id(each): name for name, each in module.model.named_parameters()}
    own = trained.optimizer.param_groups[0]["params"]
    pairs = zip(model, own, strict=True) if model else ()
    return {names[id(each)]: master for each, master in pairs if each is not master}


@torch.no_grad()
def load_masters(trained: Trained, masters: Mapping[str, torch.Tensor]) -> None:
    """Put copies of these names in the place of those that were made from rounded weights."""
    for name, master in named_masters(trained).items():
        if name in masters:
            master.copy_(masters[name])


def _masters(trained: Trained) -> list[torch.nn.Parameter]:
    """The optimiser's float32 copies of half-precision parameters."""
    own = {id(parameter) for parameter in trained.module.parameters()}
    groups = trained.optimizer.param_groups
    return [each for group in groups for each in group["params"] if id(each) not in own]
