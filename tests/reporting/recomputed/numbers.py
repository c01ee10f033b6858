"""The scores of a folder's runs, and what tables have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from .folder import Folder, Run
from .scores import BOUNDS, Key, clustered_error, limits, over_seeds, per_prompt

Expected = dict[str, float]
"""What the numbers of a table's line have to be, by column."""


class Rough(float):
    """Follows from a number that stands in the table, rounded there, from a resampling, or from a fit
    that an optimiser ends where it will."""


class Numbers:
    """The numbers of a folder, each made once."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        (self.ties,) = folder.tables["ties"].unique()
        self.rows: dict[tuple, tuple[str, Expected]] = {}
        self._frames: dict = {}

    def frames(self, runs: Iterable[Run], key: Key) -> list[pd.DataFrame]:
        """Scores per prompt of each run."""
        found = []
        for run in runs:
            name = (run.path, key)
            if name not in self._frames:
                self._frames[name] = per_prompt(self.folder, run, key, self.ties)
            found.append(self._frames[name])
        return found

    def scored(self, row: dict, key: Key) -> list[Run]:
        return [run for run in self.folder.of(row) if key in run.keys]


def of_score(name: str, frames: list[pd.DataFrame], row: dict) -> Expected:
    """Over seeds, or of one seed over prompts. There the error is a bootstrap's, which is told from
    the linearised one by 12% at most; the interval has to follow from the error that stands."""
    if len(frames) > 1:
        found = over_seeds(name, [float(frame[name].mean()) for frame in frames])
        fitted = name == "ras_lc"
        return {key: Rough(value) for key, value in found.items()} if fitted else found
    mean = float(frames[0][name].mean())
    error, clusters = clustered_error(frames[0][name])
    said = float(row[f"{name}_sd"])
    if name != "ras_lc":  # its error is that of a fit
        assert math.isclose(said, error, rel_tol=0.12, abs_tol=1e-9), (name, said, error)
    low, high = limits(mean, said, clusters - 1, BOUNDS.get(name), clusters)
    ends = {f"{name}_low": Rough(low), f"{name}_high": Rough(high)}
    return {name: mean, f"{name}_sd": said} | ends


def of_each(measured: list[dict]) -> Expected:
    """Mean, sd and unbounded interval over seeds of each named number."""
    found: Expected = {}
    for name in measured[0] if measured else ():
        found |= over_seeds(name, [one[name] for one in measured], bounded=False)
    return found


def key_of(name: str) -> Key:
    """ "lengths-world_helpful-gold" -> its set and judge."""
    _, of, judge = name.split("-", 2)
    return of, judge
