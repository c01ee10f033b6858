"""The order of rows: by model, by the set trained on, by method."""

from __future__ import annotations

from grao_bench.reporting.gather.cells import BASE, Cell
from grao_bench.reporting.paper import SUBSETS, subset_of

METHOD_ORDER = (BASE, "sft", "dpo", "ppo", "grpo", "grao", "grao_clip0")

ABLATIONS = {
    "grao_no_imitation": "without imitation",
    "grao_no_exploration": "without exploration",
    "grao_no_exploration_at_all": "without exploration at all",
    "grao_no_regulariser": "without alignment regulariser",
}
"""Objectives that are GRAO without a part -> Table 3's name. Its "without exploration" has two readings: alpha = 0, which leaves the
regulariser's lambda A_i J(o_i), and no J(o_i) at all."""


def cell_order(cell: Cell) -> tuple[object, ...]:
    """The order of rows: model, its base, then by the set trained on (the paper's first) and the method."""
    trained_on = (-1, "") if cell.objective == BASE else set_order(cell.data)
    return (cell.model, trained_on, method_rank(cell.objective), cell.label, cell.config_hash)


def set_order(name: str) -> tuple[int, str]:
    """The paper's order of sets, then the others by name."""
    subset = subset_of(name)
    return (SUBSETS.index(subset) if subset else len(SUBSETS), name)


def method_rank(objective: str) -> tuple[int, str]:
    """The paper's order of methods, then the others by name."""
    order = (*METHOD_ORDER, *ABLATIONS)
    return (order.index(objective) if objective in order else len(order), objective)
