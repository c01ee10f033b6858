"""What happens during training: reward, loss and its shares."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from grao_bench.reporting.figures.drawing import Drawing, Sketch, finish, sketch
from grao_bench.reporting.figures.lines import (
    AXES,
    BAND,
    close_panels,
    draw_curves,
    draw_lines,
    panels_for,
    panels_height,
    window_of,
)
from grao_bench.reporting.figures.looks import CROWD, looks_of, shortened
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.curves import (
    Axis,
    component_shares,
    probe_curve,
    step_curve,
)
from grao_bench.reporting.gather.roles import installed, ours

PARTS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#7f7f7f")
FIGURE_2 = "Figure 2: reward during training"
FIGURE_4 = "Figure 4: training loss"
FIGURE_5 = "Figure 5: shares of the loss"

ROLLOUTS = "Reward of the rollouts"


def reward_curves(
    model: str, data: str, cells: Sequence[Cell], axis: Axis = "step"
) -> Drawing | None:
    """Figure 2: mean reward on the fixed dev batch during training, against the step or what had
    been spent by then."""
    mine = [cell for cell in cells if cell.role.kind != "ablation" and not cell.first_stage]
    return draw_curves(
        f"reward_vs_{axis}-{model}-{data}",
        FIGURE_2,
        f"Dev reward against {AXES[axis]}: {data} ({model})",
        "Mean reward, in the training reward's own unit, on the fixed dev batch: measured alike"
        " for every objective; the first point is the"
        f" base. {BAND} SFT and DPO generate nothing, so against generated tokens they have no"
        " line.",
        mine,
        probe_curve(mine, axis=axis),
        (AXES[axis], "dev reward"),
    )


def ablated(cells: Sequence[Cell]) -> list[str]:
    """The objectives of which a part was left out here."""
    return list(dict.fromkeys(cell.role.of for cell in cells if cell.role.kind == "ablation"))


def ablation_curves(model: str, data: str, cells: Sequence[Cell], of: str) -> Drawing | None:
    """Figure 3: dev reward of an objective and of it without each of its parts."""
    from_base = [cell for cell in cells if not cell.first_stage]
    parts = {
        cell.objective for cell in from_base if (cell.role.kind, cell.role.of) == ("ablation", of)
    }
    if not parts:
        return None
    mine = [cell for cell in from_base if cell.objective in {of, *parts}]
    name = of.upper()
    return draw_curves(
        f"ablations-{model}-{data}" if of == ours(()) else f"ablations_of_{of}-{model}-{data}",
        f"Figure 3: {name} without its parts",
        f"Dev reward of {name} without its parts: {data} ({model})",
        f"As Figure 2, for {name} and its ablations. {BAND}",
        mine,
        probe_curve(mine),
        ("step", "dev reward"),
    )


def rollout_curves(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Mean reward of the training rollouts against step, smoothed."""
    window = window_of(cells)
    return draw_curves(
        f"rollout_reward-{model}-{data}",
        ROLLOUTS,
        f"Reward of the rollouts against step: {data} ({model})",
        f"Moving mean over {window} steps of the training batches' reward. SFT and DPO draw no"
        f" rollouts, so they have no line. {BAND}",
        cells,
        step_curve(cells, "reward/mean", window=window),
        ("step", "rollout reward"),
    )


def losses(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Figure 4: the total training loss, a panel per objective: their losses have different
    units."""
    window = window_of(cells)
    frame = step_curve(cells, "loss", window=window)
    if frame.empty:
        return None
    looks, objectives = looks_of(cells), list(dict.fromkeys(frame["objective"]))
    with sketch(*panels_for(len(objectives)), height=panels_height(len(objectives))) as drawn:
        for axes, objective in zip(drawn.figure.axes, objectives, strict=False):
            draw_lines(drawn, axes, frame[frame["objective"] == objective], looks)
            axes.set_title(objective)
        close_panels(drawn, objectives)
        named = any(
            len(names) > 1
            for names in (axes.get_legend_handles_labels()[1] for axes in drawn.figure.axes)
        )
        return finish(
            drawn,
            f"loss-{model}-{data}",
            FIGURE_4,
            f"Training loss against step: {data} ({model})",
            f"Moving mean over {window} steps. A panel and a scale each: the losses of two"
            f" objectives can't be compared. {BAND}",
            frame,
            legend=named,
        )


def shares(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Figure 5: each component's share of the magnitude of our loss, a panel per kind of it."""
    mine = {name for name, role in installed().items() if role.kind == "ours"}
    mine |= {cell.objective for cell in cells if cell.role.kind == "ours"}
    family = [
        cell for cell in cells if mine & {cell.objective, cell.role.of} and not cell.first_stage
    ]
    names = [
        name.upper() for name in dict.fromkeys(cell.role.of or cell.objective for cell in family)
    ]
    sizes = pd.Series([cell.objective for cell in family]).value_counts()
    window = window_of(family)
    frame = component_shares(
        [cell for cell in family if sizes[cell.objective] <= CROWD], window=window
    )
    if frame.empty:
        return None
    methods, parts = list(dict.fromkeys(frame["method"])), list(dict.fromkeys(frame["component"]))
    with sketch(*panels_for(len(methods)), height=panels_height(len(methods))) as drawn:
        for axes, method in zip(drawn.figure.axes, methods, strict=False):
            here = (
                frame[frame["method"] == method]
                .pivot_table(index="step", columns="component", values="mean")
                .reindex(columns=parts)
            )
            _stack(drawn, axes, here.fillna(0.0), method)
            axes.set_title(shortened(method, 34))
        close_panels(drawn, methods)
        return finish(
            drawn,
            f"loss_shares-{model}-{data}",
            FIGURE_5,
            f"Shares of {' and '.join(names)}'s loss: {data} ({model})",
            f"Each component's |value| over the sum of all, of moving means over {window} steps;"
            " mean over seeds. The regulariser is"
            " lambda's term.",
            frame,
        )


def _stack(drawn: Sketch, axes: Axes, shares_: pd.DataFrame, method: str) -> None:
    parts = [str(name) for name in shares_.columns]
    axes.stackplot(
        shares_.index, *(shares_[part] for part in parts), labels=parts, colors=PARTS, alpha=0.85
    )
    axes.set_ylim(0.0, 1.0)
    axes.margins(x=0)
    stride = max(1, -(-len(shares_) // 20))
    picked = shares_.iloc[::stride]
    for step, line in zip(picked.index.tolist(), picked.to_dict("records"), strict=True):
        low = 0.0
        for part in parts:
            text = f"{method}, step {step}: {part} {100 * line[part]:.0f}%"
            drawn.area(axes, step - stride / 2, low, step + stride / 2, low + line[part], text)
            low += line[part]
