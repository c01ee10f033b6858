"""The command lines in a process of their own that stays alive, so that torch is imported once for many commands.

`Commands()` is the test's side, `python -m tests.commands` the process's. As for a user, no hook checks types there.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands in the process, one after the other."""

    def __init__(self) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-m", "tests.commands"], cwd=ROOT, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, folder: Path, module: str, *arguments: str, **environment: str) -> Outcome:
        """`python -m grao_bench.<module> <arguments>`, in this folder, with these environment variables, and no folder of HH-RLHF."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), module, arguments, {"GRAO_BENCH_HH": ""} | environment]) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))


def _serve() -> None:
    replies = sys.stdout
    for line in sys.stdin:
        folder, module, arguments, environment = json.loads(line)
        os.chdir(folder)
        sys.argv = [f"grao_bench.{module}", *arguments]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, environment):
            code = _code(module)
        loky = sys.modules.get("joblib.externals.loky")
        if loky is not None:  # its workers would be used again, in the folder of the command that started them
            loky.get_reusable_executor().shutdown()
        print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}), file=replies, flush=True)


def _code(module: str) -> int:
    try:
        return int(importlib.import_module(f"grao_bench.{module}").main() or 0)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    _serve()
