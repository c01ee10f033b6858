"""How the reward is spread over the test prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.gather.scores import reward_statistics
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import Column, made_of, measured, naming, rows_folders
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import slug, with_sd

NAMES = ("mean", "variance", "min", "q1", "median", "q3", "max")


@dataclass(frozen=True)
class Spread:
    """A row, and the statistics of its reward in each run: no mean of a column."""

    row: Row
    runs: Sequence[Mapping[str, float]]

    def over(self, name: str) -> Interval | None:
        """A statistic over the seeds."""
        return over_seeds([one[name] for one in self.runs]) if self.runs else None


def rewards_spread(table: Table) -> Sheet | None:
    """The reward's distribution over the test prompts: mean, variance, quartiles; each the mean
    over seeds, with its sd."""
    if not any(row.scores for row in table.rows):
        return None
    columns = [
        *naming(lambda one: one.row.cell),
        Column("", numbers=lambda one: {"seeds": len(one.runs)}),
        *map(_statistic, NAMES),
    ]
    return Sheet(
        slug(f"quartiles-{table.set}-{table.reward}"),
        f"Reward over the test prompts: {table.set}, judged by {table.reward}",
        *made_of(columns, [_spread(row) for row in table.rows]),
        (
            "in the judge's own unit; variance and quartiles are over prompts within a run, here"
            " their mean ± sd over seeds",
        ),
        rows_folders(table.rows),
    )


def _statistic(name: str) -> Column[Spread]:
    return measured(name, name, lambda one: one.over(name), 3, with_sd)


def _spread(row: Row) -> Spread:
    found = [run.evaluations.get((row.set, row.reward)) for run in row.cell.runs]
    return Spread(row, [reward_statistics(records) for records in found if records])
