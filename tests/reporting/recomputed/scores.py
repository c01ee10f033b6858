"""Scores, and how sure they are, from docs/statistics.md and the definitions in the reports."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from .folder import Folder, Run

PERCENT = ("ras", "ras_lc", "win", "tie", "loss", "correct", "truncated", "nag_win")
REPETITION = ("distinct_1", "distinct_2", "repetition")
BOUNDS = dict.fromkeys((*PERCENT, *REPETITION), (0, 100))
BOUNDS |= {"nag_mean": (-200, 200), "nag_net": (-100, 100)}
PROMPT = ["cluster", "example_id"]
CREDIT = {"loss": 0.0, "win": 1.0, "half": 0.5}

Key = tuple[str, str]


def per_prompt(folder: Folder, run: Run, key: Key, ties: str) -> pd.DataFrame:
    """Scores per prompt, means over its answers; index (cluster, prompt)."""
    base = folder.base(run, key) if run.info["objective"] != "base" else None
    mine, theirs = without_excluded(run.answers(key), base.answers(key) if base else None)
    if mine["verdict"].notna().any():
        mine = mine[mine["verdict"].notna()]
    frame = pd.DataFrame(index=mine.index)
    frame["reward"], frame["length"] = mine["reward"], mine["num_tokens"]
    frame["truncated"] = 100.0 * ~mine["finished"].astype(bool)
    if "correct" in mine and mine["correct"].notna().all():
        frame["correct"] = 100.0 * mine["correct"].astype(float)
    for name in REPETITION:
        if name in mine and mine[name].notna().all():
            frame[name] = 100.0 * mine[name].astype(float)
    if mine["verdict"].notna().all():
        against_the_reference(frame, mine, theirs, ties)
    return frame.groupby(level=PROMPT, sort=False).mean()


def without_excluded(mine, theirs):
    """Without the answers that a judge could say nothing of in either."""
    lost = mine.index[mine["excluded"].astype(bool)]
    if theirs is None:
        return mine.drop(lost), None
    lost = lost.union(theirs.index[theirs["excluded"].astype(bool)])
    if lost.empty:
        return mine, theirs
    touched = set(lost.get_level_values("example_id"))
    mine, theirs = (one.drop(lost, errors="ignore") for one in (mine, theirs))
    gone = touched - (set(mine["example_id"]) & set(theirs["example_id"]))
    return tuple(one[~one["example_id"].isin(gone)] for one in (mine, theirs))


def against_the_reference(frame, mine, theirs, ties):
    """Adds the scores that take a verdict, and a base's verdicts on the same prompts."""
    verdict = mine["verdict"]
    frame["win"], frame["tie"] = 100.0 * (verdict > 0), 100.0 * (verdict == 0)
    frame["loss"] = 100.0 * (verdict < 0)
    frame["ras"] = frame["win"] + CREDIT[ties] * frame["tie"]
    if "reference_tokens" in mine and mine["reference_tokens"].notna().all():
        frame["reference_length"] = mine["reference_tokens"].astype(float)
        frame["ras_lc"] = length_controlled(mine, frame["ras"] / 100)
    if theirs is not None:
        theirs = theirs.loc[theirs["verdict"].notna(), "verdict"]
        before = theirs.groupby(level="example_id").mean()
        frame["nag_mean"] = 100.0 * (verdict - mine["example_id"].map(before))
        gain = verdict - theirs.reindex(mine.index)
        frame["nag_net"] = 100.0 * np.sign(gain)
        frame["nag_win"] = (100.0 * (gain > 0)).where(gain.notna())


def length_controlled(mine: pd.DataFrame, win: pd.Series) -> float | pd.Series:
    """The win rate at equal length, percent: a weighted logistic regression on
    tanh(difference / sd), half the slope's square beside the loss; where its gradient is 0."""
    difference = (mine["num_tokens"] - mine["reference_tokens"]).to_numpy(dtype=float)
    if difference.std() == 0 or win.min() == win.max():
        return 100.0 * win
    x, won = np.tanh(difference / difference.std()), win.to_numpy()
    weights = 1.0 / mine.groupby(level="example_id")["verdict"].transform("size").to_numpy()

    def gradient(beta):
        off = weights * (special.expit(beta[0] + beta[1] * x) - won)
        return [off.sum(), (off * x).sum() + beta[1]]

    found = optimize.root(gradient, np.zeros(2), tol=1e-12)
    assert max(map(abs, gradient(found.x))) < 1e-6
    return 100.0 * float(special.expit(found.x[0]))


