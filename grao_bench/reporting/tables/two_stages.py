"""SFT and then RL, or one stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grao_bench.reporting.gather.cells import Cell, first_objective
from grao_bench.reporting.gather.comparisons import Difference
from grao_bench.reporting.gather.families import difference_of
from grao_bench.reporting.gather.intervals import over_seeds
from grao_bench.reporting.gather.roles import ours
from grao_bench.reporting.gather.rows import Row, nearest
from grao_bench.reporting.gather.spent import COUNTED, both_stages
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import (
    Column,
    Line,
    made_of,
    pair_of_scores,
    row_numbers,
    rows_folders,
)
from grao_bench.reporting.tables.differences import (
    DETECTABLE,
    difference_numbers,
    difference_texts,
    least_text,
    p_text,
)
from grao_bench.reporting.tables.main import seeds_text
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, slug

LOST = "the first stage's run is not in this folder, so its cost is not known"


@dataclass(frozen=True)
class Staged:
    """A row, its difference from ours, and what its runs' stages counted together (empty where one
    is not known)."""

    row: Row
    difference: Difference | None
    spent: Mapping[str, float]
    notes: str


def two_stages(table: Table, cells: Sequence[Cell]) -> Sheet | None:
    """SFT and then RL against ours and against RL from the base, with what both stages cost; None
    where no run starts from another."""
    chained = [row for row in table.rows if row.cell.first_stage]
    if not chained:
        return None
    wanted = {first_objective(row.cell.first_stage) for row in chained}
    wanted |= {row.cell.objective for row in chained}

    def belongs(cell: Cell) -> bool:
        return bool(cell.first_stage) or cell.objective in wanted or cell.role.kind == "ours"

    lines = [_staged(row, table, cells) for row in table.rows if belongs(row.cell)]
    name = ours((row.cell.objective, row.cell.role) for row in table.rows)
    return Sheet(
        slug(f"two_stages-{table.set}-{table.reward}"),
        f"One stage or two: trained and evaluated on {table.set}, judged by {table.reward}",
        *made_of(_columns(name), lines),
        (
            "steps and tokens are of both stages together, means over seeds: read a difference"
            " beside them, it is one at equal budget only where they agree",
            f"minus {name.upper()}: paired by seed and prompt, [95% interval over seeds and"
            " prompts]; interval and p are of that test alone, not adjusted",
            DETECTABLE,
        ),
        rows_folders([one.row for one in lines]),
    )


def _staged(row: Row, table: Table, cells: Sequence[Cell]) -> Staged:
    same = [other for other in table.rows if other.cell.model == row.cell.model]
    rivals = [one for one in same if one.cell.role.kind == "ours" and not one.cell.first_stage]
    rival = nearest(row, rivals)
    difference = difference_of(row, rival, "ras") if rival and rival is not row else None
    counts = [both_stages(run, cells) for run in row.cell.runs]
    known = [count for count in counts if count is not None]
    lost = [] if len(known) == len(counts) else [LOST]
    spent = {}
    if known and not lost:
        spent = {name: over_seeds([one[name] for one in known]).mean for name in COUNTED}
    return Staged(row, difference, spent, "; ".join([*row.notes, *lost]))


def _columns(name: str) -> list[Column[Staged]]:
    def spent(count: str) -> Column[Staged]:
        def text(one: Staged) -> str:
            return number(one.spent[count], 0) if one.spent else NONE

        return Column(COUNTED[count], text)

    def scores(one: Staged) -> Line:
        names = {"method": one.row.cell.label, "model": one.row.cell.model}
        return names | row_numbers(one.row, ("ras", "nag_mean"))

    return [
        Column("", numbers=scores),
        Column("method", lambda one: one.row.cell.label),
        Column("model", lambda one: one.row.cell.model),
        Column("RAS %", lambda one: pair_of_scores(one.row)[1]),
        Column("nag_mean %", lambda one: pair_of_scores(one.row)[0]),
        Column("seeds", lambda one: seeds_text(one.row)),
        Column(
            f"RAS: minus {name.upper()}",
            lambda one: difference_texts(one.difference)[0] if one.difference else NONE,
            lambda one: difference_numbers(one.difference, f"vs_{name}_"),
        ),
        Column("p", lambda one: p_text(one.difference.p) if one.difference else NONE),
        Column("smallest detectable", lambda one: least_text(one.difference)),
        Column("", numbers=lambda one: {"notes": one.notes}),
        *(spent(count) for count in COUNTED),
        Column("", numbers=lambda one: {count: one.spent.get(count) for count in COUNTED}),
        Column("notes", lambda one: one.notes),
    ]
