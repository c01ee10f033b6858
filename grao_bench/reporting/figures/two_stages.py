"""One stage or two, by what both spent."""

from __future__ import annotations

from collections.abc import Sequence

from grao_bench.reporting.figures.drawing import Drawing
from grao_bench.reporting.figures.lines import BAND, draw_curves
from grao_bench.reporting.figures.looks import key_of
from grao_bench.reporting.gather.cells import Cell, first_objective
from grao_bench.reporting.gather.curves import (
    probe_curve,
)
from grao_bench.reporting.gather.spent import COUNTED, spent_before

STAGES = "One stage or two"


def two_stages(
    model: str, data: str, cells: Sequence[Cell], everything: Sequence[Cell], axis: str
) -> Drawing | None:
    """Runs that start from another run against those that start from the base, by what both stages
    spent together."""
    chained = [cell for cell in cells if cell.first_stage]
    before = {key_of(cell): spent_before(cell, everything, axis) for cell in chained}
    chained = [cell for cell in chained if before[key_of(cell)] is not None]
    if not chained:
        return None
    wanted = {
        *(cell.objective for cell in chained),
        *(first_objective(cell.first_stage) for cell in chained),
    }
    mine = [
        cell
        for cell in cells
        if not cell.first_stage and (cell.objective in wanted or cell.role.kind == "ours")
    ] + chained
    frame = probe_curve(mine, axis="step" if axis == "steps" else "forward_tokens")
    keys = zip(frame["objective"], frame["config_hash"], strict=True)
    frame["x"] += [before.get(key) or 0.0 for key in keys]
    return draw_curves(
        f"two_stages_{axis}-{model}-{data}",
        STAGES,
        f"Dev reward, one stage or two, against {COUNTED[axis]}: {data} ({model})",
        "A second stage's line begins where its first stage ended, so at one place along the axis"
        f" all have spent alike. {BAND}",
        mine,
        frame,
        (f"{COUNTED[axis]}, both stages", "dev reward"),
    )
