"""The worker's end of the pipe: one line asks for a step, one line of JSON answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, TextIO

from benchmarks.machine import peak_rss_mb


@dataclass(frozen=True)
class Step:
    """What one whole training step took and did. Seconds; `optimizer` is None where an arm can't tell it apart from the rest.

    generated: answer tokens sampled (0 where nothing is). sequence_tokens: tokens of all sequences, prompts counted once per answer.
    """

    seconds: float
    rollout: float
    optimizer: float | None
    generated: int
    sequence_tokens: int
    peak_rss_mb: float
    peak_device_mb: float | None


class Asked:
    """Waits for "step" lines on stdin. Standard output is kept for the answers: what libraries print goes to standard error."""

    def __init__(self) -> None:
        self.answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def wait(self) -> bool:
        """True when a step is asked for, False when there are no more."""
        return sys.stdin.readline().strip() == "step"

    def answer(self, value: Step | dict[str, object]) -> None:
        """Send one line."""
        self.answers.write(json.dumps(asdict(value) if isinstance(value, Step) else value) + "\n")
        self.answers.flush()


class Clock:
    """Seconds on a device: waits for what was queued there before it reads the time."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")

    def now(self) -> float:
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        return perf_counter()

    def peak_mb(self) -> float | None:
        """The most device memory allocated so far, in MB; None on a CPU."""
        if not self.cuda:
            return None
        import torch

        return float(torch.cuda.max_memory_allocated()) / 1e6


def ready(clock: Clock) -> dict[str, object]:
    """What an arm answers when its model is built: what is resident by then, and the GPU's name where it runs on one."""
    if not clock.cuda:
        return {"base_rss_mb": peak_rss_mb(), "gpu": None}
    import torch

    return {"base_rss_mb": peak_rss_mb(), "gpu": torch.cuda.get_device_name()}


class Timed:
    """A function that is called through, with the seconds of its calls added up and its last result kept."""

    def __init__(self, function: Callable[..., Any], clock: Clock) -> None:
        self.function, self.clock = function, clock
        self.seconds = 0.0
        self.result: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        begun = self.clock.now()
        self.result = self.function(*args, **kwargs)
        self.seconds += self.clock.now() - begun
        return self.result

    def taken(self) -> float:
        """The seconds since the last time this was asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
