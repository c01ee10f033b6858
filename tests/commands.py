"""The command lines and other functions in processes of their own that have torch imported already.

One process imports what the commands do and each of them is its fork, so it costs tenths of a
second instead of seconds, and is as fresh as one that python starts: nothing has been computed in
it. As for a user, no hook checks types there. A variable that is read when a library is imported
comes too late; such a test starts python itself, or `Commands("spawn")`.
"""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Self
from unittest.mock import patch

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["grao_bench.runs.run", "grao_bench.train", "grao_bench.train_reward"])


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands in one process that stays alive, one after the other."""

    def __init__(self, start: Literal["forkserver", "spawn"] = "forkserver") -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        context = FORKED if start == "forkserver" else multiprocessing.get_context("spawn")
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, dict(os.environ)))
        self.process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pipe.send(None)
        self.process.join(timeout=60)

    def run(self, folder: Path, module: str, *arguments: str, **environment: str) -> Outcome:
        """`python -m grao_bench.<module> <arguments>`, in this folder, with these environment
        variables, and no folder of HH-RLHF."""
        self.pipe.send((folder, module, arguments, {"GRAO_BENCH_HH": ""} | environment))
        return self.pipe.recv()


class Command:
    """`python -m grao_bench.<module> <arguments>` in this folder, begun in a process of its own."""

    def __init__(self, folder: Path, module: str, *arguments: str, **environment: str) -> None:
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        environment = {**os.environ, "GRAO_BENCH_HH": "", **environment}
        self.process = FORKED.Process(target=_once, args=(theirs, environment, folder, module, arguments))
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        """As a machine's end does."""
        self.process.kill()
        self.process.join()

    def wait(self) -> Outcome:
        """Raises EOFError if it ended without a word."""
        outcome = self.pipe.recv()
        self.process.join()
        return outcome


def begin(function: Callable[..., Any], *arguments: Any, **environment: str) -> BaseProcess:
    """A process of its own that runs the function, which is pickled."""
    given = {**os.environ, **environment}
    process = FORKED.Process(target=_call, args=(given, function, *arguments))
    process.start()
    return process


def _serve(pipe: Connection, environment: Mapping[str, str]) -> None:
    _begin(environment)
    while (asked := pipe.recv()) is not None:
        pipe.send(_run(*asked))
        loky = sys.modules.get("joblib.externals.loky")
        # its workers would be used again, in the folder of the command that started them
        if loky is not None:
            loky.get_reusable_executor().shutdown()


def _once(pipe: Connection, environment: Mapping[str, str], folder: Path, *asked: Any) -> None:
    _begin(environment)
    sys.path.insert(0, str(folder))  # as `python -m` has it
    pipe.send(_run(folder, *asked, {}))


def _call(environment: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> None:
    _begin(environment)
    function(*arguments)


def _begin(environment: Mapping[str, str]) -> None:
    """The variables of the process that asked: a fork has those of the test that came first."""
    os.environ.clear()
    os.environ.update(environment)


def _run(folder: Path, module: str, arguments: tuple[str, ...], environment: dict[str, str]) -> Outcome:
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    argv = [f"grao_bench.{module}", *arguments]
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", argv),
        patch.dict(os.environ, environment),
    ):
        code = _code(module)
    return Outcome(code, out.getvalue(), err.getvalue())


def _code(module: str) -> int:
    try:
        return int(importlib.import_module(f"grao_bench.{module}").main() or 0)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
