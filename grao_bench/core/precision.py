"""How precise matrix products are, chosen once per process and checked rather than assumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

FLOAT32_TOLERANCE = 1e-5
"""The relative error up to which a faster float32 product is still taken for float32; true float32 has about 4e-7 here."""


def float32_error(size: int = 512) -> float:
    """The largest error of a float32 product on the CPU against float64, relative to the largest entry."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(size, size, generator=random), torch.randn(size, size, generator=random)
    exact = a.double() @ b.double()
    return float(((a @ b).double() - exact).abs().max() / exact.abs().max())


def fast_float32() -> str:
    """Let the CPU's float32 products take torch's "medium" path where its error stays below FLOAT32_TOLERANCE; returns what is set.

    Medium may mean another library with the same precision (twice as fast on some AMD machines) or a silent bfloat16; only a
    measurement tells. On CUDA it would mean TF32, so nothing is changed there.
    """
    if torch.cuda.is_available():
        return torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    if float32_error() > FLOAT32_TOLERANCE:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


def bfloat16_in_hardware(device: torch.device) -> bool:
    """Whether bfloat16 products are faster there than float32's: CUDA from Ampere on, CPUs with
    AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return multiplies_bfloat16(torch.cpu.get_capabilities())


def multiplies_bfloat16(flags: Mapping[str, Any]) -> bool:
    """The same of a processor with these flags, those of `torch.cpu.get_capabilities`."""
    return bool(flags.get("avx512_bf16") or flags.get("amx_tile"))


@cache
def times_slower(size: int = 256) -> float:
    """How many times as long a bfloat16 product takes on this CPU as one in float32, measured in
    some milliseconds: the best of five of each."""
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        a = torch.ones(size, size, dtype=dtype)
        a @ a
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            a @ a
            taken.append(time.perf_counter() - started)
        seconds.append(min(taken))
    return seconds[0] / seconds[1]


def emulated(key: str, dtype: str, flags: Mapping[str, Any], slower: float) -> str:
    """What asking for bfloat16 costs on a processor with these flags, where its products take
    `slower` times as long as float32's; "" where it costs nothing or was not asked for."""
    if dtype != "bfloat16" or multiplies_bfloat16(flags) or slower <= 1:
        return ""
    cost = f"a matrix product takes {slower:.1f} times as long as in float32"
    why = "this processor has no bfloat16 products and emulates them"
    return f"{key}=bfloat16: {why}: {cost}; float32 is faster here, in twice the memory (auto)"
