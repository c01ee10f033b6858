"""What a run was made of: package versions, code revision, hardware, and fingerprints of its data and base."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

import grao_bench
from grao_bench.core.errors import UserError
from grao_bench.core.types import Example

_OWN, _ABSENT = "grao-bench", "not installed"
_BENEATH = ("torch", "transformers", "tokenizers", "numpy", "hydra-core", "datasets", "joblib", "peft")
"""Recorded also where grao_bench runs without being installed, and so declares nothing."""


def environment(device: torch.device, precision: torch.dtype, threads: int) -> dict[str, str]:
    """What a run ran in: the versions of Python and of every package that grao_bench declares or that decides its numbers, git revision
    and whether anything was uncommitted, the hardware that `device` is, threads and precision. cuda is empty on a CPU.

    `git` is "not a checkout" for an installed copy, also where it is installed below somebody else's repository. Ask before training:
    by its end the files may have changed.
    """
    gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        **package_versions(),
        **code_revision(Path(grao_bench.__file__).resolve().parent),
        "hardware": torch.cuda.get_device_name(device) if gpu else _processor(),
        "processor": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": str(torch.version.cuda or "") if gpu else "",
        "system": platform.platform(),
        "threads": str(threads),
        "precision": str(precision).removeprefix("torch."),
        "float32_matmul": torch.get_float32_matmul_precision(),
    }


def package_versions() -> dict[str, str]:
    """Package -> version, or "not installed": grao_bench, what it requires without an extra, and what those need to make the numbers."""
    declared = [] if _version(_OWN) == _ABSENT else [one for one in requires(_OWN) or [] if "extra ==" not in one]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in declared}
    return {name: _version(name) for name in sorted({_OWN, *_BENEATH, *names})}


def code_revision(folder: Path) -> dict[str, str]:
    """git: the commit that `folder`'s repository stands at. git_dirty: whether a tracked file differs from it anywhere, or a file that git
    neither tracks nor ignores lies among the code or its configuration."""
    if not _git(folder, "ls-files", "."):  # the folder lies in a repository that does not hold it, or in none
        return {"git": "not a checkout", "git_dirty": "unknown"}
    root = Path(_git(folder, "rev-parse", "--show-toplevel"))
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    beside = [str(path) for path in (folder, root / "conf", root / "sweeps") if path.is_dir()]
    added = _git(root, "ls-files", "--others", "--exclude-standard", "--", *beside)
    return {"git": _git(root, "rev-parse", "HEAD"), "git_dirty": str(bool(changed or added))}


def data_fingerprint(examples: Iterable[Example]) -> str:
    """sha256 over the examples in order: ids, texts, and what else a row holds. UserError for
    metadata that have no form as JSON."""
    digest = hashlib.sha256()
    for example in examples:
        row = asdict(replace(example, metadata={})) | {"metadata": dict(example.metadata)}
        for key in ("demonstrations", "label", "metadata", "cluster"):
            if row[key] in ((), None, {}):
                del row[key]  # a set that never had it keeps the fingerprint that its records hold
        if not row["conversational"]:
            del row["conversational"]
        try:
            line = json.dumps(row, sort_keys=True, ensure_ascii=False, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            fix = "use texts, numbers, lists and mappings whose keys are texts"
            raise UserError(f"example {example.id}: its metadata: {error}; {fix}") from None
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What JSON has no form for, in one: an array's or a number's plain values, a date's text."""
    for plain in ("tolist", "isoformat"):
        if hasattr(value, plain):
            return getattr(value, plain)()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} can't be recorded")


def weights_fingerprint(model: torch.nn.Module) -> str:
    """sha256 over the model's parameters, names and bytes."""
    return tensors_fingerprint(model.named_parameters())


def tensors_fingerprint(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """sha256 over tensors in their names' order, names and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(named, key=lambda each: each[0]):
        digest.update(name.encode() + b"\0")
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


SMALL_FILE = 2**26
"""Bytes up to which `content_digest` reads a file's whole content; of a larger one 64 pieces."""


def content_digest(*paths: str) -> dict[str, str]:
    """16 hex digits of the content of each file or folder, by its path; none for a path that is not
    there (a hub id). A folder's: of the files in it, by name, without what is in folders below."""
    places = {path: Path(path).expanduser() for path in paths}
    found = {path: _files(place) for path, place in places.items() if place.exists()}
    digests = {path: "".join(map(_file_digest, files)) for path, files in found.items()}
    return {path: hashlib.sha256(text.encode()).hexdigest()[:16] for path, text in digests.items()}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))


def _file_digest(path: Path) -> str:
    at = path.stat()
    return path.name + _read_digest(str(path.resolve()), at.st_size, at.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_digest(path: str, size: int, changed: int) -> str:
    """sha256 of a file's bytes; of more than SMALL_FILE of them, of 64 evenly spaced MiB: training
    moves every weight."""
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= SMALL_FILE:
            digest.update(file.read())
        else:
            for piece in range(64):
                file.seek(piece * (size - 2**20) // 63)
                digest.update(file.read(2**20))
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _ABSENT


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()
