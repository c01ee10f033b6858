"""What happens late in training: how much a reward still varies, whether it still rises, and how
many groups teach nothing. The paper's "± 9.6% after step 800" and "plateaus", as measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.dynamics import METRIC, best_gain, probe_series
from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.tables.columns import Column, counted, folders, made_of, measured, naming
from grao_bench.reporting.tables.sheets import Sheet

LATE = 0.8
"""The last fifth: of 1,000 steps what the paper calls "after step 800"."""
FEWEST = 3
"""Probes, under which a range says nothing."""


def variation(run: Run) -> float:
    """Half the range of the dev reward over the last fifth of training, as a percentage of the
    run's best gain over the base; nan with under three probes there, or without a gain."""
    series = probe_series(run, METRIC)
    late = series[series.index >= LATE * _last(series)]
    gain = best_gain(run)
    if len(late) < FEWEST or not gain > 0:
        return math.nan
    return 100.0 * float(late.max() - late.min()) / 2 / gain


def rise(run: Run) -> float:
    """The mean dev reward of the last quarter of training minus that of the quarter before, as a
    percentage of the run's best gain; nan where either has no probe, or there is no gain."""
    series = probe_series(run, METRIC)
    end = _last(series)
    before = series[(series.index >= 0.5 * end) & (series.index < 0.75 * end)]
    after = series[series.index >= 0.75 * end]
    gain = best_gain(run)
    if before.empty or after.empty or not gain > 0:
        return math.nan
    return 100.0 * float(after.mean() - before.mean()) / gain


def silent_groups(run: Run) -> float:
    """The share of groups with equal rewards in the last fifth of the steps, percent; nan where
    the steps have no groups."""
    name = "groups_without_signal"
    late = [one for one in run.steps if one.step > LATE * len(run.steps)]
    values = [one.metrics[name] for one in late if name in one.metrics]
    return 100.0 * sum(values) / len(values) if values else math.nan


MEASURES: dict[str, tuple[str, Callable[[Run], float]]] = {
    "variation": ("variation %", variation),
    "rise": ("rise %", rise),
    "silent_groups": ("groups without signal %", silent_groups),
}


NOTES = (
    "variation: half the range of the dev reward over the last fifth of training, in percent of"
    " the run's best gain. The paper's ± 9.6% does not say what it is of",
    "rise: the dev reward of the last quarter minus that of the quarter before, likewise; an"
    " interval around 0 is no proof of a plateau, one above 0 speaks against it",
    "groups without signal: of the last fifth; equal rewards, where no group size is enough",
)


def late_training(cells: Sequence[Cell]) -> Sheet | None:
    """A row per trained configuration; None where nothing was probed. A seed that a measure has no
    number for takes the number away, since a mean over the others would flatter."""
    trained = [cell for cell in cells if cell.trained and cell.runs]
    measures = [measure for _, measure in MEASURES.values()]
    lines = [cell for cell in trained if any(_over_seeds(cell, one) for one in measures)]
    if not lines:
        return None
    columns: list[Column[Cell]] = [
        *naming(lambda cell: cell),
        Column("trained on", lambda cell: cell.data),
        counted("seeds", "seeds", lambda cell: len(cell.runs)),
        *map(_measure, MEASURES),
    ]
    name, title = "late_training", "Late in training: variation, rise, groups without signal"
    runs = tuple(folders(cell) for cell in lines)
    return Sheet(name, title, *made_of(columns, lines), NOTES, runs)


def _measure(name: str) -> Column[Cell]:
    title, measure = MEASURES[name]
    return measured(title, name, lambda cell: _over_seeds(cell, measure), 1)


def _over_seeds(cell: Cell, measure: Callable[[Run], float]) -> Interval | None:
    values = [measure(run) for run in cell.runs]
    return None if any(map(math.isnan, values)) else over_seeds(values)


def _last(series: pd.Series) -> float:
    return float(series.index.max()) if len(series) else math.nan
