"""The order of rows: by model, by the set trained on, by method."""

from __future__ import annotations

from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.roles import BASE, method_rank
from grao_bench.reporting.paper import SUBSETS, subset_of


def cell_order(cell: Cell) -> tuple[object, ...]:
    """Model, its base, then by the set trained on (the paper's first) and the method."""
    trained_on = (-1, "") if cell.objective == BASE else set_order(cell.data)
    return (
        cell.model,
        trained_on,
        method_rank(cell.objective, cell.role),
        cell.label,
        cell.config_hash,
    )


def set_order(name: str) -> tuple[int, str]:
    """The paper's order of sets, then the others by name."""
    subset = subset_of(name)
    return (SUBSETS.index(subset) if subset else len(SUBSETS), name)
