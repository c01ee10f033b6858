"""Two real models, for tests that are marked slow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from platformdirs import user_cache_path

MAKER = Path(__file__).parents[1] / "../shared/models/pretrained.py"


def pretrained(name: str) -> Path:
    """The folder of `smollm2` (SmolLM2-135M-Instruct) or `gemma` (Gemma 3 270M, the base).

    GRAO_BENCH_SMOLLM2 or GRAO_BENCH_GEMMA names it; else it is made once in the user's cache where
    what makes it is there. Skips the test, with the reason, where it can't be had.
    """
    given = os.environ.get(f"GRAO_BENCH_{name.upper()}")
    if given:
        return Path(given)
    folder = user_cache_path("grao_bench") / "pretrained" / name
    if not (folder / "tokenizer_config.json").is_file():
        if not MAKER.is_file():
            pytest.skip(f"{name}: set GRAO_BENCH_{name.upper()} to its folder")
        command = [sys.executable, str(MAKER), name, str(folder)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"{name}: can't be made ({(made.stderr.splitlines() or ['?'])[-1]})")
    return folder
