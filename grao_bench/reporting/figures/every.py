"""Every figure of the paper, and those that nobody publishes, from the records of a folder. One
whose runs are not there is not drawn."""

from __future__ import annotations

from collections.abc import Sequence

from grao_bench.reporting.figures.drawing import Drawing
from grao_bench.reporting.figures.frontier import kl_frontier
from grao_bench.reporting.figures.lines import AXES
from grao_bench.reporting.figures.scores import quartiles, score_intervals
from grao_bench.reporting.figures.settings import beta_lambda, group_sizes, per_score
from grao_bench.reporting.figures.training import (
    ablated,
    ablation_curves,
    losses,
    reward_curves,
    rollout_curves,
    shares,
)
from grao_bench.reporting.figures.two_stages import two_stages
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.curves import (
    beta_lambda_map,
    group_size_curve,
)
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.tables.choice import Table


def draw_all(cells: Sequence[Cell], rows: Sequence[Row], tables: Sequence[Table]) -> list[Drawing]:
    """Every figure that these records hold, figures of one kind together: one per table, or per
    model and data set trained on."""
    trained = [cell for cell in cells if cell.trained and cell.runs]
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in trained:
        groups.setdefault((cell.model, cell.data), []).append(cell)
    found: list[Drawing | None] = [score_intervals(table) for table in tables]
    found += [
        reward_curves(*key, members, axis) for axis in AXES for key, members in groups.items()
    ]
    by_group = (losses, shares, rollout_curves, kl_frontier)
    parts = [(*key, members, of) for key, members in groups.items() for of in ablated(members)]
    found += [ablation_curves(*one) for one in parts]
    found += [draw(*key, members) for draw in by_group for key, members in groups.items()]
    found += [beta_lambda(*one) for one in per_score(beta_lambda_map(rows))]
    found += [group_sizes(*one) for one in per_score(group_size_curve(rows))]
    found += [
        two_stages(*key, members, cells, axis)
        for axis in ("steps", "forward_tokens")
        for key, members in groups.items()
    ]
    found += [quartiles(table) for table in tables]
    return [drawing for drawing in found if drawing is not None]
