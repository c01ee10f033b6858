"""What a run was made of: package versions, code revision, hardware, and fingerprints of its data and base."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from grao_bench.types import Example

_PACKAGES = ("grao-bench", "torch", "transformers", "tokenizers", "numpy", "hydra-core", "datasets")


def environment(precision: torch.dtype, threads: int) -> dict[str, str]:
    """Versions, git revision and whether the tree was dirty, hardware, threads and precision."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    revision = _git("rev-parse", "HEAD")
    found["git"] = revision or "not a checkout"
    found["git_dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))) if revision else "unknown"
    found["hardware"] = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return found | {
        "threads": str(threads),
        "precision": str(precision).removeprefix("torch."),
        "float32_matmul": torch.get_float32_matmul_precision(),
    }


def data_fingerprint(examples: Iterable[Example]) -> str:
    """sha256 over the examples, ids and texts, in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(asdict(example), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def weights_fingerprint(model: torch.nn.Module) -> str:
    """sha256 over the model's parameters, names and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.named_parameters()):
        digest.update(name.encode() + b"\0")
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()
