"""What a figure was measured on, and what a process has used of it. Imports no torch."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MATRIX_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


def describe() -> dict[str, object]:
    """Processor, cores (all, and those this process may use), memory, package versions and the git revision."""
    cpuinfo = _fields("/proc/cpuinfo")
    flags = cpuinfo.get("flags", "").split()
    found: dict[str, object] = {
        "cpu": cpuinfo.get("model name", platform.processor() or platform.machine()),
        "cpu_flags": [flag for flag in MATRIX_FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(int(_fields("/proc/meminfo").get("MemTotal", "0 kB").split()[0]) / 2**20, 1),
        "python": platform.python_version(),
        "git": _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else ""),
    }
    return found | {package: _version(package) for package in ("torch", "transformers", "trl")}


def peak_rss_mb() -> float:
    """The most memory this process ever had resident, in MB (10^6 bytes).

    VmHWM where there is /proc: ru_maxrss also counts what the parent had when it started this process.
    """
    high = _fields("/proc/self/status").get("VmHWM")
    kib = int(high.split()[0]) if high else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib * 1024 / 1e6


def _fields(path: str) -> dict[str, str]:
    """The first value of each "name: value" line; empty where there is no such file."""
    found: dict[str, str] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
