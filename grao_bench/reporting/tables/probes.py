"""How far from the base the policy that was kept is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.intervals import Interval, from_error, over_seeds
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import kept_probe
from grao_bench.reporting.tables.columns import Column, counted, folders, made_of, measured, naming
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number

NAMES = {
    "kl": ("KL per answer, nats", 2),
    "kl_token": ("KL per token, nats", 4),
    "j_reference": ("J(y), nats per token", 3),
    "entropy": ("entropy, nats per token", 3),
}
NOTE = (
    "of the policy that was kept. Several seeds: mean ± sd [95% t interval]. One seed: mean [95%"
    " normal interval from the standard error over prompts]. KL and entropy from untruncated"
    " samples at T = 1; J(y) of the references"
)


@dataclass(frozen=True)
class Probed:
    """A cell's probes: of the policies that were kept, with their runs, and of those at step 0."""

    cell: Cell
    kept: Sequence[tuple[Run, Mapping[str, float]]]
    starts: Sequence[Mapping[str, float]]

    def found(self, name: str) -> Interval | None:
        """A metric of the policies that were kept."""
        metrics = [one for _, one in self.kept]
        return _of_probes(metrics, name, _prompts_probed(self.kept[0][0]))

    def at_start(self, name: str) -> float | None:
        """A metric's mean over the seeds, before training."""
        return _mean([one[name] for one in self.starts if name in one])

    @property
    def kl_error(self) -> float | None:
        """The standard error of KL within a run, mean over the seeds."""
        return _mean([one["kl_se"] for _, one in self.kept if "kl_se" in one])


def probes(cells: Sequence[Cell]) -> Sheet | None:
    """What the dev-batch probes say of the policy that was kept: KL to the base per answer and per
    token, J(y), entropy."""
    every = [_probed(cell) for cell in cells if cell.objective != BASE]
    lines = [one for one in every if one.kept]
    if not lines:
        return None
    title = "How far from the base: KL, J(y) and entropy on the dev batch"
    runs = tuple(folders(one.cell) for one in lines)
    return Sheet("probes", title, *made_of(_columns(), lines), (NOTE,), runs)


def _columns() -> list[Column[Probed]]:
    def kept(name: str) -> Column[Probed]:
        title, digits = NAMES[name]
        return measured(title, name, lambda one: one.found(name), digits)

    def at_start(title: str, name: str) -> Column[Probed]:
        return Column(
            title,
            lambda one: _text(one.at_start(name), 3),
            lambda one: {f"{name}_at_start": one.at_start(name)},
        )

    return [
        *naming(lambda one: one.cell),
        Column("trained on", lambda one: one.cell.data),
        counted("seeds", "seeds", lambda one: len(one.kept)),
        Column("", numbers=lambda one: {"kl_se_within_run": one.kl_error}),
        kept("kl"),
        Column("its standard error within a run", lambda one: _text(one.kl_error, 2)),
        *(kept(name) for name in NAMES if name != "kl"),
        at_start("J(y) at start", "j_reference"),
        at_start("entropy at start", "entropy"),
    ]


def _probed(cell: Cell) -> Probed:
    kept = [(run, probe.metrics) for run in cell.runs if (probe := kept_probe(run))]
    first = [run.probes[0] for run in cell.runs if run.probes]
    return Probed(cell, kept, [probe.metrics for probe in first if probe.step == 0])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _text(value: float | None, digits: int) -> str:
    return NONE if value is None else number(value, digits)


def _of_probes(metrics: Sequence[Mapping[str, float]], name: str, prompts: int) -> Interval | None:
    values = [one[name] for one in metrics if name in one]
    if len(values) == 1 and f"{name}_se" in metrics[0]:
        return from_error(values[0], metrics[0][f"{name}_se"], prompts)
    return over_seeds(values) if values else None


def _prompts_probed(run: Run) -> int:
    budget = run.info.config.get("budget")
    return int(budget.get("probe_prompts") or 0) if isinstance(budget, Mapping) else 0
