"""The learning rate of each objective from a tuning sweep: the highest RAS on dev, averaged over its seeds and sets.

python sweeps/choose_rates.py runs/tune [trials.csv]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from grao_bench.records import find_runs


def trials(folder: Path) -> pd.DataFrame:
    """One row per run: objective, data, learning rate, seed, and RAS on dev (percent, last probe)."""
    rows = [
        {
            "objective": run.info.objective,
            "data": run.info.data,
            "lr": run.info.config["optimizer"]["lr"],
            "seed": run.info.seed,
            "dev_ras": round(100 * run.probes[-1].metrics["ras"], 2),
        }
        for run in find_runs(folder)
        if run.info.objective != "base"
    ]
    return pd.DataFrame(rows).sort_values(["objective", "data", "lr", "seed"])


if __name__ == "__main__":
    found = trials(Path(sys.argv[1]))
    for data, part in [*found.groupby("data"), ("both sets", found)]:
        print(f"RAS on dev, percent, mean over seeds: {data}\n")
        print(part.pivot_table(index="objective", columns="lr", values="dev_ras").round(1).to_string(na_rep=""), end="\n\n")
    print(f"runs per objective: {found.groupby('objective').size().to_dict()}")
    print("\nchosen (the highest mean over both sets):")
    print(found.pivot_table(index="objective", columns="lr", values="dev_ras").idxmax(axis=1).to_string())
    if len(sys.argv) > 2:
        found.to_csv(sys.argv[2], index=False)
