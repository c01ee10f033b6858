"""Trained on one reward, judged by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grao_bench.core.records import Run
from grao_bench.reporting.gather.comparisons import Difference, paired
from grao_bench.reporting.gather.intervals import PERCENT, Interval, over_seeds
from grao_bench.reporting.gather.order import cell_order
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row, kept_probe
from grao_bench.reporting.tables.columns import Column, folders, made_of, measured, naming
from grao_bench.reporting.tables.differences import (
    difference_numbers,
    difference_texts,
)
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, with_interval

NOTES = (
    "gap: RAS by the training reward minus RAS by the judge, paired by seed. Two judges differ on"
    " any text; over-optimisation is a gap that grows beyond the base's",
    "(test): the same test answers under both; (dev): the training reward was asked on the dev"
    " batch alone, so prompts differ too",
)


@dataclass(frozen=True)
class Judged:
    """A row judged by another reward than it was trained on.

    trained: by seed, RAS by the training reward, on "test" or "dev" (`where`). started, by_judge:
    its base's RAS by the one and by the other.
    """

    row: Row
    own: str
    trained: Mapping[int, float]
    where: str
    started: Interval | None
    by_judge: Interval | None

    @property
    def ours(self) -> Interval | None:
        """RAS by the training reward."""
        return over_seeds(list(self.trained.values()), PERCENT) if self.trained else None

    @property
    def gap(self) -> Difference | None:
        """RAS by the training reward minus RAS by the judge."""
        if not self.trained:
            return None
        return paired("training reward", self.row.reward, self.trained, self.row.means["ras"])

    @property
    def bases_gap(self) -> str:
        """The same of the base."""
        if self.started is None or self.by_judge is None:
            return NONE
        return number(self.started.mean - self.by_judge.mean, 1)


def judges(rows: Sequence[Row]) -> Sheet | None:
    """The reward that was trained on beside others that judge the same model: a gap between them is
    what over-optimisation looks like.

    RAS by the training reward is that on the test set where it was judged so there, else that of
    the kept policy's probe on dev. None where nothing is judged by another reward than it was
    trained on.
    """
    by_cell = sorted(
        (row for row in rows if row.cell.objective != BASE),
        key=lambda row: (cell_order(row.cell), row.set, row.reward),
    )
    lines = [one for row in by_cell if (one := _judged(row, rows)) is not None]
    if not lines:
        return None
    runs = tuple(folders(one.row.cell) for one in lines)
    title = "Trained on one reward, judged by another"
    return Sheet("judges", title, *made_of(_columns(), lines), NOTES, runs)


def _columns() -> list[Column[Judged]]:
    def of_base(found: Interval | None) -> float | None:
        return found.mean if found else None

    return [
        *naming(lambda one: one.row.cell),
        Column("set", lambda one: one.row.set, lambda one: {"set": one.row.set}),
        Column(
            "training reward",
            lambda one: f"{one.own} ({one.where})",
            lambda one: {"training_reward": one.own, "training_reward_on": one.where},
        ),
        Column("", numbers=lambda one: {"judge": one.row.reward}),
        measured("RAS % by it", "ras_by_training_reward", lambda one: one.ours, 1),
        Column("its base's", lambda one: with_interval(one.started, 1)),
        Column("judge", lambda one: one.row.reward),
        measured("RAS % by the judge", "ras_by_judge", lambda one: one.row.scores["ras"], 1),
        Column(
            "gap",
            lambda one: difference_texts(one.gap)[0] if one.gap else NONE,
            lambda one: difference_numbers(one.gap, "gap_"),
        ),
        Column(
            "its base's gap",
            lambda one: one.bases_gap,
            lambda one: {
                "base_by_training_reward": of_base(one.started),
                "base_by_judge": of_base(one.by_judge),
            },
        ),
    ]


def _judged(row: Row, rows: Sequence[Row]) -> Judged | None:
    """None where no other reward judged a row on its own set."""
    own = sorted({run.info.reward for run in row.cell.runs})
    if row.set != row.cell.data or "ras" not in row.scores or len(own) != 1 or row.reward == own[0]:
        return None
    mine = (one for one in rows if one.cell is row.cell and one.set == row.set)
    twin = next((one for one in mine if one.reward == own[0]), None)
    trained, where = _by_training_reward(row, twin)
    started = _started(row, rows, own[0], where)
    return Judged(row, own[0], trained, where, started, _base_ras(row, rows, row.reward))


def _by_training_reward(row: Row, twin: Row | None) -> tuple[Mapping[int, float], str]:
    if twin is not None and "ras" in twin.scores:
        return twin.means["ras"], "test"
    return _dev_ras(row.cell.runs), "dev"


def _started(row: Row, rows: Sequence[Row], reward: str, where: str) -> Interval | None:
    """The base's RAS by the training reward, where the row's own was taken: on the test set, or on
    dev."""
    if where == "test":
        return _base_ras(row, rows, reward)
    start = _dev_ras(row.cell.runs, first=True)
    return over_seeds(list(start.values()), PERCENT) if start else None


def _base_ras(row: Row, rows: Sequence[Row], reward: str) -> Interval | None:
    bases = (
        one
        for one in rows
        if one.cell.objective == BASE and (one.set, one.reward) == (row.set, reward)
    )
    return next(
        (
            one.scores.get("ras")
            for one in bases
            if one.cell.base_fingerprint == row.cell.base_fingerprint
        ),
        None,
    )


def _dev_ras(runs: Sequence[Run], first: bool = False) -> dict[int, float]:
    found = {
        run.info.seed: (run.probes[0] if first and run.probes else kept_probe(run)) for run in runs
    }
    return {
        seed: 100.0 * probe.metrics["ras"]
        for seed, probe in found.items()
        if probe and "ras" in probe.metrics
    }
