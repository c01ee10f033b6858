"""What the figures share: lines with bands, dots for seeds, panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from grao_bench.reporting.figures.drawing import WIDTH, Drawing, Sketch, finish, sketch
from grao_bench.reporting.figures.looks import Key, Look, looks_of
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.curves import (
    VALUES,
    Axis,
)

MOST_POINTS = 150

MOST_ROWS = 40
"""A figure with a line per method is left out for a table with more: the table itself is easier to
read."""

BAND = (
    "Line: mean over seeds; band: ± 1 sd over seeds, where there are several; dots at its end: the"
    " seeds."
)

AXES: dict[Axis, str] = {
    "step": "step",
    "generated_tokens": "generated tokens",
    "seconds": "seconds of training",
}


def draw_curves(
    name: str,
    kind: str,
    title: str,
    caption: str,
    cells: Sequence[Cell],
    frame: pd.DataFrame,
    labels: tuple[str, str],
) -> Drawing | None:
    if frame.empty:
        return None
    with sketch() as drawn:
        axes = drawn.figure.axes[0]
        draw_lines(drawn, axes, frame, looks_of(cells))
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if frame["x"].max() >= 10_000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        return finish(drawn, name, kind, title, caption, frame)


def draw_lines(drawn: Sketch, axes: Axes, frame: pd.DataFrame, looks: Mapping[Key, Look]) -> None:
    """A line and its band for every configuration of a frame of `curves`; of a long one,
    MOST_POINTS evenly spaced points and its last."""
    for (objective, config_hash), group in frame.groupby(["objective", "config_hash"], sort=False):
        look = looks[str(objective), str(config_hash)]
        stride = -(-len(group) // MOST_POINTS)
        group = pd.concat([group.iloc[:-1:stride], group.iloc[-1:]])
        x, mean, sd = group["x"], group["mean"], group["sd"]
        width, alpha = (0.8, 0.5) if look.crowd else (1.8, 1.0)
        axes.plot(
            x,
            mean,
            color=look.color,
            linestyle=look.dash,
            linewidth=width,
            alpha=alpha,
            label=look.name or None,
        )
        if sd.notna().any() and not look.crowd:
            axes.fill_between(x, mean - sd, mean + sd, color=look.color, alpha=0.15, linewidth=0)
        last = [float(value) for value in str(group[VALUES].iloc[-1]).split()]
        if len(last) > 1:
            draw_dots(axes, [float(x.iloc[-1])] * len(last), last, look.color)
        texts = [_point_text(one) for one in group.to_dict("records")]
        drawn.points(axes, x.tolist(), mean.tolist(), texts, most=6 if look.crowd else 26)


def draw_dots(axes: Axes, x: Sequence[float], y: Sequence[float], color: str) -> None:
    """The seeds, which a mean and a bar can hide."""
    axes.plot(x, y, "o", color=color, markersize=3.5, markerfacecolor="none", markeredgewidth=0.8)


def _point_text(one: Mapping[Any, Any]) -> str:
    spread = f" ± {one['sd']:.2g} ({one['seeds']} seeds)" if one["seeds"] > 1 else ""
    return f"{one['method']}, step {one['step']}: {one['mean']:.3g}{spread}"


def window_of(cells: Sequence[Cell]) -> int:
    return max(1, max((len(run.steps) for cell in cells for run in cell.runs), default=0) // 20)


def panels_for(count: int) -> tuple[int, int]:
    return (math.ceil(count / 2), 2) if count > 1 else (1, 1)


def panels_height(count: int) -> float:
    return 0.75 * WIDTH if count == 1 else 0.5 + 1.45 * panels_for(count)[0]


def close_panels(drawn: Sketch, shown: Sequence[object]) -> None:
    """Removes the panels that stay empty; the lowest ones name the axis."""
    for i, axes in enumerate(drawn.figure.axes[:]):
        if i >= len(shown):
            axes.remove()
        elif i + 2 >= len(shown):
            axes.set_xlabel("step")
