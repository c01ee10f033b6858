"""The learning rate of each objective from a tuning sweep: the highest RAS on dev, averaged over its seeds and sets.

python sweeps/choose_rates.py runs/tune
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from grao_bench.records import find_runs


def rates(folder: Path) -> pd.DataFrame:
    """Mean RAS on dev (percent, last probe) by objective (rows) and learning rate (columns)."""
    rows = [
        {"objective": run.info.objective, "lr": run.info.config["optimizer"]["lr"], "ras": 100 * run.probes[-1].metrics["ras"]}
        for run in find_runs(folder)
        if run.info.objective != "base"
    ]
    return pd.DataFrame(rows).pivot_table(index="objective", columns="lr", values="ras", aggfunc=["mean", "count"])


if __name__ == "__main__":
    table = rates(Path(sys.argv[1]))
    print("RAS on dev, percent, mean over seeds and sets\n")
    print(table["mean"].round(1).to_string())
    print(f"\nruns per cell of this table: {sorted({int(count) for count in table['count'].fillna(0).to_numpy().ravel()})}")
    print("\nchosen:")
    print(table["mean"].idxmax(axis=1).to_string())
