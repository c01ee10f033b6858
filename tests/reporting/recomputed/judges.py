"""Tables of who judges: another reward than the one trained on, and reward models on held-out
pairs."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from .folder import Run
from .numbers import Expected, Numbers, of_score
from .scores import Key, limits, over_seeds


def judges(numbers: Numbers, row: dict, _: str) -> Expected:
    """RAS by the reward trained on and by another, their gap paired by seed, and their bases'."""
    trained, judge = (row["set"], row["training_reward"]), (row["set"], row["judge"])
    runs = numbers.scored(row, judge)
    by_judge = ras(numbers, runs, judge)
    on_test = row["training_reward_on"] == "test"
    by_trained = ras(numbers, runs, trained) if on_test else on_dev(runs)
    found = over("ras_by_training_reward", by_trained)
    frames = numbers.frames(runs, judge)
    alone = {f"ras{end}": row[f"ras_by_judge{end}"] for end in ("", "_sd", "_low", "_high")}
    of_judge = of_score("ras", frames, alone)
    found |= {name.replace("ras", "ras_by_judge", 1): value for name, value in of_judge.items()}
    shared = sorted(by_judge.keys() & by_trained.keys())
    found |= gap(np.array([by_trained[seed] - by_judge[seed] for seed in shared]))
    bases = [one for one in numbers.folder.runs if one.info["objective"] == "base"]
    weights = runs[0].info["fingerprints"]["base"]
    bases = [one for one in bases if one.info["fingerprints"]["base"] == weights]
    for name, key in (("base_by_training_reward", trained), ("base_by_judge", judge)):
        known = [one for one in bases if key in one.keys]
        found[name] = ras(numbers, known[:1], key).popitem()[1] if known else math.nan
    if not on_test:
        started = [100 * run.probes[0]["metrics"]["ras"] for run in runs]
        found["base_by_training_reward"] = float(np.mean(started))
    return found


def ras(numbers: Numbers, runs: list[Run], key: Key) -> dict[int, float]:
    """By seed."""
    frames = numbers.frames(runs, key)
    return {run.seed: float(one["ras"].mean()) for run, one in zip(runs, frames, strict=True)}


def on_dev(runs: list[Run]) -> dict[int, float]:
    """By seed, of the policy that was kept."""
    return {run.seed: 100 * run.kept["ras"] for run in runs if run.kept and "ras" in run.kept}


def over(name: str, by_seed: dict[int, float]) -> Expected:
    """A RAS over seeds under another name."""
    found = over_seeds("ras", list(by_seed.values()))
    return {key.replace("ras", name, 1): value for key, value in found.items()}


def gap(gaps: np.ndarray) -> Expected:
    """A paired t test, alone in its family."""
    found: Expected = {"gap_mean": float(gaps.mean()), "gap_seeds": len(gaps)}
    if len(gaps) > 1:
        sd = float(gaps.std(ddof=1))
        error, df = sd / math.sqrt(len(gaps)), len(gaps) - 1
        low, high = limits(found["gap_mean"], error, df)
        p = 2 * stats.t.sf(abs(found["gap_mean"]) / error, df)
        found |= {"gap_sd": sd, "gap_low": low, "gap_high": high}
        found |= {"gap_p": p, "gap_p_adjusted": p}
    return found


def reward_models(numbers: Numbers, row: dict, _: str) -> Expected:
    """What a run's record says of its reward model: the pairs' scores are not in the records."""
    for run in numbers.folder.runs:
        for purpose, by_name in run.info.get("judges", {}).items():
            of = f"{purpose} on {run.info['data']}" if purpose == "training" else purpose
            told = by_name.get(row["reward_model"], {}).get("pair_accuracy")
            if told and of == row["for"] and told["pairs"] == int(row["pairs"]):
                shares = {key: value for key, value in told.items() if isinstance(value, dict)}
                ends = {"value": "", "low": "_low", "high": "_high"}
                flat = {f"{k}{ends[end]}": v[end] for k, v in shares.items() for end in ends}
                assert row["split"] == told["split"], row
                return flat | {"pairs": told["pairs"]}
    raise AssertionError(f"no run says this of {row['reward_model']}")
