"""How precise matrix products are, chosen once per process and checked rather than assumed."""

from __future__ import annotations

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
    """Whether bfloat16 products are faster there than float32's: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_tile"))
