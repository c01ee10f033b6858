"""The results as one self-contained HTML page: no network requests, every text escaped, light and dark, laptop and phone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from grao_bench.reporting.alarms import RULES
from grao_bench.reporting.cells import Cell
from grao_bench.reporting.figures import Drawing
from grao_bench.reporting.scores import Ties
from grao_bench.reporting.tables import CrossTable, Table, cross_grid, table_grid

TIES_TEXT: dict[Ties, str] = {
    "loss": "a tie counts as a loss, as in the paper's formula",
    "win": "a tie counts as a win here; the paper's formula counts it as a loss",
    "half": "a tie counts as half a win here; the paper's formula counts it as a loss",
}


def render(
    root: Path,
    cells: Sequence[Cell],
    tables: Sequence[Table],
    crosses: Sequence[CrossTable],
    drawings: Sequence[Drawing],
    ties: Ties,
    note: str = "",
) -> str:
    """The page. `root` is the folder reported on: runs are named relative to it. `note` stands under the title."""
    environment = Environment(
        loader=PackageLoader("grao_bench.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["column_class"] = _column_class
    environment.filters["trusted_svg"] = Markup  # drawn by matplotlib, which escapes the labels in it
    runs = [(cell, run, _relative(run.folder, root)) for cell in cells for run in cell.runs]
    unfinished = [(cell, missing) for cell in cells for missing in cell.missing]
    seeds = {run.info.seed for _, run, _ in runs}
    counts = f"{len(runs)} finished runs, {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
    return environment.get_template("report.html.j2").render(
        note=note,
        title=f"grao_bench: {root.resolve().name}",
        counts=counts + (f", {len(unfinished)} unfinished" if unfinished else ""),
        ties_text=TIES_TEXT[ties],
        clip0=any(cell.objective == "grao_clip0" for cell in cells),
        tables=[(table, table_grid(table)) for table in tables],
        crosses=[(table, cross_grid(table)) for table in crosses],
        drawings=drawings,
        rules=RULES,
        unfinished=unfinished,
        runs=runs,
    )


def _column_class(header: str) -> str:
    return {"alarms": "alarm", "notes": "words"}.get(header, "value")


def _relative(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)
