"""What the tables share: which columns name a configuration, how an interval spreads over columns
of numbers, which columns are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.intervals import Interval
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.tables.sheets import Grid, grid_of
from grao_bench.reporting.text import NONE, with_interval

Line = dict[str, object]
"""A line of numbers: column -> value."""

T = TypeVar("T")


def _no_numbers(_: object) -> Line:
    return {}


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of a table whose lines are of one type: its title, its text, its numbers in CSV.

    Without a title it stands in CSV alone.
    """

    title: str
    text: Callable[[T], str] = str
    numbers: Callable[[T], Line] = _no_numbers


def made_of(columns: Sequence[Column[T]], lines: Sequence[T]) -> tuple[Grid, pd.DataFrame]:
    """A table's text, without empty columns (`tidy`), and its numbers."""
    shown = [column for column in columns if column.title]
    texts = [[column.text(line) for column in shown] for line in lines]
    numbers = [
        dict(one for column in columns for one in column.numbers(line).items()) for line in lines
    ]
    return tidy([column.title for column in shown], texts), pd.DataFrame(numbers)


def naming(cell_of: Callable[[T], Cell]) -> list[Column[T]]:
    """The columns that begin a line: which configuration it is of."""
    return [
        Column("", numbers=lambda one: cell_columns(cell_of(one))),
        Column("method", lambda one: cell_of(one).label),
        Column("model", lambda one: cell_of(one).model),
    ]


def counted(title: str, name: str, value: Callable[[T], int]) -> Column[T]:
    """A column of whole numbers."""
    return Column(title, lambda one: str(value(one)), lambda one: {name: value(one)})


def measured(
    title: str,
    name: str,
    value: Callable[[T], Interval | None],
    digits: int,
    text: Callable[[Interval | None, int], str] = with_interval,
) -> Column[T]:
    """A column of intervals, in CSV under this name."""
    return Column(title, lambda one: text(value(one), digits), lambda one: spread(name, value(one)))


def row_name(cell: Cell) -> list[str]:
    """The text columns that begin a row."""
    return [cell.label, cell.model]


def folders(cell: Cell) -> tuple[Path, ...]:
    """The folders of a configuration's runs."""
    return tuple(run.folder for run in cell.runs)


def cell_columns(cell: Cell) -> Line:
    """Which configuration a line of numbers is of."""
    trained_on = cell.data if cell.trained else ""
    return {
        "model": cell.model,
        "method": cell.label,
        "objective": cell.objective,
        "config_hash": cell.config_hash,
        "trained_on": trained_on,
    }


def spread(name: str, interval: Interval | None) -> Line:
    """Mean, sd and bounds of an interval; empty where there is none."""
    if interval is None:
        return {name: None, f"{name}_sd": None, f"{name}_low": None, f"{name}_high": None}
    return {
        name: interval.mean,
        f"{name}_sd": interval.sd,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
    }


def tidy(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """A grid without columns that hold nothing in any row, and without the model's where there is
    but one; the first column stays."""

    def says_something(i: int) -> bool:
        values = {row[i] for row in rows}
        return i == 0 or (len(values) > 1 if columns[i] == "model" else bool(values - {"", NONE}))

    kept = [i for i in range(len(columns)) if says_something(i)]
    return grid_of([columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def pair_of_scores(row: Row | None) -> list[str]:
    """nag_mean and RAS of a row, with their intervals."""
    return [with_interval(row.scores.get(name) if row else None, 1) for name in ("nag_mean", "ras")]


def rows_folders(rows: Sequence[Row]) -> tuple[tuple[Path, ...], ...]:
    """The folders of each row's runs."""
    return tuple(folders(row.cell) for row in rows)


def row_numbers(row: Row | None, names: Sequence[str]) -> Line:
    """How many seeds a row has, and these scores of it."""
    found: Line = {"seeds": len(row.seeds) if row else 0}
    for name in names:
        found |= spread(name, row.scores.get(name) if row else None)
    return found
