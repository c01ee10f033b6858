"""A table's lines of numbers, made again. One function a kind of table: a committed line in, what
its numbers have to be out. What no function knows fails the test: a new table brings its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from .folder import Folder, Run
from .scores import BOUNDS, Key, clustered_error, crossed, limits, over_seeds, per_prompt

WORDS = {"model", "method", "objective", "config_hash", "trained_on", "set", "data", "ties"}
WORDS |= {"reward_source", "seeds", "interval", "alarms", "notes", "hardware"}
WORDS |= {"case", "seed", "id", "by", "text", "verdict", "errors", "df", "first", "second", "score"}
"""Columns that are no number, or that a table's function holds against the records itself."""

Expected = dict[str, float]


class Rough(float):
    """Follows from a number that stands in the table, rounded there, or from a resampling."""


class Numbers:
    """The numbers of a folder, each made once."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.rows: dict[tuple, tuple[str, Expected]] = {}
        self._frames: dict = {}

    def frames(self, runs: Iterable[Run], key: Key, ties: str = "loss") -> list[pd.DataFrame]:
        """Scores per prompt of each run."""
        found = []
        for run in runs:
            name = (run.path, key, ties)
            if name not in self._frames:
                self._frames[name] = per_prompt(self.folder, run, key, ties)
            found.append(self._frames[name])
        return found

    def scored(self, row: dict, key: Key) -> list[Run]:
        return [run for run in self.folder.of(row) if key in run.keys]


def main(numbers: Numbers, row: dict, _: str) -> Expected:
    """tables.csv, the main tables and the cross tables."""
    name = tuple(row[one] for one in ("model", "trained_on", "config_hash", "set", "reward_source"))
    if name not in numbers.rows:
        numbers.rows[name] = main_row(numbers, row)
    seeds, found = numbers.rows[name]
    assert row["seeds"] == seeds, row
    return found


def main_row(numbers: Numbers, row: dict) -> tuple[str, Expected]:
    """The seeds that were evaluated, and their numbers."""
    key = (row["set"], row["reward_source"])
    runs = numbers.scored(row, key)
    if not runs:
        return "", {}
    frames = numbers.frames(runs, key, row["ties"])
    found = {"prompts": len(frames[0])}
    for name in [one for one in frames[0] if all(one in frame for frame in frames)]:
        found |= of_score(name, frames, row)
    kept = [run.kept["kl"] for run in runs if run.kept and "kl" in run.kept]
    if kept and row["objective"] != "base":
        found |= over_seeds("kl", kept)
    for name in ("ras", "nag_mean") if len(frames) > 1 else ():
        if name in frames[0]:
            told = crossed(name, frames)
            ends = ("error", "low", "high")
            found |= {f"{name}_crossed_{end}": told[end] for end in ends}
            found[f"{name}_design_effect"] = told["design"]
    return " ".join(str(run.seed) for run in runs), found


def of_score(name: str, frames: list[pd.DataFrame], row: dict) -> Expected:
    """Over seeds, or of one seed over prompts. There the error is a bootstrap's, which is told from
    the linearised one by 12% at most; the interval has to follow from the error that stands."""
    if len(frames) > 1:
        return over_seeds(name, [float(frame[name].mean()) for frame in frames])
    mean = float(frames[0][name].mean())
    error, clusters = clustered_error(frames[0][name])
    said = float(row[f"{name}_sd"])
    if name != "ras_lc":  # its error is that of a fit
        assert math.isclose(said, error, rel_tol=0.12, abs_tol=1e-9), (name, said, error)
    low, high = limits(mean, said, clusters - 1, BOUNDS.get(name), clusters)
    ends = {f"{name}_low": Rough(low), f"{name}_high": Rough(high)}
    return {name: mean, f"{name}_sd": said} | ends


def lengths(numbers: Numbers, row: dict, name: str) -> Expected:
    key = key_of(name)
    runs = numbers.scored(row, key)
    assert int(row["seeds"]) == len(runs)
    frames = numbers.frames(runs, key, "loss")
    scores = [one for one in frames[0] if one in row]
    return {k: v for one in scores for k, v in of_score(one, frames, row).items()}


def quartiles(numbers: Numbers, row: dict, name: str) -> Expected:
    key = key_of(name)
    runs = numbers.scored(row, key)
    measured: list[dict] = []
    for run in runs:
        answers = run.answers(key)
        known = answers[~answers["excluded"].astype(bool)]
        values = known.groupby(level="example_id")["reward"].mean()
        five = np.percentile(values, [0, 25, 50, 75, 100])
        named = dict(zip(("min", "q1", "median", "q3", "max"), five, strict=True))
        measured.append(named | {"mean": values.mean(), "variance": values.var(ddof=1)})
    assert int(row["seeds"]) == len(runs)
    return of_each(measured)


def of_each(measured: list[dict]) -> Expected:
    """Mean, sd and unbounded interval over seeds of each named number."""
    found: Expected = {}
    for name in measured[0] if measured else ():
        found |= over_seeds(name, [one[name] for one in measured], bounded=False)
    return found


def differences(numbers: Numbers, row: dict, name: str) -> Expected:
    """Paired by seed and prompt; the family is the lines of one model and score."""
    score, key = row["score"], key_of(name)
    sides = []
    for label in (row["first"], row["second"]):
        runs = numbers.folder.labelled(key, row["model"], label)
        frames = numbers.frames(runs, key, ties_of(numbers))
        sides.append({run.seed: one[score] for run, one in zip(runs, frames, strict=True)})
    seeds = sorted(sides[0].keys() & sides[1].keys())
    gaps = [(sides[0][seed] - sides[1][seed]).rename(score) for seed in seeds]
    # of each side's own mean: a prompt that one of the two lacks is in its mean alone
    means = np.array([sides[0][seed].mean() - sides[1][seed].mean() for seed in seeds])
    found: Expected = {"mean": means.mean(), "seeds": len(seeds)}
    if len(seeds) < 2:
        return found
    sd = float(means.std(ddof=1))
    ends = limits(found["mean"], sd / math.sqrt(len(seeds)), len(seeds) - 1)
    found |= {"sd": sd, "low": ends[0], "high": ends[1]}
    told = crossed(score, [gap.to_frame() for gap in gaps])
    errors = [(sd / math.sqrt(len(seeds)), len(seeds) - 1), (told["error"], told["df"])]
    found |= tested(found["mean"], errors, int(row["tests"]), float(row["margin"]))
    for column, values in (("errors", [e for e, _ in errors]), ("df", [df for _, df in errors])):
        said = [float(one) for one in str(row[column]).split()]
        assert np.allclose(said, values, rtol=1e-3), (column, said, values)
    assert row["verdict"] == word(found, float(row["margin"])), row
    found |= improved(*([float(one.mean()) for one in side.values()] for side in sides))
    return found


def tested(mean: float, errors: list, tests: int, margin: float) -> Expected:
    """By each error, the widest counts; Bonferroni; two one-sided tests for the margin."""
    p = max(2 * stats.t.sf(abs(mean) / error, df) for error, df in errors)
    half = max(stats.t.isf(0.025 / tests, df) * error for error, df in errors)
    level = max(stats.t.sf((margin - abs(mean)) / error, df) for error, df in errors)
    return {
        "p": p,
        "p_adjusted": min(1, tests * p),
        "tests": tests,
        "margin": margin,
        "adjusted_low": mean - half,
        "adjusted_high": mean + half,
        "p_level": min(1, tests * level),
        "detectable": detectable(errors, tests),
    }


def power(difference: float, errors: list, tests: int) -> float:
    """Of the weakest of the t tests, two-sided at 5% over the number of tests."""
    found = []
    for error, df in errors:
        bar, shift = stats.t.isf(0.025 / tests, df), difference / error
        tails = special.nctdtr(df, shift, -bar), 1 - special.nctdtr(df, shift, bar)
        found.append(float(np.nan_to_num(tails).sum()))
    return min(found)


def detectable(errors: list, tests: int) -> float:
    """The difference that is found with power 80%."""
    most = max(error * (10 + 4 * stats.t.isf(0.025 / tests, df)) for error, df in errors)
    return float(optimize.brentq(lambda d: power(d, errors, tests) - 0.8, 0, most, xtol=1e-9))


def word(found: Expected, margin: float) -> str:
    if found["p_adjusted"] < 0.05:
        return "ahead" if found["mean"] > 0 else "behind"
    return "level" if found["p_level"] < 0.05 else "not shown to differ"


def improved(ours: list[float], theirs: list[float]) -> Expected:
    """P(first better) by counting pairs; Newcombe's limits (2006, method 5), where the distance to
    it is 1.96 of the standard errors that a limit itself implies."""
    p = float(np.mean([(a > b) + (a == b) / 2 for a in ours for b in theirs]))
    m, n = len(ours), len(theirs)
    other, z = (m + n) / 2 - 1, stats.norm.isf(0.025)

    def beyond(q):
        spread = q * (1 - q) * (1 + other * ((1 - q) / (2 - q) + q / (1 + q)))
        return (q - p) ** 2 - z**2 * spread / (m * n)

    near = 1e-9
    low = optimize.brentq(beyond, 0, min(p, 1 - near)) if p > 0 else 0.0
    high = optimize.brentq(beyond, max(p, near), 1) if p < 1 else 1.0
    return {"better": p, "better_low": low, "better_high": high}


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


def gains(numbers: Numbers, row: dict, name: str) -> Expected:
    """The reward over the base's, by criterion and kind."""
    key = key_of(name)
    of_references = row["method"] == "the references"
    if of_references:
        bases = numbers.folder.tables
        bases = bases[(bases["objective"] == "base") & (bases["model"] == row["model"])]
        runs = numbers.folder.of(bases.to_dict("records")[0])
    else:
        runs = numbers.scored(row, key)
    by_key = [run.info.get("criteria", {}).get(f"{key[0]}/{key[1]}") for run in numbers.folder.runs]
    told = next(one for one in by_key if one)
    frames = [gained(numbers.folder, run, key, told, of_references) for run in runs]
    frames = [with_kinds(frame, frames, told["kinds"]) for frame in frames]
    found: Expected = {}
    for column in [one for one in frames[0] if one in row]:
        values = [frame[column] for frame in frames]
        if len(values) > 1:
            found |= over_seeds(column, [float(one.mean()) for one in values], bounded=False)
        else:
            found |= of_score(column, [values[0].to_frame()], row)
    return found | {"form_or_manners_percent": formal(frames, told["kinds"])}


