"""What training cost."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.intervals import over_seeds
from grao_bench.reporting.gather.spent import COUNTED, counts_of
from grao_bench.reporting.tables.columns import Line, cell_columns, folders, row_name, spread, tidy
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, with_sd


def cost(cells: Sequence[Cell]) -> Sheet | None:
    """Tokens, seconds and peak memory per method; None where nothing was trained."""
    texts: list[list[str]] = []
    lines: list[Line] = []
    for cell in (cell for cell in cells if cell.trained):
        runs = cell.runs
        counts = {
            name: over_seeds([counts_of(run)[name] for run in runs]) if runs else None
            for name in COUNTED
        }
        seconds = [sum(float(line["seconds"]) for line in run.timing) for run in runs if run.timing]
        spent = over_seeds(seconds) if seconds else None
        steps = counts["steps"].mean if counts["steps"] else 0.0
        peaks = [peak for run in runs if (peak := peak_memory(run)) is not None]
        peak = max(peaks) if peaks else None
        hardware = ", ".join(
            sorted({run.info.environment.get("hardware", "") for run in runs} - {""})
        )
        texts.append(
            [
                *row_name(cell),
                cell.data,
                str(len(runs)),
                *(NONE if one is None else number(one.mean, 0) for one in counts.values()),
            ]
        )
        texts[-1] += [with_sd(spent, 1), number(spent.mean / steps, 3) if spent and steps else NONE]
        texts[-1] += [
            f"{peak:,.0f} MiB" if peak is not None else "not recorded" if runs else NONE,
            hardware or NONE,
        ]
        texts[-1].append(
            "; ".join(f"seed {lost.seed} not finished: {lost.reason}" for lost in cell.missing)
        )
        lines.append(
            cell_columns(cell)
            | {
                "seeds": len(runs),
                **{name: one.mean if one else None for name, one in counts.items()},
            }
        )
        lines[-1] |= spread("seconds", spent) | {"peak_memory_mib": peak, "hardware": hardware}
    if not texts:
        return None
    columns = [
        "method",
        "model",
        "trained on",
        "seeds",
        *COUNTED.values(),
        "seconds",
        "seconds per step",
        "peak memory",
        "hardware",
        "notes",
    ]
    return Sheet(
        "cost",
        "What training cost",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "means over seeds, seconds ± sd: training steps alone, without probes and evaluation;"
            " the peak is the largest of the seeds."
            " SFT and DPO generate nothing. A run that started from another run shows its own"
            " stage",
        ),
        tuple(folders(cell) for cell in cells if cell.trained),
    )


def peak_memory(run: Run) -> float | None:
    """MiB; None where it was not recorded."""
    return None if run.info.peak_memory is None else run.info.peak_memory / 2**20