def limits(mean, error, df, bounds=None, units=0, level=0.95):
    """The t interval; with bounds on the logit scale; at a bound Clopper and Pearson's."""
    t = stats.t.ppf((1 + level) / 2, df)
    if bounds is None:
        return mean - t * error, mean + t * error
    low, high = bounds
    p, width = (mean - low) / (high - low), high - low
    if p <= 0 or p >= 1:
        won = units if p >= 1 else 0
        ends = stats.binomtest(won, units).proportion_ci(level) if units else (p, p)
        return low + width * ends[0], low + width * ends[1]
    half = t * error / width / (p * (1 - p))
    return tuple(low + width / (1 + math.exp(-(math.log(p / (1 - p)) + s * half))) for s in (-1, 1))


def over_seeds(name: str, values: list[float], bounded: bool = True) -> dict[str, float]:
    """A score's mean, sd and interval over seeds, under the columns' names."""
    mean, n = float(np.mean(values)), len(values)
    found = {name: mean, f"{name}_sd": math.nan, f"{name}_low": math.nan, f"{name}_high": math.nan}
    if n > 1:
        sd = float(np.std(values, ddof=1))
        ends = limits(mean, sd / math.sqrt(n), n - 1, BOUNDS.get(name) if bounded else None)
        found |= {f"{name}_sd": sd, f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return found


def clustered_error(values: pd.Series) -> tuple[float, int]:
    """The standard error of a mean over clusters, linearised, and how many there are."""
    sums = (values - values.mean()).groupby(level=0).sum()
    count = len(sums)
    return math.sqrt(count / (count - 1) * (sums**2).sum()) / len(values), count


def crossed(name: str, frames: list[pd.DataFrame]) -> dict[str, float]:
    """The interval over seeds and prompts, and the design effect (docs/statistics.md)."""
    table = pd.concat([frame[name] for frame in frames], axis=1).dropna()
    table.columns = range(len(frames))
    seeds, prompts = len(frames), len(table)
    centred = table - table.to_numpy().mean()
    cells = centred.groupby(level=0).sum() / prompts  # [clusters, seeds]
    clusters = len(cells)
    by_seed, by_cluster = cells.sum(axis=0), cells.mean(axis=1)
    size = table.groupby(level=0).size() / prompts
    rest = cells.sub(by_cluster, axis=0) - np.outer(size.reindex(cells.index), by_seed)
    over_s, over_c = seeds * (seeds - 1), clusters / (clusters - 1)
    parts = {
        "s": ((by_seed**2).sum() / over_s, seeds - 1),
        "c": (over_c * (by_cluster**2).sum(), clusters - 1),
        "sc": (over_c * (rest**2).to_numpy().sum() / over_s, (seeds - 1) * (clusters - 1)),
    }
    v_s, v_c, v_sc = (parts[name][0] for name in ("s", "c", "sc"))
    total = max(v_s + v_c - v_sc, v_s, v_c)
    below = sum(variance**2 / df for variance, df in parts.values())
    df = max(total**2 / below, min(seeds, clusters) - 1) if below else min(seeds, clusters) - 1
    mean = float(np.mean([frame[name].mean() for frame in frames]))
    error = math.sqrt(total)
    ends = limits(mean, error, df, BOUNDS.get(name), clusters)
    alone = over_seeds(name, [frame[name].mean() for frame in frames])
    low, high = min(ends[0], alone[f"{name}_low"]), max(ends[1], alone[f"{name}_high"])
    means = table.mean(axis=1)
    singly = means.var(ddof=1) / prompts
    effect = clustered_error(means)[0] ** 2 / singly if singly else math.nan
    told = {"error": error, "df": df, "low": low, "high": high, "design": effect}
    return told
