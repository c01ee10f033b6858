"""What a finished run's folder gives to who goes on from it: its model, and its float32 masters.

A model in half precision is trained through float32 copies, its masters: its own digits are too few
for small steps. They lie beside the model, so that a run that starts from it goes on from them and
not from what they were rounded to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_info

MASTERS_FILE = "masters.safetensors"


def model_of(run: str | Path, key: str) -> Path:
    """The folder of a run's model or adapter. UserError, naming the config's `key`, where it keeps
    none."""
    folder = Path(run) / "model"
    if folder.is_dir():
        return folder
    kept = "full"
    if (Path(run) / "run.json").is_file():
        kept = str(read_info(Path(run)).config.get("save_model"))
    if kept == "none":
        fix = "train it anew with save_model=full (and rerun=true), or give another"
        raise UserError(f"{key}={run}: keeps no model, as it ran with save_model=none; {fix}")
    raise UserError(f"{key}={run}: holds no model/; give the folder of a finished run")


def write_masters(run: Path, masters: Mapping[str, Tensor]) -> None:
    """Leave them beside the model: the name of a parameter -> its float32 copy."""
    from safetensors.torch import save_file

    held = {name: each.detach().cpu().contiguous() for name, each in masters.items()}
    save_file(held, run / MASTERS_FILE, metadata={"format": "pt"})


def read_masters(run: str | Path) -> dict[str, Tensor]:
    """The masters of a run; empty where its weights were float32. UserError for a torn file."""
    from safetensors.torch import load_file

    path = Path(run) / MASTERS_FILE
    if not path.is_file():
        return {}
    try:
        found: dict[str, Tensor] = load_file(path)
    except Exception as error:  # safetensors' own, the file system's
        what = f"{path}: can't be read ({error}), so the run's float32 weights are lost"
        raise UserError(f"{what}; copy it again, or remove it to start from rounded ones") from None
    return found


@torch.no_grad()
def restore(model: Any, masters: Mapping[str, Tensor]) -> None:
    """Give a model what its weights were rounded from; UserError where they are another model's."""
    parameters = dict(model.named_parameters())
    for name, value in masters.items():
        if name not in parameters or parameters[name].shape != value.shape:
            raise UserError(f"{MASTERS_FILE}: {name} is of another model than beside it")
        parameters[name].copy_(value)
