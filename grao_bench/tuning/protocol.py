"""What a tuning is, as values: which settings are tried, and which next. conf/tune/*.yaml spell it.

A search gives the first trials of an objective on a set, and after them `more`: beyond the edge
where the best lies at one, and around the best where it does not, so that every objective has as
many trials as any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal, Protocol, runtime_checkable

from grao_bench.core.errors import UserError
from grao_bench.core.ops import stream_seed

Settings = tuple[tuple[str, float], ...]
"""A trial: (configuration key, value) pairs, in the order of the keys."""
Ranges = Mapping[str, tuple[float, float]]
"""Configuration key -> (low, high), both above 0."""


@runtime_checkable
class Search(Protocol):
    """How trials are chosen within ranges, and around a best one."""

    def first(self, ranges: Ranges) -> list[Settings]:
        """The trials of the first round."""
        ...

    def more(
        self,
        ranges: Ranges,
        tried: Sequence[Settings],
        best: Settings,
        again: int,
    ) -> list[Settings]:
        """Those of round `again` (from 1), as many for any `tried` and `best`."""
        ...


def settings(values: Mapping[str, float]) -> Settings:
    """A trial of these values, each rounded to 6 significant digits."""
    return tuple(sorted((key, float(f"{value:.6g}")) for key, value in values.items()))


def edges(tried: Sequence[Settings], best: Settings) -> dict[str, Literal["low", "high"]]:
    """The keys whose best value is the lowest or the highest that was tried."""
    found: dict[str, Literal["low", "high"]] = {}
    for key, value in best:
        values = _values(tried, key)
        if value == values[0]:
            found[key] = "low"
        elif value == values[-1]:
            found[key] = "high"
    return found


@dataclass(frozen=True, kw_only=True)
class GridSearch:
    """`points` values of one key, at equal ratios from low to high; then one beyond the edge, or
    the geometric mean of the best and the neighbour that is farther from it."""

    revision: ClassVar[int] = 1

    points: int

    def first(self, ranges: Ranges) -> list[Settings]:
        """low, ..., high."""
        key, low, high = self._only(ranges)
        ratio = self._ratio(low, high)
        return [settings({key: low * ratio**i}) for i in range(self.points)]

    def more(
        self,
        ranges: Ranges,
        tried: Sequence[Settings],
        best: Settings,
        again: int,
    ) -> list[Settings]:
        """One trial."""
        key, low, high = self._only(ranges)
        value, at = dict(best)[key], edges(tried, best).get(key)
        if at is not None:
            ratio = self._ratio(low, high)
            return [settings({key: value / ratio if at == "low" else value * ratio})]
        below, above = _neighbours(tried, key, value)
        # the wider gap tells more; of equal ones the lower
        other = below if value / below >= above / value * (1 - 1e-6) else above
        return [settings({key: math.sqrt(value * other)})]

    def _only(self, ranges: Ranges) -> tuple[str, float, float]:
        if len(ranges) != 1 or self.points < 3:
            fix = "draw several keys with RandomSearch"
            raise UserError(f"tune: a grid has one key and at least 3 points; {fix}")
        ((key, (low, high)),) = ranges.items()
        return key, low, high

    def _ratio(self, low: float, high: float) -> float:
        return float((high / low) ** (1 / (self.points - 1)))


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """`trials` draws, log-uniform within the ranges, the same draws for every objective and set;
    then `more_trials` at a time: of a key at an edge within a factor of `widen` beyond it, of
    another between the best's neighbours."""

    revision: ClassVar[int] = 1

    trials: int
    more_trials: int
    widen: float
    seed: int

    def first(self, ranges: Ranges) -> list[Settings]:
        """Draws from the whole ranges."""
        return self._draws(ranges, self.trials, 0)

    def more(
        self,
        ranges: Ranges,
        tried: Sequence[Settings],
        best: Settings,
        again: int,
    ) -> list[Settings]:
        """Draws beyond the edges and around the best."""
        at, around = edges(tried, best), {}
        for key, value in best:
            if key in at:
                beyond = value / self.widen if at[key] == "low" else value * self.widen
                around[key] = (min(value, beyond), max(value, beyond))
            else:
                around[key] = _neighbours(tried, key, value)
        return self._draws(around, self.more_trials, again)

    def _draws(self, ranges: Ranges, count: int, again: int) -> list[Settings]:
        """By the key's place among the objective's, so that every rate is drawn at the same place
        of its range."""
        found = []
        names = [str(i) for i in range(len(ranges))]
        places = [Random(stream_seed(self.seed, "tune", str(again), name)) for name in names]
        ordered = sorted(ranges.items(), key=lambda one: (one[0] != RATE, one[0]))
        for _ in range(count):
            drawn = {}
            for (key, (low, high)), place in zip(ordered, places, strict=True):
                drawn[key] = low * (high / low) ** place.random()
            found.append(settings(drawn))
        return found


RATE = "optimizer.lr"


@dataclass(frozen=True, kw_only=True)
class TuningProtocol:
    """A tuning: each objective's ranges by configuration key, on each set, with each seed.

    overrides: of every cell. sweep: where the cells lie. most_rounds: how often trials are added
    at most; an objective whose best lies at an edge even then is said to. table: the file of
    conf/lr_by that the rates are written to.
    """

    revision: ClassVar[int] = 1

    sweep: str
    table: str
    sets: Sequence[str]
    seeds: Sequence[int]
    objectives: Mapping[str, Mapping[str, Sequence[float]]]
    search: Search
    most_rounds: int
    n_jobs: int
    committed: bool
    overrides: Sequence[str]

    def __post_init__(self) -> None:
        for objective, ranges in self.objectives.items():
            for key, pair in ranges.items():
                if len(pair) != 2 or not 0 < pair[0] < pair[1]:
                    where = f"tune: objectives.{objective}.{key}={list(pair)}"
                    raise UserError(f"{where}: must be [low, high], above 0")

    def ranges(self, objective: str) -> Ranges:
        """Of one objective."""
        return {key: (low, high) for key, (low, high) in self.objectives[objective].items()}


def _values(tried: Sequence[Settings], key: str) -> list[float]:
    return sorted({dict(one)[key] for one in tried})


def _neighbours(tried: Sequence[Settings], key: str, value: float) -> tuple[float, float]:
    values = _values(tried, key)
    place = values.index(value)
    return values[place - 1], values[place + 1]
