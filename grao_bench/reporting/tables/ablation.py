"""Table 3: what each part of GRAO is worth."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from grao_bench.reporting import paper
from grao_bench.reporting.gather.comparisons import Difference, adjust
from grao_bench.reporting.gather.families import difference_of
from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.gather.order import ABLATIONS
from grao_bench.reporting.gather.rows import Row, nearest, other_settings
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import Line, folders, pair_of_scores, row_numbers, spread, tidy
from grao_bench.reporting.tables.differences import (
    DETECTABLE,
    TESTED,
    difference_numbers,
    difference_texts,
    least_text,
    p_text,
)
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, slug, with_interval


def ablation(table: Table) -> Sheet | None:
    """Table 3: GRAO without each of its parts, as the drop in nag_mean against full GRAO; None where no part was taken out."""
    lines: list[Line] = []
    texts = []
    runs = []
    subset = paper.subset_of(table.set)
    for model in dict.fromkeys(row.cell.model for row in table.rows):
        here = [row for row in table.rows if row.cell.model == model and not row.cell.first_stage]
        variants = {name: [row for row in here if row.cell.objective == name] for name in ABLATIONS}
        full = [row for row in here if row.cell.objective == "grao"]
        if not any(variants.values()):
            continue
        pairs = [(row, nearest(row, full)) for rows in variants.values() for row in rows]
        gaps = [difference_of(other, row, "nag_mean") for row, other in pairs if other]
        tested = adjust([one for one in gaps if one])
        by_label = {one.second: one for one in tested}
        named: list[tuple[str, Row | None]] = [("full GRAO", row) for row in full or (None,)]
        named += [(ABLATIONS[name], row) for name, rows in variants.items() for row in rows or (None,)]
        for name, row in named:
            found = by_label.get(row.cell.label) if row and name != "full GRAO" else None
            relative = _relative_drop(nearest(row, full), row) if row and name != "full GRAO" else None
            printed = [_printed_drop(name, other) if subset == "helpful" else NONE for other in paper.MODELS]
            notes = "; ".join([*(row.notes if row else ("not run",)), *_unlike(row, full)])
            texts.append(
                [
                    name,
                    model,
                    *pair_of_scores(row),
                    _drop(found),
                    p_text(found.p_adjusted) if found else NONE,
                    least_text(found),
                    with_interval(relative, 1),
                    *printed,
                    row.cell.label if row else NONE,
                    notes,
                ]
            )
            runs.append(folders(row.cell) if row else ())
            lines.append({"variant": name, "model": model, **row_numbers(row, ("nag_mean", "ras"))} | difference_numbers(found, "drop_"))
            lines[-1] |= spread("relative_drop", relative) | {"notes": notes}
    if not texts:
        return None
    columns = ["variant", "model", "nag_mean %", "RAS %", "drop in nag_mean", "p (adjusted)", "smallest detectable", "relative drop %"]
    columns += [*(f"paper's {model}: NAG (drop %)" for model in paper.MODELS), "method", "notes"]
    return Sheet(
        slug(f"ablation-{table.set}-{table.reward}"),
        f"Table 3: GRAO without its parts, trained and evaluated on {table.set}, judged by {table.reward}",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "drop: full GRAO minus the variant, paired by seed and prompt, [simultaneous 95% interval"
            " over seeds and prompts]; the tests are the variants of one model",
            TESTED,
            DETECTABLE,
            "relative drop: 1 - nag_mean of the variant / that of full GRAO, per seed; none where full GRAO gained nothing in one",
            '"without exploration" is alpha = 0, which leaves lambda A_i J(o_i) in the regulariser; "at all" takes that out too:'
            " the paper does not say which it means",
        ),
        tuple(runs),
    )


def _unlike(row: Row | None, full: Sequence[Row]) -> list[str]:
    other = nearest(row, full)
    keys = other_settings(row.cell, other.cell) if row and other else []
    return [f"differs from full GRAO also in {', '.join(keys)}"] if keys else []


def _relative_drop(full: Row | None, variant: Row) -> Interval | None:
    """1 - variant / full in percent, per seed that both have; None where full GRAO gained nothing in one of them."""
    if full is None:
        return None
    whole, part = full.means.get("nag_mean", {}), variant.means.get("nag_mean", {})
    seeds = sorted(whole.keys() & part.keys())
    if not seeds or any(whole[seed] <= 0 for seed in seeds):
        return None
    return over_seeds([100.0 * (1.0 - part[seed] / whole[seed]) for seed in seeds])


def _printed_drop(name: str, model: paper.Model) -> str:
    values = paper.ABLATION.get(name)
    if values is None:
        return NONE
    drop = 100.0 * (1.0 - values[model] / paper.ABLATION["full GRAO"][model])
    return f"{values[model]:.2f}" + ("" if name == "full GRAO" else f" ({drop:.1f})")


def _drop(found: Difference | None) -> str:
    return difference_texts(found)[0] if found else NONE
