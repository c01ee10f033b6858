"""A table's lines of numbers, made again. One function a kind of table: a committed line in, what
its numbers have to be out. What no function knows fails the test: a new table brings its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from .gains import gains
from .judges import judges, reward_models
from .numbers import Expected, Numbers, Rough
from .pairs import differences
from .rows import cases, lengths, main, quartiles
from .training import cost, late_training, probes, steps_to_best

WORDS = {"model", "method", "objective", "config_hash", "trained_on", "set", "data", "ties"}
WORDS |= {"reward_source", "seeds", "interval", "alarms", "notes", "role", "hardware"}
WORDS |= {"case", "seed", "id", "by", "text", "verdict", "errors", "df", "first", "second", "score"}
WORDS |= {"training_reward", "training_reward_on", "judge", "gap_first", "gap_second"}
WORDS |= {"for", "reward_model", "split", "prefers_longer"}
"""Columns that are no number, or that a table's function holds against the records itself."""


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
    "judges": judges,
    "reward_models": reward_models,
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
        return math.isclose(said, value, rel_tol=1e-4, abs_tol=1e-6)
    last = 10.0 ** (math.floor(math.log10(max(abs(said), abs(value)))) - 5)
    return abs(said - value) <= 0.51 * last or max(abs(said), abs(value)) < 1e-12
