"""Where a model runs and in which precision: the words of a config as torch's own values."""

from __future__ import annotations

import torch

from grao_bench.core.errors import UserError
from grao_bench.core.precision import bfloat16_in_hardware


def resolve_device(device: str, key: str = "model.device") -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU.

    UserError, naming the config's `key`, for a CUDA device where there is none, or no device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        why = "this machine's torch sees no CUDA device"
        raise UserError(f"{key}={device}: {why}; use cpu or auto")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError:
        raise UserError(f"{key}={device}: is no device; use cpu, cuda or auto") from None


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it, else float32."""
    if dtype == "auto":
        return torch.bfloat16 if bfloat16_in_hardware(device) else torch.float32
    resolved: torch.dtype = getattr(torch, dtype)
    return resolved
