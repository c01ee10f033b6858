"""The choice of a tuning, made again from its table of trials."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml


def check_trials(path: Path) -> int:
    """How many choices follow from the trials' scores, here, in chosen.yaml and in tuning.md: the
    highest mean over seeds, of equal ones the lowest setting, with every seed finished."""
    trials = pd.read_csv(path)
    keys = [name for name in trials if "." in name]
    chosen = yaml.safe_load(path.with_name("chosen.yaml").read_text(encoding="utf-8"))
    told = path.with_name("tuning.md").read_text(encoding="utf-8")
    counted = 0
    for (objective, data), mine in trials.groupby(["objective", "data"], sort=False):
        means = mine.groupby(keys)["dev_ras"].agg(["mean", "size"]).reset_index()
        whole = means[means["size"] == mine["seed"].nunique()]
        ranked = whole.assign(mean=whole["mean"].round(3)).sort_values(["mean", *keys[::-1]])
        top = ranked[ranked["mean"] == ranked["mean"].max()].sort_values(keys).iloc[0]
        marked = mine[mine["chosen"]]
        assert (marked[keys].drop_duplicates() == top[keys]).all(axis=None), (path, objective, data)
        assert chosen[data][objective] == {key: top[key] for key in keys}, (path, objective, data)
        by_seed = ", ".join(f"{value:.1f}" for value in marked["dev_ras"])
        (line,) = [one for one in told.splitlines() if is_of(one, objective, data, keys[0])]
        cells = [one.strip() for one in line.strip("| ").split("|")]
        assert float(cells[3]) == round(marked["dev_ras"].mean() + 1e-9, 1), (line, top)
        assert cells[4] == by_seed, (line, by_seed)
        counted += 3
    return counted


def is_of(line: str, objective: str, data: str, key: str) -> bool:
    """Whether a line is that of a choice."""
    cells = [one.strip() for one in line.strip("| ").split("|")]
    return cells[:2] == [objective, data] and f"{key}=" in line