def gained(folder: Folder, run: Run, key: Key, told: dict, of_references: bool) -> pd.DataFrame:
    """Per prompt: total, and `criterion X` of those that one of the two said something of."""
    base = run if of_references else folder.base(run, key)
    theirs = base.parts(key, told, "parts")
    mine = run.parts(key, told, "reference_parts" if of_references else "parts")
    both = mine.index.intersection(theirs.index, sort=False)
    mine, theirs = mine.loc[both], theirs.loc[both]
    silent = [name for name in told["kinds"] if not mine[name].any() and not theirs[name].any()]
    gap = (mine - theirs).drop(columns=silent)
    return gap.add_prefix("criterion ").rename(columns={"criterion total": "total"})


def with_kinds(frame: pd.DataFrame, frames: list[pd.DataFrame], kinds: dict) -> pd.DataFrame:
    """With 0 for what only other seeds said something of, the kinds' sums, and what is left."""
    said = [f"criterion {one}" for one in kinds if any(f"criterion {one}" in of for of in frames)]
    frame = frame.reindex(columns=["total", *said], fill_value=0.0)
    for kind in dict.fromkeys(kinds[name.removeprefix("criterion ")] for name in said):
        of_kind = [name for name in said if kinds[name.removeprefix("criterion ")] == kind]
        frame[kind] = frame[of_kind].sum(axis=1)
    return frame.assign(rest=frame["total"] - frame[said].sum(axis=1))


