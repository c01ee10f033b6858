"""A cell's scores on one set by one reward: a row of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from grao_bench.core.errors import UserError
from grao_bench.core.records import EvalRecord, ProbeRecord, Run, no_references
from grao_bench.reporting.gather.alarms import alarms, summarise
from grao_bench.reporting.gather.cells import Cell, EvalKey
from grao_bench.reporting.gather.comparable import base_records
from grao_bench.reporting.gather.intervals import (
    Interval,
    crossed,
    intervals,
    over_seeds,
    two_groups,
)
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.scores import Ties, per_prompt, without_reference
from grao_bench.reporting.gather.settings import differing
from grao_bench.reporting.text import number


@dataclass(frozen=True)
class Row:
    """One configuration on one set by one reward: its scores by name (empty when nothing finished),
    alarms, what is missing and why.

    scores: over seeds, or with one over prompts. crossed: over both at once, empty with one seed.
    frames: each seed's scores per prompt.
    """

    cell: Cell
    set: str
    reward: str
    scores: dict[str, Interval]
    kl: Interval | None
    prompts: int
    seeds: tuple[int, ...]
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    means: Mapping[str, Mapping[int, float]] = field(
        default_factory=dict
    )  # score -> seed -> its mean over the prompts
    crossed: Mapping[str, Interval] = field(default_factory=dict)
    frames: Mapping[int, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)


def score(cells: Sequence[Cell], ties: Ties) -> list[Row]:
    """A row for every cell, set and reward: what was evaluated, and what should have been (its own
    set) and was not."""
    keys = {key for cell in cells for run in cell.runs for key in run.evaluations}
    rows = []
    for cell in cells:
        wanted = {key for run in cell.runs for key in run.evaluations}
        if cell.objective != BASE:
            here = {key for key in keys if key[0] == cell.data}
            wanted |= here or {(cell.data, reward) for _, reward in keys}
        rows += [_score(cell, cells, key, ties) for key in sorted(wanted)]
    return rows


def kept_probe(run: Run) -> ProbeRecord | None:
    """The probe of the policy that was evaluated: the last one, unless the run says that it kept an
    earlier step's."""
    step = run.info.kept_step
    return next(
        (probe for probe in reversed(run.probes) if step is None or probe.step == step), None
    )


def _score(cell: Cell, cells: Sequence[Cell], key: EvalKey, ties: Ties) -> Row:
    runs = [run for run in cell.runs if run.evaluations.get(key)]
    bases = [base_records(cells, run, key) if cell.objective != BASE else None for run in runs]
    # what an alarm tells of an objective, a control was made to do
    asked = [] if cell.control else runs
    told = [
        alarms(run, run.evaluations[key], "/".join(key), base)
        for run, base in zip(asked, bases, strict=False)
    ]
    frames = [
        _frame(run, run.evaluations[key], base, ties) for run, base in zip(runs, bases, strict=True)
    ]
    kl = [
        probe.metrics["kl"] for run in runs if (probe := kept_probe(run)) and "kl" in probe.metrics
    ]
    return Row(
        cell=cell,
        set=key[0],
        reward=key[1],
        scores=intervals(frames) if frames else {},
        kl=over_seeds(kl) if kl and cell.objective != BASE else None,
        prompts=len(frames[0]) if frames else 0,
        seeds=tuple(run.info.seed for run in runs),
        alarms=summarise(told),
        notes=(*_notes(cell, key, runs, bases), *_group_notes(frames)),
        means={
            name: _by_seed(runs, frames, name) for name in (frames[0].columns if frames else ())
        },
        crossed=crossed(frames),
        frames={run.info.seed: frame for run, frame in zip(runs, frames, strict=True)},
    )


def _notes(
    cell: Cell, key: EvalKey, runs: Sequence[Run], bases: Sequence[Sequence[EvalRecord] | None]
) -> list[str]:
    """What is missing, and why."""
    notes = [f"seed {missing.seed} not finished: {missing.reason}" for missing in cell.missing]
    unscored = [str(run.info.seed) for run in cell.runs if not run.evaluations.get(key)]
    if unscored:
        notes.append(f"seed {', '.join(unscored)} not evaluated on {key[0]} by {key[1]}")
    records = [run.evaluations[key] for run in runs]
    unknown = next((why for one in records if (why := no_references(one))), "")
    if unknown:
        notes.append(unknown)
    elif any(without := [without_reference(one) for one in records]):
        notes.append(f"{max(without)} prompts without a reference left out")
    elif cell.objective != BASE and None in bases:
        notes.append("its base was not evaluated here, so no NAG")
    excluded = [sum(record.excluded for record in one) / len(one) for one in records]
    if any(excluded):
        notes.append(
            f"{100 * sum(excluded) / len(excluded):.1f}% of answers excluded: the judge gave no"
            " readable verdict"
        )
    return notes


def _group_notes(frames: Sequence[pd.DataFrame]) -> list[str]:
    """A note where the seeds' RAS fall into two groups: no t interval tells the truth of those."""
    found = two_groups([float(one["ras"].mean()) for one in frames if "ras" in one])
    if found is None:
        return []
    lower, upper = (", ".join(number(value, 1) for value in group) for group in found)
    return [f"RAS in two groups of seeds: {lower} and {upper}"]


def _by_seed(runs: Sequence[Run], frames: Sequence[pd.DataFrame], name: str) -> dict[int, float]:
    return {
        run.info.seed: float(frame[name].mean())
        for run, frame in zip(runs, frames, strict=True)
        if name in frame
    }


def _frame(
    run: Run, records: Sequence[EvalRecord], base: Sequence[EvalRecord] | None, ties: Ties
) -> pd.DataFrame:
    try:
        return per_prompt(records, base, ties)
    except UserError as error:
        raise UserError(f"{run.folder}: {error}") from None


def nearest(row: Row | None, candidates: Sequence[Row]) -> Row | None:
    """The candidate whose configuration differs least from the row's outside the objective; the
    first of equals."""
    if row is None or not candidates:
        return None
    return min(candidates, key=lambda other: len(other_settings(row.cell, other.cell)))


def other_settings(one: Cell, other: Cell) -> list[str]:
    if not one.runs or not other.runs:
        return []
    return [
        key
        for key in differing([one, other])
        if key.split(".")[0] not in ("objective", "model", "data")
    ]
