"""Tables whose lines are configurations evaluated on a set."""

from __future__ import annotations

import numpy as np

from .numbers import Expected, Numbers, key_of, of_each, of_score
from .scores import crossed, over_seeds


def main(numbers: Numbers, row: dict, _: str) -> Expected:
    """tables.csv, the main tables and the cross tables."""
    name = tuple(row[one] for one in ("model", "trained_on", "config_hash", "set", "reward_source"))
    if name not in numbers.rows:
        numbers.rows[name] = main_row(numbers, row)
    seeds, found = numbers.rows[name]
    assert (row["seeds"], row["ties"]) == (seeds, numbers.ties), row
    return found


def main_row(numbers: Numbers, row: dict) -> tuple[str, Expected]:
    """The seeds that were evaluated, and their numbers."""
    key = (row["set"], row["reward_source"])
    runs = numbers.scored(row, key)
    if not runs:
        return "", {}
    frames = numbers.frames(runs, key)
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


def lengths(numbers: Numbers, row: dict, name: str) -> Expected:
    key = key_of(name)
    runs = numbers.scored(row, key)
    assert int(row["seeds"]) == len(runs)
    frames = numbers.frames(runs, key)
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