def formal(frames: list[pd.DataFrame], kinds: dict) -> float:
    """Form's and manners' share of what was gained; none where no gain is shown."""
    pooled = pd.concat(frames).groupby(level=[0, 1], sort=False).mean()
    error, _ = clustered_error(pooled["total"])
    said = [name for name in kinds if f"criterion {name}" in pooled]
    mean = {name: max(0.0, pooled[f"criterion {name}"].mean()) for name in said}
    if pooled["total"].mean() <= max(2 * error, 0) or not sum(mean.values()) > 0:
        return math.nan
    share = sum(value for name, value in mean.items() if kinds[name] in ("form", "manners"))
    return 100 * share / sum(mean.values())


def cases(numbers: Numbers, row: dict, name: str) -> Expected:
    """The verdict of an answer, and its text, are those of its record."""
    key, by = key_of(name), row["by"]
    if by not in ("prompt", "reference"):
        models = numbers.folder.tables["model"].unique()
        runs = [one for model in models for one in numbers.folder.labelled(key, model, by)]
        run = next(one for one in runs if one.seed == int(row["seed"]))
        answers = run.answers(key)
        mine = (answers["example_id"] == row["id"]) & (answers["draw"] == 0)
        (one,) = answers[mine].to_dict("records")
        sign = {1: "win", 0: "tie", -1: "loss"}[int(np.sign(one["verdict"]))]
        assert (row["verdict"], row["text"]) == (sign, one["answer"]), row
    return {}


