"""What is made once on this machine and kept: the tiny bases, unpacked GGUF files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path


def cache_folder() -> Path:
    """GRAO_BENCH_CACHE, or the user's cache folder for grao_bench."""
    return Path(os.environ.get("GRAO_BENCH_CACHE") or user_cache_path("grao_bench"))


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, which `make` fills now if it is not there: aside first, then renamed. One process
    makes it while others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            aside = folder.with_name(folder.name + ".partial")
            shutil.rmtree(aside, ignore_errors=True)
            make(aside)
            aside.rename(folder)
    return folder
