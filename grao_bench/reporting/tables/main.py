"""Tables 1 and 2 and their like: rows of intervals as text and as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from grao_bench.reporting import paper
from grao_bench.reporting.gather.families import COMPARED
from grao_bench.reporting.gather.roles import BASE, CONTROL
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.gather.scores import Ties
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import rows_folders
from grao_bench.reporting.tables.sheets import Grid, Sheet
from grao_bench.reporting.text import NONE, number, slug, with_interval, with_sd

CONTROLS = "controls, in no test:"
"""Heading of the rows that no objective made: exploits, constant answers, the reference itself."""

LENGTH_CONTROLLED = "RAS %, length controlled"


def table_grid(table: Table) -> Grid:
    """The table's columns as text, the paper's printed values beside ours where it has the
    method."""
    columns: list[tuple[str, Callable[[Row], str]]] = [("method", lambda row: row.cell.label)]
    if len({row.cell.model for row in table.rows}) > 1:
        columns.append(("model", lambda row: row.cell.model))
    columns += [
        (f"RAS %{ties_text(table.ties)}", _with_stars(table, "ras")),
        ("nag_mean %", _with_stars(table, "nag_mean")),
        *_measured(table, "ras_lc", LENGTH_CONTROLLED),
        ("seeds", seeds_text),
        ("RAS %, seeds and prompts", _crossed("ras")),
        ("nag_mean %, seeds and prompts", _crossed("nag_mean")),
    ]
    first = [name for name, _ in columns].index("nag_mean %") - 1
    emphasised = {first: "ras", first + 1: "nag_mean"}
    subset = paper.subset_of(table.set)
    if subset and any(_printed(row, subset, model) for row in table.rows for model in paper.MODELS):
        columns += [
            (f"paper's {model}: RAS / NAG", _printed_column(subset, model))
            for model in paper.MODELS
        ]
    columns.append(("KL to base", lambda row: with_sd(row.kl, 2)))
    if any(row.alarms for row in (*table.rows, *table.controls)):
        columns.append(("alarms", lambda row: "; ".join(row.alarms)))
    if any(row.notes for row in (*table.rows, *table.controls)):
        columns.append(("notes", lambda row: "; ".join(row.notes)))
    columns += [
        ("win / tie / loss %", _win_tie_loss),
        ("nag_net %", _with_interval("nag_net", 1)),
        ("nag_win %", _with_interval("nag_win", 1)),
        ("mean reward", _with_sd("reward", 3)),
        *_measured(table, "correct", "correct %"),
        ("length", _mean("length", 1)),
        ("truncated %", _mean("truncated", 1)),
    ]
    bold = {
        (i, column)
        for i, row in enumerate(table.rows)
        for column, name in emphasised.items()
        if any(
            (one.model, one.score, one.best) == (row.cell.model, name, row.cell.label)
            for one in table.comparisons
        )
    }
    return replace(_with_controls(columns, table), bold=frozenset(bold))


def brief_grid(table: Table) -> Grid:
    """The columns that fit a terminal."""
    several = len({row.cell.model for row in table.rows}) > 1
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("method", lambda row: f"{row.cell.model} {row.cell.label}" if several else row.cell.label),
        (f"RAS %{ties_text(table.ties)}", _with_stars(table, "ras")),
        *_measured(table, "ras_lc", LENGTH_CONTROLLED),
        ("nag_mean %", _with_sd("nag_mean", 1)),
        ("KL", lambda row: with_sd(row.kl, 2)),
        ("seeds", seeds_text),
        ("alarms and notes", lambda row: "; ".join(row.alarms + row.notes)),
    ]
    return _with_controls(columns, table)


def frame(rows: Sequence[Row], ties: Ties) -> pd.DataFrame:
    """Everything in numbers, for tables.csv: a line per row of any table; empty where there is no
    value, never 0.

    `<score>`, `<score>_sd`, `_low`, `_high` are mean, sd and 95% interval; `interval` says over
    what (seeds, or prompts only).
    """
    lines = []
    controls = any(row.cell.control for row in rows)
    for row in rows:
        line: dict[str, object] = {
            "model": row.cell.model,
            "method": row.cell.label,
            "objective": row.cell.objective,
            "config_hash": row.cell.config_hash,
            "trained_on": row.cell.data if row.cell.trained else "",
            "set": row.set,
            "reward_source": row.reward,
            "ties": ties,
            "seeds": " ".join(map(str, row.seeds)),
            "prompts": row.prompts or None,
            "interval": next((interval.kind for interval in row.scores.values()), ""),
            "alarms": "; ".join(row.alarms),
            "notes": "; ".join(row.notes),
            **({"role": CONTROL if row.cell.control else ""} if controls else {}),
        }
        for name, interval in [*row.scores.items(), *([("kl", row.kl)] if row.kl else [])]:
            line |= {
                name: interval.mean,
                f"{name}_sd": interval.sd,
                f"{name}_low": interval.low,
                f"{name}_high": interval.high,
            }
        for name in (name for name in COMPARED if name in row.crossed):
            interval = row.crossed[name]
            ends = {"error": interval.sd, "low": interval.low, "high": interval.high}
            line |= {f"{name}_crossed_{end}": value for end, value in ends.items()}
            line |= {f"{name}_design_effect": interval.design}
        lines.append(line)
    return pd.DataFrame(lines).convert_dtypes()


def ties_text(ties: Ties) -> str:
    """What to add to "RAS %" where a tie is not a loss."""
    return "" if ties == "loss" else f" (ties: {ties})"


def _grid(columns: Sequence[tuple[str, Callable[[Row], str]]], rows: Sequence[Row]) -> Grid:
    return Grid(
        tuple(name for name, _ in columns),
        tuple(tuple(text(row) for _, text in columns) for row in rows),
    )


def _with_controls(columns: Sequence[tuple[str, Callable[[Row], str]]], table: Table) -> Grid:
    """The rows of a table, and the controls under a heading of their own."""
    grid = _grid(columns, table.rows)
    if not table.controls:
        return grid
    heading = (CONTROLS, *("" for _ in columns[1:]))
    below = _grid(columns, table.controls).rows
    rows = (*grid.rows, heading, *below)
    return replace(grid, rows=rows, headings=frozenset([len(grid.rows)]))


def _measured(table: Table, name: str, header: str) -> list[tuple[str, Callable[[Row], str]]]:
    """The column of a score that some row has."""
    known = any(name in row.scores for row in (*table.rows, *table.controls))
    return [(header, _with_interval(name, 1))] if known else []


def _with_interval(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: with_interval(row.scores.get(name), digits)


def _with_stars(table: Table, name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        stars = [
            one.stars(row.cell.label)
            for one in table.comparisons
            if (one.model, one.score) == (row.cell.model, name)
        ]
        return " ".join(
            [
                with_interval(row.scores.get(name), 1),
                *(star for star in stars if star and row.cell.objective != BASE),
            ]
        )

    return text


def _crossed(name: str) -> Callable[[Row], str]:
    """ "[55.1, 67.0]": over seeds and prompts."""

    def text(row: Row) -> str:
        found = row.crossed.get(name)
        return f"[{number(found.low, 1)}, {number(found.high, 1)}]" if found else NONE

    return text


def _with_sd(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: with_sd(row.scores.get(name), digits)


def _mean(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: f"{row.scores[name].mean:.{digits}f}" if row.scores else NONE


def _win_tie_loss(row: Row) -> str:
    return (
        " / ".join(f"{row.scores[name].mean:.1f}" for name in ("win", "tie", "loss"))
        if "win" in row.scores
        else NONE
    )


def seeds_text(row: Row) -> str:
    """How many seeds; one is labelled "prompts only"."""
    if not row.seeds:
        return NONE
    return "1 (prompts only)" if len(row.seeds) == 1 else str(len(row.seeds))


def _printed(row: Row, subset: paper.Subset, model: paper.Model) -> paper.Printed | None:
    if row.cell.first_stage or not row.cell.trained:
        return None
    settings = row.cell.config.get("objective")
    if not paper.is_printed_method(
        row.cell.objective, settings if isinstance(settings, dict) else {}
    ):
        return None
    return paper.cells()[subset, model, row.cell.objective]


def _printed_column(subset: paper.Subset, model: paper.Model) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        printed = _printed(row, subset, model)
        return f"{printed.ras:.2f} / {printed.nag:.2f}" if printed else NONE

    return text


def main_sheet(table: Table) -> Sheet:
    """Table 1 or 2, or its like on another set."""
    name = slug(f"main-{table.set}-{table.reward}")
    rows = (*table.rows, *table.controls)
    runs = rows_folders(table.rows)
    if table.controls:
        runs = (*runs, (), *rows_folders(table.controls))
    return Sheet(name, table.title, table_grid(table), frame(rows, table.ties), table.notes, runs)