def key_of(name: str) -> Key:
    """ "lengths-world_helpful-gold" -> its set and judge."""
    _, of, judge = name.split("-", 2)
    return of, judge


def ties_of(numbers: Numbers) -> str:
    return numbers.folder.tables["ties"].iloc[0]


KINDS: dict[str, Callable[[Numbers, dict, str], Expected]] = {
    "tables": main,
    "main": main,
    "cross": main,
    "lengths": lengths,
    "quartiles": quartiles,
    "differences": differences,
    "probes": probes,
    "steps_to_best": steps_to_best,
    "late_training": late_training,
    "cost": cost,
    "gains": gains,
    "cases": cases,
}


def check(numbers: Numbers, path: Path) -> int:
    """How many numbers of a table were found right; AssertionError names the first that is not."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return sum(check_row(numbers, row, path) for row in table.to_dict("records"))


def check_row(numbers: Numbers, row: dict[str, str], path: Path) -> int:
    """The same of one line."""
    kind = path.stem.split("-")[0]
    assert kind in KINDS, f"{path}: no recomputation for tables of this kind"
    expected, counted = KINDS[kind](numbers, row, path.stem), 0
    for column, said in row.items():
        if column in WORDS or column.endswith("_why"):
            continue
        value = expected.get(column, math.nan)
        same = math.isnan(value) if said == "" else close(float(said), value)
        who = row.get("method") or f"{row.get('first')} - {row.get('second')}"
        assert same, f"{path}: {who}, {column}: {said!r} stands, {value!r} is right"
        counted += said != ""
    return counted


def close(said: float, value: float) -> bool:
    """To the last of the six digits that are written; a rough one to 1 in 10,000."""
    if math.isnan(value) or said == value:
        return said == value
    if isinstance(value, Rough):
        return math.isclose(said, value, rel_tol=1e-4, abs_tol=1e-9)
    last = 10.0 ** (math.floor(math.log10(max(abs(said), abs(value)))) - 5)
    return abs(said - value) <= 0.51 * last or max(abs(said), abs(value)) < 1e-12
