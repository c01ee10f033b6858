"""What training cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.gather.spent import COUNTED, counts_of
from grao_bench.reporting.tables.columns import Column, counted, folders, made_of, measured, naming
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, with_sd

NOTE = (
    "means over seeds, seconds ± sd: training steps alone, without probes and evaluation; the peak"
    " is the largest of the seeds. SFT and DPO generate nothing. A run that started from another"
    " run shows its own stage"
)


@dataclass(frozen=True)
class Cost:
    """What the runs of a cell took."""

    cell: Cell

    def count(self, name: str) -> float | None:
        """Of steps, answers or tokens, the mean over seeds."""
        runs = self.cell.runs
        return over_seeds([counts_of(run)[name] for run in runs]).mean if runs else None

    @property
    def seconds(self) -> Interval | None:
        """Of training steps."""
        timed = [run.timing for run in self.cell.runs if run.timing]
        each = [sum(float(line["seconds"]) for line in timing) for timing in timed]
        return over_seeds(each) if each else None

    @property
    def per_step(self) -> str:
        """Seconds."""
        spent, steps = self.seconds, self.count("steps")
        return number(spent.mean / steps, 3) if spent and steps else NONE

    @property
    def peak(self) -> float | None:
        """MiB, of the largest run."""
        peaks = [peak for run in self.cell.runs if (peak := peak_memory(run)) is not None]
        return max(peaks) if peaks else None

    @property
    def peak_text(self) -> str:
        """ "1,024 MiB"."""
        if self.peak is not None:
            return f"{self.peak:,.0f} MiB"
        return "not recorded" if self.cell.runs else NONE

    @property
    def hardware(self) -> str:
        """What the runs were made on."""
        names = {run.info.environment.get("hardware", "") for run in self.cell.runs}
        return ", ".join(sorted(names - {""}))

    @property
    def notes(self) -> str:
        """What did not finish."""
        lost = self.cell.missing
        return "; ".join(f"seed {one.seed} not finished: {one.reason}" for one in lost)


def cost(cells: Sequence[Cell]) -> Sheet | None:
    """Tokens, seconds and peak memory per method; None where nothing was trained."""
    lines = [Cost(cell) for cell in cells if cell.trained]
    if not lines:
        return None
    runs = tuple(folders(one.cell) for one in lines)
    return Sheet("cost", "What training cost", *made_of(_columns(), lines), (NOTE,), runs)


def _columns() -> list[Column[Cost]]:
    def counts(name: str) -> Column[Cost]:
        def text(one: Cost) -> str:
            value = one.count(name)
            return NONE if value is None else number(value, 0)

        return Column(COUNTED[name], text, lambda one: {name: one.count(name)})

    return [
        *naming(lambda one: one.cell),
        Column("trained on", lambda one: one.cell.data),
        counted("seeds", "seeds", lambda one: len(one.cell.runs)),
        *(counts(name) for name in COUNTED),
        measured("seconds", "seconds", lambda one: one.seconds, 1, with_sd),
        Column("seconds per step", lambda one: one.per_step),
        Column("peak memory", lambda one: one.peak_text, lambda one: {"peak_memory_mib": one.peak}),
        Column(
            "hardware", lambda one: one.hardware or NONE, lambda one: {"hardware": one.hardware}
        ),
        Column("notes", lambda one: one.notes),
    ]


def peak_memory(run: Run) -> float | None:
    """MiB; None where it was not recorded."""
    return None if run.info.peak_memory is None else run.info.peak_memory / 2**20
