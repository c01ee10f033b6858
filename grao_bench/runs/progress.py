"""Progress for people: one bar for a cell, one display for a grid. On a terminal it moves; elsewhere it prints a line now and then."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from grao_bench.core.record_files import PARTIAL
from grao_bench.core.records import StepRecord

console = Console(stderr=True, highlight=False)
_LINE_EVERY = 30.0  # seconds between lines where there is no terminal


def _columns() -> list[ProgressColumn]:
    def kept() -> Column:
        return Column(no_wrap=True)  # on a narrow terminal the note gives way, not the figures

    return [
        TextColumn("{task.description}", table_column=kept()),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=kept()),
        TextColumn("{task.fields[rate]}", table_column=kept()),
        TextColumn("ETA", table_column=kept()),
        TimeRemainingColumn(table_column=kept()),
        TextColumn("{task.fields[note]}"),
    ]


class Bars:
    """Named bars with steps, rate, ETA and a note; where there is no terminal, a line every half minute and a last one."""

    def __init__(self) -> None:
        self.progress = Progress(*_columns(), console=console)
        self.tasks: dict[str, TaskID] = {}
        self.printed = 0.0

    def __enter__(self) -> Bars:
        if console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if console.is_terminal:
            self.progress.stop()

    def show(self, title: str, step: int, steps: int, note: str) -> None:
        """Bring a bar to `step` of `steps`."""
        if title not in self.tasks:
            self.tasks[title] = self.progress.add_task(title, total=steps, rate="", note="")
        task = self.tasks[title]
        speed = self.progress.tasks[task].speed
        self.progress.update(task, completed=step, note=note, rate=f"{speed:.1f} steps/s" if speed else "")
        if not console.is_terminal and (step == steps or time.monotonic() - self.printed > _LINE_EVERY):
            self.printed = time.monotonic()
            console.print(f"{title}  step {step}/{steps}  {note}", soft_wrap=True)

    def on_pretrain(self, step: int, steps: int, loss: float) -> None:
        """One step of the base's pre-training done."""
        self.show("pre-training the base (once, then cached)", step, steps, f"loss {loss:.3f}")


def say(line: str) -> None:
    """A line for who watches, above any bar."""
    console.print(line, soft_wrap=True)


def step_note(record: StepRecord) -> str:
    """What a bar says beside a training step: its loss, and the mean reward where answers were sampled."""
    reward = record.metrics.get("reward/mean")
    return f"loss {record.metrics['loss']:.3f}" + ("" if reward is None else f"  reward {reward:+.3f}")


@dataclass(frozen=True)
class GridState:
    """What the run folders say of a grid."""

    cells_done: int
    steps_done: int
    running: dict[str, tuple[int, float | None]]
    """Cell -> (steps done, last reward)."""


def grid_state(cells: Sequence[tuple[Path, str, int]]) -> GridState:
    """Read the state of (folder, title, steps) cells from their folders."""
    done, steps_done, running = 0, 0, {}
    for folder, title, steps in cells:
        if (path := folder.with_name(folder.name + PARTIAL) / "steps.jsonl").exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            steps_done += len(lines)
            running[title] = (len(lines), _last_reward(lines))
        elif folder.is_dir():
            done, steps_done = done + 1, steps_done + steps
    return GridState(done, steps_done, running)


class GridProgress:
    """The one display of a sweep, in the parent: cells and steps done, rate, ETA, and each running cell's reward."""

    def __init__(self, title: str, cells: Sequence[tuple[Path, str, int]]) -> None:
        self.title, self.cells = title, cells
        self.total = sum(steps for _, _, steps in cells)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.thread.start()

    def finish(self) -> None:
        """Show the last state and stop."""
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        bar = Progress(*_columns(), console=console)
        begun, first = time.monotonic(), grid_state(self.cells)
        task = bar.add_task(self.title, total=self.total, completed=first.steps_done, rate="", note="")
        if console.is_terminal:
            bar.start()
        printed = 0.0
        while True:
            last = self.stop.wait(1.0)
            state = grid_state(self.cells)
            rate = (state.steps_done - first.steps_done) / max(time.monotonic() - begun, 1e-9)
            running = [_cell_note(title, *at) for title, at in state.running.items()]
            note = "  ".join([f"{state.cells_done}/{len(self.cells)} cells", *running])
            bar.update(task, completed=state.steps_done, rate=f"{rate:.1f} steps/s", note=note)
            if not console.is_terminal and (last or time.monotonic() - printed > _LINE_EVERY):
                printed = time.monotonic()
                left = (self.total - state.steps_done) / rate if rate > 0 else float("nan")
                eta = "" if last or rate <= 0 else f"  ETA {left:.0f} s"
                console.print(f"{self.title}  {state.steps_done}/{self.total} steps  {rate:.1f} steps/s{eta}  {note}", soft_wrap=True)
            if last:
                break
        if console.is_terminal:
            bar.stop()


def _cell_note(title: str, steps: int, reward: float | None) -> str:
    return f"{title} {steps}" + (f" reward {reward:+.2f}" if reward is not None else "")


def _last_reward(lines: Sequence[str]) -> float | None:
    for line in reversed(lines[-2:]):
        try:
            reward = json.loads(line)["metrics"].get("reward/mean")
        except (json.JSONDecodeError, KeyError):  # a line that is being written
            continue
        return None if reward is None else float(reward)
    return None
