"""Every model on every set."""

from __future__ import annotations

from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.tables.choice import CrossTable
from grao_bench.reporting.tables.columns import folders
from grao_bench.reporting.tables.main import LENGTH_CONTROLLED, frame, ties_text
from grao_bench.reporting.tables.sheets import Grid, Sheet
from grao_bench.reporting.text import NONE, slug, with_interval


def cross_grid(table: CrossTable) -> Grid:
    """RAS and nag_mean of every cell on every set."""
    several = len({cell.model for cell, _ in table.rows}) > 1
    header = ["method", *(["model"] if several else []), "trained on"]
    controlled = any("ras_lc" in row.scores for _, by_set in table.rows for row in by_set.values())
    names = ["ras", *(["ras_lc"] if controlled else []), "nag_mean"]
    texts = {"ras": f"RAS %{ties_text(table.ties)}", "nag_mean": "nag_mean %"}
    texts["ras_lc"] = LENGTH_CONTROLLED
    header += [f"{name}: {texts[score]}" for name in table.sets for score in names]
    bases = [
        (cell.model, cell.base_fingerprint) for cell, _ in table.rows if cell.objective == BASE
    ]
    rows = []
    for cell, by_set in table.rows:
        twins = (
            cell.objective == BASE
            and len({weights for model, weights in bases if model == cell.model}) > 1
        )
        label = f"{cell.label} {cell.base_fingerprint[:8]}" if twins else cell.label
        line = [label, *([cell.model] if several else []), cell.data if cell.trained else NONE]
        for name in table.sets:
            found = by_set[name].scores if name in by_set else {}
            line += [with_interval(found.get(score), 1) for score in names]
        rows.append(tuple(line))
    return Grid(tuple(header), tuple(rows))


def cross_sheet(table: CrossTable) -> Sheet:
    """Every model on every set."""
    rows = [row for _, by_set in table.rows for row in by_set.values()]
    name = slug(f"cross-{'-'.join(table.sets)}-{table.reward}")
    notes = ("what training on one set does to the other",)
    return Sheet(
        name,
        table.title,
        cross_grid(table),
        frame(rows, table.ties),
        notes,
        tuple(folders(cell) for cell, _ in table.rows),
    )
