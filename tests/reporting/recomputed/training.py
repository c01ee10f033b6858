"""Tables of what was recorded while training."""

from __future__ import annotations

import math

import numpy as np

from .folder import Run
from .numbers import Expected, Numbers
from .scores import over_seeds


def probes(numbers: Numbers, row: dict, _: str) -> Expected:
    runs = [run for run in numbers.folder.of(row) if run.kept]
    assert int(row["seeds"]) == len(runs)
    found: Expected = {}
    for name in ("kl", "kl_token", "j_reference", "entropy"):
        values = [run.kept[name] for run in runs if name in run.kept]
        if values:
            found |= over_seeds(name, values, bounded=False)
        if len(values) == 1 and f"{name}_se" in runs[0].kept:
            error = runs[0].kept[f"{name}_se"]
            low, high = values[0] - 1.959964 * error, values[0] + 1.959964 * error
            found |= {f"{name}_sd": error, f"{name}_low": low, f"{name}_high": high}
    errors = [run.kept["kl_se"] for run in runs if "kl_se" in run.kept]
    found["kl_se_within_run"] = float(np.mean(errors)) if errors else math.nan
    starts = [run.probes[0]["metrics"] for run in runs if run.probes[0]["step"] == 0]
    for name in ("j_reference", "entropy"):
        values = [one[name] for one in starts if name in one]
        found[f"{name}_at_start"] = float(np.mean(values)) if values else math.nan
    return found


def first_at(run: Run, gain: float) -> float:
    """The first probe with 95% of a gain over the base."""
    risen = run.series() - run.series()[0]
    there = risen.index[risen >= 0.95 * gain - 1e-12]
    return float(there[0]) if gain > 0 and len(there) else math.nan


def best(run: Run) -> float:
    return float(run.series().max() - run.series()[0])


def steps_to_best(numbers: Numbers, row: dict, _: str) -> Expected:
    runs = numbers.folder.of(row | {"trained_on": row["data"]})
    runs = [run for run in runs if 0 in run.series().index and len(run.series()) > 1]
    steps = [first_at(run, best(run)) for run in runs]
    assert int(row["seeds"]) == len(runs)
    found = {"never": sum(map(math.isnan, steps))}
    found |= over_seeds("best_gain", [best(run) for run in runs], bounded=False)
    if not found["never"]:
        found |= over_seeds("steps_to_best", steps, bounded=False)
    for name in ("ppo", "grpo"):
        named = numbers.folder.tables
        named = named[(named["method"] == name) & (named["trained_on"] == row["data"])]
        named = named[named["model"] == row["model"]].drop_duplicates("config_hash")
        if len(named) != 1 or row["method"] == name:
            continue
        theirs = {run.seed: run for run in numbers.folder.of(named.to_dict("records")[0])}
        pairs = [(run, theirs[run.seed]) for run in runs if run.seed in theirs]
        for to in ("own", "reference"):
            found |= fewer(pairs, f"fewer_than_{name}_to_{to}", to)
    return found


def fewer(pairs: list, column: str, to: str) -> Expected:
    saved = []
    for run, other in pairs:
        ours = first_at(run, best(run) if to == "own" else best(other))
        saved.append(100 * (1 - ours / first_at(other, best(other))))
    lost = not saved or any(map(math.isnan, saved))
    return {} if lost else over_seeds(column, saved, bounded=False)


def late_training(numbers: Numbers, row: dict, _: str) -> Expected:
    measured: dict[str, list[float]] = {"variation": [], "rise": [], "silent_groups": []}
    for run in numbers.folder.of(row):
        series, steps = run.series(), run.step_series("groups_without_signal")
        end, gain = series.index.max(), best(run)
        late = series[series.index >= 0.8 * end]
        third = series[(series.index >= 0.5 * end) & (series.index < 0.75 * end)]
        fourth = series[series.index >= 0.75 * end]
        enough = gain > 0 and len(late) >= 3
        span = 50 * (late.max() - late.min()) / gain if enough else math.nan
        measured["variation"].append(span)
        risen = 100 * (fourth.mean() - third.mean()) / gain if gain > 0 else math.nan
        measured["rise"].append(risen)
        silent = steps[steps.index > 0.8 * len(run.steps)]
        measured["silent_groups"].append(100 * silent.mean())
    found: Expected = {}
    for name, values in measured.items():
        if not any(map(math.isnan, values)):
            found |= over_seeds(name, values, bounded=False)
    return found


def cost(numbers: Numbers, row: dict, _: str) -> Expected:
    runs = numbers.folder.of(row)
    assert int(row["seeds"]) == len(runs)
    found: Expected = {"steps": float(np.mean([len(run.steps) for run in runs]))}
    for name in ("answers", "generated_tokens", "forward_tokens"):
        found[name] = float(np.mean([sum(one[name] for one in run.steps) for run in runs]))
    seconds = [sum(one["seconds"] for one in run.seconds) for run in runs if run.seconds]
    if seconds:
        found |= over_seeds("seconds", seconds, bounded=False)
    peaks = [peak for run in runs if (peak := peak_memory(run)) is not None]
    found["peak_memory_mib"] = max(peaks) if peaks else math.nan
    return found


def peak_memory(run: Run) -> float | None:
    if run.info.get("peak_memory") is not None:
        return run.info["peak_memory"] / 2**20
    return (run.info.get("notes") or {}).get("peak memory MiB")
