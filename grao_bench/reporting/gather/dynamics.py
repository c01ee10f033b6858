"""How fast: the steps that a run takes to its best, and to another method's. The paper's "50% fewer
steps", as a measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.gather.roles import BASE, rival_baselines

SHARE = 0.95
"""A run is at a level when it has gained this share of the way there from the base: a curve's very
maximum is where the noise is."""

METRIC = "reward"


def references(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Whom speed is shown against, as in the paper's Figure 2: the baselines that draw rollouts."""
    settings = [(cell, cell.config.get("objective")) for cell in cells]
    told = [(one, found) for one, found in settings if isinstance(found, Mapping)]
    return rival_baselines((one.objective, one.role, found) for one, found in told)


def probe_series(run: Run, metric: str) -> pd.Series:
    """A metric of the dev-batch probes, indexed by step; empty when it was not measured."""
    return pd.Series(
        {
            probe.step: float(probe.metrics[metric])
            for probe in run.probes
            if metric in probe.metrics
        },
        dtype=float,
    )


def best_gain(run: Run, metric: str = METRIC) -> float:
    """How far the best probe lies above the base's (step 0); nan when the base's was not measured,
    never below 0."""
    series = probe_series(run, metric)
    return float(series.max() - series.loc[0]) if 0 in series.index else math.nan


def steps_to_gain(run: Run, gain: float, metric: str = METRIC, share: float = SHARE) -> float:
    """The first probed step at which `share` of `gain` over the base is reached; nan when it never
    is, or the gain is not above 0.

    As fine as the probes are apart.
    """
    series = probe_series(run, metric)
    if 0 not in series.index or not gain > 0:
        return math.nan
    there = series.index[series - series.loc[0] >= share * gain - 1e-12]
    return float(there[0]) if len(there) else math.nan


def steps_to_best(run: Run, metric: str = METRIC, share: float = SHARE) -> float:
    """The first probed step at which the run has `share` of its own best gain; nan when it never
    rises above the base."""
    return steps_to_gain(run, best_gain(run, metric), metric, share)


def fewer_steps(
    cell: Cell, reference: Cell, to: str, metric: str = METRIC
) -> tuple[Interval | None, str]:
    """How many percent fewer steps than the reference a cell needs, over the seeds that both have;
    and why there is no number.

    100 (1 - steps / reference's steps), paired by seed; negative where it needs more. to: "own"
    (each to its own best) or "reference" (both to the reference's best). A seed that never gets
    there has no number, and a mean over the others would flatter: then there is none at all.
    """
    theirs = {run.info.seed: run for run in reference.runs}
    pairs = [(run, theirs[run.info.seed]) for run in cell.runs if run.info.seed in theirs]
    if not pairs:
        return None, "no common seed"
    savings = []
    for run, other in pairs:
        ours = (
            steps_to_best(run, metric)
            if to == "own"
            else steps_to_gain(run, best_gain(other, metric), metric)
        )
        savings.append(100.0 * (1.0 - ours / steps_to_best(other, metric)))
    lost = sum(math.isnan(saving) for saving in savings)
    if lost:
        return None, f"not reached in {lost} of {len(pairs)} seeds"
    return over_seeds(savings), ""


def steps_frame(cells: Sequence[Cell], metric: str = METRIC) -> pd.DataFrame:
    """A line per cell with probes (the base's and later ones): its best gain, its steps to that,
    the savings against the `references`.

    Columns: model, data, method, objective, config_hash, seeds; never: seeds that never rose above
    the base; as Interval or None: best_gain_interval, steps_to_best_interval (None where a seed
    never rose), `fewer_than_<reference>_to_<own|reference>`, with its reason for None in `..._why`.
    A reference that is not there, or has several configurations, gives None.
    """
    trained = [
        replace(cell, runs=tuple(run for run in cell.runs if _probed(run, metric)))
        for cell in cells
        if cell.objective != BASE
    ]
    trained = [cell for cell in trained if cell.runs]
    against, lines = references(cells), []
    for cell in trained:
        gains = [best_gain(run, metric) for run in cell.runs]
        steps = [steps_to_best(run, metric) for run in cell.runs]
        reached = [value for value in steps if not math.isnan(value)]
        line: dict[str, object] = {
            "model": cell.model,
            "data": cell.data,
            "method": cell.label,
            "objective": cell.objective,
            "config_hash": cell.config_hash,
            "seeds": len(cell.runs),
            "never": len(steps) - len(reached),
            "best_gain_interval": over_seeds(gains),
            "steps_to_best_interval": over_seeds(reached)
            if reached and len(reached) == len(steps)
            else None,
        }
        lines.append(line | _savings(cell, trained, against, metric))
    return pd.DataFrame(lines)


def _savings(
    cell: Cell, cells: Sequence[Cell], against: Sequence[str], metric: str
) -> dict[str, object]:
    """`fewer_steps` than each reference that has one configuration here."""
    line: dict[str, object] = {}
    same = [other for other in cells if (other.model, other.data) == (cell.model, cell.data)]
    for name in against:
        found = [other for other in same if other.label == name]
        for to in ("own", "reference"):
            known = len(found) == 1 and found[0] is not cell
            saving, why = fewer_steps(cell, found[0], to, metric) if known else (None, "")
            line |= {f"fewer_than_{name}_to_{to}": saving, f"fewer_than_{name}_to_{to}_why": why}
    return line


def _probed(run: Run, metric: str) -> bool:
    series = probe_series(run, metric)
    return len(series) > 1 and 0 in series.index
