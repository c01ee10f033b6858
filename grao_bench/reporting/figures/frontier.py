"""Reward against distance from the base."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from grao_bench.reporting.figures.drawing import Drawing, Sketch, finish, sketch
from grao_bench.reporting.figures.lines import draw_dots
from grao_bench.reporting.figures.looks import Look, looks_of
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.curves import (
    kl_points,
)

FRONTIER = "Reward against distance from the base"


def kl_frontier(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Reward against KL to the base along training, both on the dev batch; None when KL was not
    measured."""
    frame = kl_points(cells).dropna(subset=["kl", "reward"])
    if frame.empty:
        return None
    looks = looks_of(cells)
    tags = ["objective", "config_hash", "method"]
    with sketch() as drawn:
        axes = drawn.figure.axes[0]
        for (objective, config_hash, method), group in frame.groupby(tags, sort=False):
            look = looks[str(objective), str(config_hash)]
            _path(drawn, group, look, str(method))
            _kept(drawn, group, look, str(method))
        if frame["kl"].max() > 50:
            axes.set_xscale("symlog", linthresh=1)
        axes.set_xlabel("KL to the base, nats per answer")
        axes.set_ylabel("dev reward")
        return finish(
            drawn,
            f"reward_vs_kl-{model}-{data}",
            FRONTIER,
            f"Reward against distance from the base: {data} ({model})",
            "Each line follows one configuration through training, means over seeds; the diamond"
            " is the policy that was evaluated,"
            " its bar ± 1 sd of the reward over seeds, the dots its seeds. Higher at the same KL"
            " is better.",
            frame,
        )


def _path(drawn: Sketch, group: pd.DataFrame, look: Look, method: str) -> None:
    """The way of a configuration, means over the seeds where all were probed."""
    axes = drawn.figure.axes[0]
    every = group.groupby("step")["seed"].count() == group["seed"].nunique()
    path = group.groupby("step")[["kl", "reward"]].mean()[every]
    axes.plot(
        path["kl"],
        path["reward"],
        color=look.color,
        linestyle=look.dash,
        linewidth=1.2,
        alpha=0.3 if look.crowd else 0.75,
    )
    texts = [
        f"{method}, step {step}: reward {r:.3g} at KL {kl:.3g}" for step, kl, r in path.itertuples()
    ]
    if not look.crowd:
        drawn.points(axes, path["kl"].tolist(), path["reward"].tolist(), texts)


def _kept(drawn: Sketch, group: pd.DataFrame, look: Look, method: str) -> None:
    """The policies that were evaluated, and their mean."""
    axes = drawn.figure.axes[0]
    kept = group[group["kept"].astype(bool)]
    x, y, n = kept["kl"].mean(), kept["reward"].mean(), len(kept)
    sd = kept["reward"].std(ddof=1) if n > 1 else 0.0
    axes.errorbar(
        [x],
        [y],
        yerr=[sd],
        fmt="D",
        color=look.color,
        markersize=5,
        elinewidth=1,
        label=look.name or None,
    )
    draw_dots(axes, kept["kl"].tolist(), kept["reward"].tolist(), look.color)
    text = f"{method}, evaluated: reward {y:.3g} ± {sd:.2g} at KL {x:.3g} ({n} seeds)"
    drawn.point(axes, x, y, text)
