"""Where the gain came from: each method's reward over its base's, split by the judge's criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from grao_bench.core.records import Criteria
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.comparable import base_records
from grao_bench.reporting.gather.criteria import (
    FORMAL,
    REST,
    TOTAL,
    by_kind,
    formal_share,
    gains,
    room,
)
from grao_bench.reporting.gather.intervals import Interval, intervals
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import Line, cell_columns, folders, spread, tidy
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, slug, with_interval

LEAST = 0.005
"""A criterion whose mean moved less than this is not named in the text; the CSV has all."""
REFERENCES = "the references"


@dataclass(frozen=True)
class Split:
    """A row's gain: over its seeds, by criterion (`total` and `rest` among them) and by kind."""

    row: Row
    label: str
    criteria: dict[str, Interval]
    kinds: dict[str, Interval]
    formal: float

    @classmethod
    def of(
        cls, row: Row, label: str, frames: Sequence[pd.DataFrame], kinds: dict[str, str]
    ) -> Split:
        """From a frame of `gains` per seed. What a seed never said, it gained nothing by."""
        names = dict.fromkeys(name for frame in frames for name in frame)
        same = [frame.reindex(columns=list(names), fill_value=0.0) for frame in frames]
        pooled = pd.concat(same).groupby(level=["cluster", "example_id"], sort=False).mean()
        summed = [by_kind(frame, kinds) for frame in same]
        return cls(row, label, _intervals(same), _intervals(summed), formal_share(pooled, kinds))


def gain_sheet(table: Table, cells: Sequence[Cell]) -> Sheet | None:
    """The gains of a table's methods by kind and by criterion, and what the references have over
    the base. None where the judge's number does not split."""
    criteria = _criteria(table)
    found = _splits(table, cells, criteria) if criteria else []
    if not criteria or not found:
        return None
    kinds = list(
        dict.fromkeys(("content", *FORMAL, *(kind for one in found for kind in one.kinds)))
    )
    kinds = [kind for kind in kinds if kind not in (TOTAL, REST)]
    texts = [
        [
            one.label,
            one.row.cell.model,
            *(with_interval(one.kinds.get(name), 3) for name in (TOTAL, *kinds, REST)),
            NONE if one.formal != one.formal else number(one.formal, 0),
            _named(one.criteria),
        ]
        for one in found
    ]
    total = "reward" if criteria.total == "reward" else criteria.total.replace("/", "'s ")
    columns = ["method", "model", f"{total} gained", *kinds, REST]
    columns += ["of it form or manners %", "by criterion"]
    return Sheet(
        slug(f"gains-{table.set}-{table.reward}"),
        f"Where the gain came from: {table.set}, judged by {table.reward}",
        tidy(columns, texts),
        pd.DataFrame([_line(one) for one in found]),
        _notes(criteria),
        tuple(() if one.label == REFERENCES else folders(one.row.cell) for one in found),
    )


def _criteria(table: Table) -> Criteria | None:
    """How the table's judge splits, as any of its runs says."""
    key = f"{table.set}/{table.reward}"
    runs = (run for row in table.rows for run in row.cell.runs)
    return next((run.info.criteria[key] for run in runs if key in run.info.criteria), None)


def _splits(table: Table, cells: Sequence[Cell], criteria: Criteria) -> list[Split]:
    key, found = (table.set, table.reward), []
    for row in (*table.rows, *table.controls):
        runs = (
            []
            if row.cell.objective == BASE
            else [run for run in row.cell.runs if run.evaluations.get(key)]
        )
        pairs = [(run.evaluations[key], base_records(cells, run, key)) for run in runs]
        frames = [gains(records, base, criteria) for records, base in pairs if base]
        if frames:
            found.append(Split.of(row, row.cell.label, frames, criteria.kinds))
    for row in table.rows:
        known = row.cell.objective == BASE and row.scores
        left = room(row.cell.runs[0].evaluations[key], criteria) if known else None
        if left is not None:
            found.append(Split.of(row, REFERENCES, [left], criteria.kinds))
    return found


def _intervals(frames: Sequence[pd.DataFrame]) -> dict[str, Interval]:
    # under names of their own: a criterion may be called as a score is that has bounds
    named = intervals([frame.add_prefix("gain: ") for frame in frames])
    return {name.removeprefix("gain: "): interval for name, interval in named.items()}


def _named(found: dict[str, Interval]) -> str:
    """ "coverage +0.31, filler +0.05": the largest first."""
    moved = [(name, one.mean) for name, one in found.items() if name not in (TOTAL, REST)]
    moved.sort(key=lambda one: -abs(one[1]))
    return ", ".join(f"{name} {mean:+.3f}" for name, mean in moved if abs(mean) >= LEAST)


def _line(one: Split) -> Line:
    cell = one.row.cell
    line: Line = cell_columns(cell)
    if one.label == REFERENCES:
        line |= {"method": one.label, "objective": "", "config_hash": ""}
    for name, interval in one.kinds.items():
        line |= spread(name, interval)
    line |= {"form_or_manners_percent": None if one.formal != one.formal else one.formal}
    for name, interval in one.criteria.items():
        if name not in (TOTAL, REST):
            line |= spread(f"criterion {name}", interval)
    return line


def _notes(criteria: Criteria) -> tuple[str, ...]:
    of = "the reward" if criteria.total == "reward" else f'"{criteria.total}"'
    sign = (
        " (the verdict is only the sign of its difference from the reference's, which is no sum)"
        if criteria.total != "reward"
        else ""
    )
    return (
        f"gained: {of} of the method's answers minus that of the base's answers to the same"
        f" prompts, each a mean over the prompt's answers{sign}; [95% interval], over seeds where"
        " there are several, as in the tables",
        "content: what was asked for; form: repetition, sentences that can't be read, length,"
        " endings; manners: tone and small talk; any other column: a part of the reward that names"
        " no kind; rest: what clipping leaves over",
        "of it form or manners: the share of the gain, over the criteria that were gained by, that"
        " says nothing of what was asked for; none where no gain is shown. Over half is an alarm",
        f"by criterion: those that moved by {LEAST} or more, the largest first",
    )
