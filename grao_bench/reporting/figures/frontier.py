"""Reward against distance from the base."""

from __future__ import annotations

from collections.abc import Sequence

from grao_bench.reporting.figures.drawing import Drawing, finish, sketch
from grao_bench.reporting.figures.lines import draw_dots
from grao_bench.reporting.figures.looks import looks_of
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
            path = group.groupby("step")[["kl", "reward"]].mean()[
                group.groupby("step")["seed"].count() == group["seed"].nunique()
            ]
            axes.plot(
                path["kl"],
                path["reward"],
                color=look.color,
                linestyle=look.dash,
                linewidth=1.2,
                alpha=0.3 if look.crowd else 0.75,
            )
            texts = [
                f"{method}, step {step}: reward {r:.3g} at KL {kl:.3g}"
                for step, kl, r in path.itertuples()
            ]
            if not look.crowd:
                drawn.points(axes, path["kl"].tolist(), path["reward"].tolist(), texts)
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
            drawn.point(
                axes,
                x,
                y,
                f"{method}, evaluated: reward {y:.3g} ± {sd:.2g} at KL {x:.3g} ({n} seeds)",
            )
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
