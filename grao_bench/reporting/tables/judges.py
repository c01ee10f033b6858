"""Trained on one reward, judged by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.comparisons import paired
from grao_bench.reporting.gather.intervals import PERCENT, Interval, over_seeds
from grao_bench.reporting.gather.order import cell_order
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row, kept_probe
from grao_bench.reporting.tables.columns import Line, cell_columns, folders, row_name, spread, tidy
from grao_bench.reporting.tables.differences import (
    difference_numbers,
    difference_texts,
)
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, with_interval


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
    found = [(row, said) for row in by_cell if (said := _line(row, rows)) is not None]
    if not found:
        return None
    columns = [
        "method",
        "model",
        "set",
        "training reward",
        "RAS % by it",
        "its base's",
        "judge",
        "RAS % by the judge",
        "gap",
        "its base's gap",
    ]
    return Sheet(
        "judges",
        "Trained on one reward, judged by another",
        tidy(columns, [texts for _, (texts, _) in found]),
        pd.DataFrame([numbers for _, (_, numbers) in found]),
        (
            "gap: RAS by the training reward minus RAS by the judge, paired by seed. Two judges"
            " differ on any text; over-optimisation is a"
            " gap that grows beyond the base's",
            "(test): the same test answers under both; (dev): the training reward was asked on the"
            " dev batch alone, so prompts differ too",
        ),
        tuple(folders(row.cell) for row, _ in found),
    )


def _line(row: Row, rows: Sequence[Row]) -> tuple[list[str], Line] | None:
    """A row's texts and numbers; None where no other reward judged it on its own set."""
    own = sorted({run.info.reward for run in row.cell.runs})
    if row.set != row.cell.data or "ras" not in row.scores or len(own) != 1 or row.reward == own[0]:
        return None
    twin = next(
        (
            other
            for other in rows
            if other.cell is row.cell and other.set == row.set and other.reward == own[0]
        ),
        None,
    )
    trained, where = _by_training_reward(row, twin)
    gap = paired("training reward", row.reward, trained, row.means["ras"]) if trained else None
    started = _started(row, rows, own[0], where)
    by_judge = _base_ras(row, rows, row.reward)
    beyond = (
        NONE if started is None or by_judge is None else number(started.mean - by_judge.mean, 1)
    )
    ours = over_seeds(list(trained.values()), PERCENT) if trained else None
    texts = [
        *row_name(row.cell),
        row.set,
        f"{own[0]} ({where})",
        with_interval(ours, 1),
        with_interval(started, 1),
    ]
    texts += [
        row.reward,
        with_interval(row.scores["ras"], 1),
        difference_texts(gap)[0] if gap else NONE,
        beyond,
    ]
    line = cell_columns(row.cell) | {
        "set": row.set,
        "training_reward": own[0],
        "training_reward_on": where,
        "judge": row.reward,
    }
    line |= (
        spread("ras_by_training_reward", ours)
        | spread("ras_by_judge", row.scores["ras"])
        | difference_numbers(gap, "gap_")
    )
    line |= {
        "base_by_training_reward": started.mean if started else None,
        "base_by_judge": by_judge.mean if by_judge else None,
    }
    return texts, line


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
