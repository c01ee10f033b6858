"""SFT and then RL, or one stage."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from grao_bench.reporting.gather.cells import Cell, first_objective
from grao_bench.reporting.gather.families import difference_of
from grao_bench.reporting.gather.intervals import over_seeds
from grao_bench.reporting.gather.roles import ours
from grao_bench.reporting.gather.rows import nearest
from grao_bench.reporting.gather.spent import COUNTED, both_stages
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import (
    pair_of_scores,
    row_numbers,
    rows_folders,
    tidy,
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


def two_stages(table: Table, cells: Sequence[Cell]) -> Sheet | None:
    """SFT and then RL against ours and against RL from the base, with what both stages cost; None
    where no run starts from another."""
    chained = [row for row in table.rows if row.cell.first_stage]
    if not chained:
        return None
    firsts = {first_objective(row.cell.first_stage) for row in chained}
    wanted = firsts | {row.cell.objective for row in chained}
    shown = [
        row
        for row in table.rows
        if row.cell.first_stage or row.cell.objective in wanted or row.cell.role.kind == "ours"
    ]
    name = ours((row.cell.objective, row.cell.role) for row in table.rows)
    texts, lines = [], []
    for row in shown:
        rivals = [
            other
            for other in table.rows
            if other.cell.role.kind == "ours" and not other.cell.first_stage
        ]
        rival = nearest(row, [other for other in rivals if other.cell.model == row.cell.model])
        found = difference_of(row, rival, "ras") if rival and rival is not row else None
        counts = [both_stages(run, cells) for run in row.cell.runs]
        known = [count for count in counts if count is not None]
        budget = (
            {count: over_seeds([one[count] for one in known]) for count in COUNTED}
            if known and len(known) == len(counts)
            else {}
        )
        lost = (
            []
            if len(known) == len(counts)
            else ["the first stage's run is not in this folder, so its cost is not known"]
        )
        notes = "; ".join([*row.notes, *lost])
        cost_texts = [number(budget[count].mean, 0) if budget else NONE for count in COUNTED]
        vs = (
            [difference_texts(found)[0], p_text(found.p), least_text(found)]
            if found
            else [NONE, NONE, NONE]
        )
        texts.append(
            [
                row.cell.label,
                row.cell.model,
                *pair_of_scores(row)[::-1],
                seeds_text(row),
                *vs,
                *cost_texts,
                notes,
            ]
        )
        lines.append(
            {
                "method": row.cell.label,
                "model": row.cell.model,
                **row_numbers(row, ("ras", "nag_mean")),
            }
        )
        lines[-1] |= difference_numbers(found, f"vs_{name}_") | {"notes": notes}
        lines[-1] |= {count: budget[count].mean if budget else None for count in COUNTED}
    columns = ["method", "model", "RAS %", "nag_mean %", "seeds", f"RAS: minus {name.upper()}", "p"]
    columns += ["smallest detectable", *COUNTED.values(), "notes"]
    return Sheet(
        slug(f"two_stages-{table.set}-{table.reward}"),
        f"One stage or two: trained and evaluated on {table.set}, judged by {table.reward}",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "steps and tokens are of both stages together, means over seeds: read a difference"
            " beside them, it is one at equal budget only"
            " where they agree",
            f"minus {name.upper()}: paired by seed and prompt, [95% interval over seeds and"
            " prompts]; interval and"
            " p are of that test alone, not adjusted",
            DETECTABLE,
        ),
        rows_folders(shown),
    )
