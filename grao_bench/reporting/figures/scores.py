"""The scores at a glance, and the reward's spread over the prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from grao_bench.reporting.figures.drawing import INK, Drawing, Sketch, finish, sketch
from grao_bench.reporting.figures.lines import MOST_ROWS, draw_dots
from grao_bench.reporting.figures.looks import Look, key_of, looks_of, shortened
from grao_bench.reporting.gather.intervals import Interval
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import spread
from grao_bench.reporting.tables.rewards import rewards_spread
from grao_bench.reporting.text import with_interval

SCORES = "Scores"

SPREAD = "Reward over the test prompts"


def score_intervals(table: Table) -> Drawing | None:
    """RAS of every method with its interval and its seeds, the base's as a line: a table at a
    glance."""
    rows = [row for row in table.rows if "ras" in row.scores]
    methods = [row for row in rows if row.cell.objective != BASE]
    if not methods or len(rows) > MOST_ROWS:
        return None
    looks = looks_of([row.cell for row in methods])
    several = len({row.cell.model for row in rows}) > 1
    with sketch(height=0.9 + 0.28 * len(rows)) as drawn:
        axes = drawn.figure.axes[0]
        for i, row in enumerate(rows):
            look = looks.get(key_of(row.cell), Look("#7f7f7f", "-", ""))
            found = row.scores["ras"]
            if not math.isnan(found.low):
                ends = [found.low, found.high]
                axes.plot(ends, [i, i], color=look.color, linewidth=2, solid_capstyle="butt")
            if wide := row.crossed.get("ras"):
                axes.plot([wide.low, wide.high], [i, i], color=look.color, linewidth=0.8)
            for seed, value in row.means["ras"].items():
                draw_dots(axes, [value], [i + 0.22], look.color)
                drawn.point(
                    axes, value, i + 0.22, f"{row.cell.label}, seed {seed}: RAS {value:.1f}%"
                )
            axes.plot([found.mean], [i], "D", color=look.color, markersize=5)
            drawn.point(
                axes,
                found.mean,
                i,
                f"{row.cell.label}: RAS {with_interval(found, 1)}%, {_over(found)}",
            )
            if row.cell.objective == BASE:
                axes.axvline(found.mean, color="#7f7f7f", linewidth=1, linestyle=":")
        names = [
            f"{row.cell.model} {row.cell.label}" if several else row.cell.label for row in rows
        ]
        axes.set_yticks(range(len(rows)), [shortened(name, 34) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("RAS %")
        return finish(
            drawn,
            f"scores-{table.set}-{table.reward}",
            SCORES,
            f"RAS: {table.set}, judged by {table.reward}",
            "Diamond: mean; bar: 95% interval over seeds (with one seed, over prompts only); thin"
            " line: over seeds and prompts; dots:"
            " seeds; dotted: the base.",
            pd.DataFrame([_score_line(row) for row in rows]),
        )


def _score_line(row: Row) -> dict[str, object]:
    line: dict[str, object] = {"model": row.cell.model, "method": row.cell.label}
    line |= _numbers(row.scores["ras"])
    controlled = row.scores.get("ras_lc")
    return line | spread("length_controlled", controlled) if controlled else line


def quartiles(table: Table) -> Drawing | None:
    """The reward's quartiles over the test prompts, per method."""
    sheet = rewards_spread(table)
    frame = (
        sheet.frame.dropna(subset=["median"]).reset_index(drop=True) if sheet else pd.DataFrame()
    )
    if frame.empty or len(frame) > MOST_ROWS:
        return None
    looks = looks_of([row.cell for row in table.rows if row.cell.objective != BASE])
    several = len({row.cell.model for row in table.rows}) > 1
    with sketch(height=0.9 + 0.28 * len(frame)) as drawn:
        axes = drawn.figure.axes[0]
        for i, one in enumerate(frame.to_dict("records")):
            color = looks.get(
                (one["objective"], one["config_hash"]), Look("#7f7f7f", "-", "")
            ).color
            _box(drawn, i, one, color)
        names_shown = [
            f"{one['model']} {one['method']}" if several else str(one["method"])
            for one in frame.to_dict("records")
        ]
        axes.set_yticks(range(len(frame)), [shortened(name, 34) for name in names_shown])
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("reward, in the judge's own unit")
        return finish(
            drawn,
            f"quartiles-{table.set}-{table.reward}",
            SPREAD,
            f"Reward over the test prompts: {table.set}, judged by {table.reward}",
            "Line: smallest to largest; bar: quartiles; tick: median; diamond: mean. Each is the"
            " mean over seeds. Of a verdict (-1, 0, 1)"
            " the quartiles lie on its three values.",
            frame,
        )


def _box(drawn: Sketch, i: int, one: Mapping[Any, Any], color: str) -> None:
    """A line of quartiles at height i."""
    axes = drawn.figure.axes[0]
    axes.plot([one["min"], one["max"]], [i, i], color=color, linewidth=1)
    bar = [one["q1"], one["q3"]]
    axes.plot(bar, [i, i], color=color, linewidth=7, alpha=0.6, solid_capstyle="butt")
    axes.plot([one["median"]], [i], "|", color=INK, markersize=9, markeredgewidth=2)
    axes.plot(
        [one["mean"]],
        [i],
        "D",
        color=color,
        markersize=5,
        markeredgecolor="#fffffe",
        markeredgewidth=0.8,
    )
    names = ("min", "q1", "median", "q3", "max", "mean")
    text = ", ".join(f"{name} {one[name]:.3g}" for name in names)
    for name in names:
        drawn.point(axes, one[name], i, f"{one['method']}: {text}")


def _over(found: Interval) -> str:
    return f"{found.n} seeds" if found.kind == "seeds" else "one seed, over prompts only"


def _numbers(found: Interval) -> dict[str, float]:
    return {"mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high}
