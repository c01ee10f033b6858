"""Every table that records hold, in the order of a report."""

from __future__ import annotations

from collections.abc import Sequence

from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.tables.ablation import ablations
from grao_bench.reporting.tables.alignment_tax import alignment_tax
from grao_bench.reporting.tables.choice import CrossTable, Table
from grao_bench.reporting.tables.cost import cost
from grao_bench.reporting.tables.cross import cross_sheet
from grao_bench.reporting.tables.differences import (
    differences,
)
from grao_bench.reporting.tables.gains import gain_sheet
from grao_bench.reporting.tables.judges import judges
from grao_bench.reporting.tables.late_training import late_training
from grao_bench.reporting.tables.lengths import lengths
from grao_bench.reporting.tables.main import main_sheet
from grao_bench.reporting.tables.probes import probes
from grao_bench.reporting.tables.reward_models import reward_models
from grao_bench.reporting.tables.rewards import rewards_spread
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.tables.speed import steps_to_best
from grao_bench.reporting.tables.two_stages import two_stages


def all_sheets(
    cells: Sequence[Cell],
    rows: Sequence[Row],
    tables: Sequence[Table],
    crosses: Sequence[CrossTable],
) -> list[Sheet]:
    """Every table that these records hold, in the order of a report: each of Tables 1 and 2 with
    what belongs to it, then the others."""
    sheets: list[Sheet] = []
    for table in tables:
        made = (
            gain_sheet(table, cells),
            differences(table),
            *ablations(table),
            two_stages(table, cells),
            rewards_spread(table),
            lengths(table),
        )
        sheets += [main_sheet(table), *(sheet for sheet in made if sheet)]
    sheets += [cross_sheet(table) for table in crosses]
    behind = reward_models([run for cell in cells for run in cell.runs])
    speed = (steps_to_best(cells), late_training(cells))
    others = (probes(cells), *speed, alignment_tax(cells), cost(cells))
    sheets += [sheet for sheet in (behind, judges(rows), *others) if sheet]
    return sheets
