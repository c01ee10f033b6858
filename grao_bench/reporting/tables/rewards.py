"""How the reward is spread over the test prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from grao_bench.core.records import EvalRecord
from grao_bench.reporting.gather.intervals import over_seeds
from grao_bench.reporting.gather.scores import reward_statistics
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import cell_columns, row_name, rows_folders, spread, tidy
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import slug, with_sd


def rewards_spread(table: Table) -> Sheet | None:
    """The reward's distribution over the test prompts: mean, variance, quartiles; each the mean
    over seeds, with its sd."""
    names = ("mean", "variance", "min", "q1", "median", "q3", "max")
    return _per_run_sheet(
        table,
        "quartiles",
        f"Reward over the test prompts: {table.set}, judged by {table.reward}",
        lambda records: reward_statistics(records),
        {name: (name, 3) for name in names},
        (
            "in the judge's own unit; variance and quartiles are over prompts within a run, here"
            " their mean ± sd over seeds",
        ),
    )


def _per_run_sheet(
    table: Table,
    kind: str,
    title: str,
    measure: Callable[[Sequence[EvalRecord]], Mapping[str, float]],
    columns: Mapping[str, tuple[str, int]],
    notes: tuple[str, ...],
) -> Sheet | None:
    """A sheet of numbers that are no column's mean: measured in each run, then mean and sd over
    seeds."""
    texts, lines = [], []
    for row in table.rows:
        measured = [
            measure(records)
            for run in row.cell.runs
            if (records := run.evaluations.get((row.set, row.reward)))
        ]
        found = (
            {name: over_seeds([one[name] for one in measured]) for name in columns}
            if measured
            else {}
        )
        texts.append(
            [
                *row_name(row.cell),
                *(with_sd(found.get(name), digits) for name, (_, digits) in columns.items()),
            ]
        )
        lines.append(cell_columns(row.cell) | {"seeds": len(measured)})
        for name in columns:
            lines[-1] |= spread(name, found.get(name))
    if not any(row.scores for row in table.rows):
        return None
    headers = ["method", "model", *(header for header, _ in columns.values())]
    name = slug(f"{kind}-{table.set}-{table.reward}")
    return Sheet(
        name, title, tidy(headers, texts), pd.DataFrame(lines), notes, rows_folders(table.rows)
    )
