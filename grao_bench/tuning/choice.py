"""From the records of trials to the choice, by one rule, and its tables. Needs no torch.

The rule: the highest RAS on dev after the last step, mean over the seeds; of equal ones the lowest
rate, then the lowest of each further key. A trial that lacks a seed can't be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from grao_bench.core.errors import UserError
from grao_bench.core.records import Run
from grao_bench.reporting.figures.drawing import Drawing, finish, sketch
from grao_bench.reporting.tables.sheets import Grid, grid_of
from grao_bench.tuning.protocol import RATE, Settings, edges

RULE = "highest RAS on dev after the last step, mean over the seeds; of equal ones the lowest rate"


@dataclass(frozen=True)
class Trial:
    """Settings of an objective that were tried on a set: the round (0 the first), and RAS on dev in
    percent by seed, of the seeds that finished."""

    objective: str
    data: str
    settings: Settings
    round: int
    dev_ras: Mapping[int, float]

    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.dev_ras.values())


def dev_ras(run: Run) -> float:
    """Percent, of the last probe."""
    metrics = run.probes[-1].metrics if run.probes else {}
    if "ras" not in metrics:
        raise UserError(f"{run.folder}: has no RAS on dev, so nothing can be chosen by it")
    return 100 * metrics["ras"]


def best(trials: Sequence[Trial], seeds: int) -> Trial:
    """By the rule, of an objective's trials on a set. UserError where none has all its seeds."""
    whole = [one for one in trials if len(one.dev_ras) == seeds]
    if not whole:
        where = f"{trials[0].objective} on {trials[0].data}"
        what = f"no trial of {where} finished with all seeds"
        raise UserError(f"tune: {what}; see error.txt in its folders")
    return min(whole, key=lambda one: (-round(one.mean(), 9), _order(one.settings)))


def _order(settings: Settings) -> tuple[float, ...]:
    values = dict(settings)
    return (values.get(RATE, 0.0), *(value for key, value in settings if key != RATE))


@dataclass(frozen=True)
class Choice:
    """What the trials of an objective on a set gave; at_edge: keys of the best that are the lowest
    or highest tried."""

    best: Trial
    trials: tuple[Trial, ...]
    at_edge: Mapping[str, str]


def choices(trials: Iterable[Trial], seeds: int) -> list[Choice]:
    """Of every objective on every set, in the trials' order."""
    grouped: dict[tuple[str, str], list[Trial]] = {}
    for one in trials:
        grouped.setdefault((one.objective, one.data), []).append(one)
    found = []
    for same in grouped.values():
        chosen = best(same, seeds)
        tried = [one.settings for one in same]  # a trial that failed is one that did no better
        found.append(Choice(chosen, tuple(same), edges(tried, chosen.settings)))
    return found


def frame(made: Sequence[Choice]) -> pd.DataFrame:
    """A row per trial and seed: objective, data, round, each key, seed, dev_ras, chosen."""
    rows = [
        {
            "objective": one.objective,
            "data": one.data,
            "round": one.round,
            **dict(one.settings),
            "seed": seed,
            "dev_ras": round(value, 4),
            "chosen": one is choice.best,
        }
        for choice in made
        for one in sorted(choice.trials, key=lambda trial: _order(trial.settings))
        for seed, value in (one.dev_ras or {-1: float("nan")}).items()
    ]
    return pd.DataFrame(rows)


def table(made: Sequence[Choice]) -> Grid:
    """A line per objective and set: what was chosen, its score, the runner-up's, and the count."""
    rows = []
    for one in made:
        others = [each.mean() for each in one.trials if each is not one.best and each.dev_ras]
        edge = ", ".join(f"{key} {where}" for key, where in one.at_edge.items()) or "no"
        by_seed = ", ".join(f"{value:.1f}" for value in one.best.dev_ras.values())
        rows.append(
            (
                one.best.objective,
                one.best.data,
                ", ".join(f"{key}={value:g}" for key, value in one.best.settings),
                f"{one.best.mean():.1f}",
                by_seed,
                f"{max(others):.1f}" if others else "-",
                str(len(one.trials)),
                edge,
            )
        )
    scores = ("RAS on dev", "by seed", "second best")
    return grid_of(("objective", "set", "chosen", *scores, "trials", "at an edge"), rows)


def scores_by_rate(made: Sequence[Choice], data: str) -> Grid:
    """RAS on dev of every objective at every rate on a set, mean over seeds (and the further keys'
    best)."""
    here = [one for one in made if one.best.data == data]
    rates = sorted({dict(trial.settings)[RATE] for one in here for trial in one.trials})
    rows = []
    for one in here:
        cells = []
        for rate in rates:
            tried = [each for each in one.trials if dict(each.settings)[RATE] == rate]
            means = [each.mean() for each in tried if each.dev_ras]
            cells.append(f"{max(means):.1f}" if means else "")
        rows.append((one.best.objective, *cells))
    return grid_of(("objective", *(f"{rate:g}" for rate in rates)), rows)


def drawing(made: Sequence[Choice]) -> Drawing:
    """RAS on dev against the rate, a line per objective, a panel per set, a dot per seed."""
    sets = list(dict.fromkeys(one.best.data for one in made))
    with sketch(1, len(sets), width=4.8 * len(sets)) as drawn:
        for axes, data in zip(drawn.figure.axes, sets, strict=True):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(axis="x", labelrotation=30)
            axes.set(title=data, xlabel="learning rate", ylabel="RAS on dev, percent")
            for i, one in enumerate([one for one in made if one.best.data == data]):
                _line(axes, one, f"C{i}")
        title = "RAS on dev against the learning rate"
        caption = "Means over the seeds; a dot is a seed, a ring the choice."
        return finish(drawn, "score_against_rate", "tuning", title, caption, frame(made))


def _line(axes: Axes, one: Choice, colour: str) -> None:
    found = [(dict(trial.settings)[RATE], trial) for trial in one.trials if trial.dev_ras]
    points = sorted(found, key=lambda point: point[0])
    xs, ys = [x for x, _ in points], [trial.mean() for _, trial in points]
    axes.plot(xs, ys, color=colour, label=one.best.objective)
    for x, trial in points:
        seeds = list(trial.dev_ras.values())
        axes.plot([x] * len(seeds), seeds, ".", color=colour, markersize=4)
    at = dict(one.best.settings)[RATE]
    axes.plot([at], [one.best.mean()], "o", color=colour, markersize=10, fillstyle="none")
