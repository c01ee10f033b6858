"""A score over settings: beta and lambda, group size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from grao_bench.reporting.figures.drawing import Drawing, finish, sketch
from grao_bench.reporting.figures.lines import draw_dots
from grao_bench.reporting.figures.looks import colors_of
from grao_bench.reporting.gather.curves import (
    VALUES,
)
from grao_bench.reporting.gather.roles import Role, installed

MAP = "GRAO's beta and lambda"

GROUPS = "Group size"


def beta_lambda(model: str, name: str, reward: str, frame: pd.DataFrame) -> Drawing | None:
    """A map of RAS over GRAO's beta and lambda; None where fewer than three pairs were run."""
    scored = frame.dropna(subset=["mean"])
    pairs, tried = scored.groupby(["beta", "lam"]), frame.groupby(["beta", "lam"])
    if len(pairs) < 3:
        return None
    betas, lams = sorted(frame["beta"].unique()), sorted(frame["lam"].unique())
    low, high = scored["mean"].min(), scored["mean"].max()
    with sketch(height=1.2 + 0.55 * len(lams)) as drawn:
        axes = drawn.figure.axes[0]
        grid = [
            [
                pairs.get_group((b, v))["mean"].mean() if (b, v) in pairs.groups else math.nan
                for b in betas
            ]
            for v in lams
        ]
        axes.pcolormesh(grid, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9))
        for i, lam in enumerate(lams):
            for j, beta in enumerate(betas):
                here = tried.get_group((beta, lam)) if (beta, lam) in tried.groups else frame[:0]
                text, color = _square(here, low + 0.6 * (high - low))
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=color)
                each = [_settings_text(one) for one in here.to_dict("records")]
                words = "; ".join(each) or "no finished run"
                drawn.area(axes, j, i, j + 1, i + 1, f"beta {beta:g}, lambda {lam:g}: {words}")
        axes.set_xticks([j + 0.5 for j in range(len(betas))], [f"{beta:g}" for beta in betas])
        axes.set_yticks([i + 0.5 for i in range(len(lams))], [f"{lam:g}" for lam in lams])
        axes.grid(False)
        axes.set_xlabel("beta (imitation)")
        axes.set_ylabel("lambda (regulariser)")
        return finish(
            drawn,
            f"beta_lambda-{model}-{name}-{reward}",
            MAP,
            f"RAS over beta and lambda: {name}, judged by {reward} ({model})",
            "GRAO's RAS in percent, mean over seeds. Where several configurations share a pair,"
            " their mean and, in brackets, their number.",
            frame,
        )


def _square(here: pd.DataFrame, bright: float) -> tuple[str, str]:
    """The text of a pair of settings, and its colour: on a field brighter than this, black."""
    found = here.dropna(subset=["mean"])
    if found.empty:
        return ("not run", "#777778") if here.empty else ("failed", "#c2571a")
    mean = found["mean"].mean()
    text = f"{mean:.1f}" + ("" if len(found) == 1 else f" ({len(found)})")
    return text, "#000001" if mean > bright else "#fffffe"


def group_sizes(model: str, name: str, reward: str, frame: pd.DataFrame) -> Drawing | None:
    """RAS against the group size G, for every objective that was run with two sizes or more."""
    varied = frame.groupby("objective")["group_size"].nunique()
    frame = frame[frame["objective"].map(varied) > 1]
    if frame.empty:
        return None
    colors = colors_of(
        {str(one): installed().get(one, Role()) for one in frame["objective"].unique()}
    )
    with sketch() as drawn:
        axes = drawn.figure.axes[0]
        for objective, group in frame.groupby("objective", sort=False):
            color, once = colors[str(objective)], group["group_size"].is_unique
            ends = [group["mean"] - group["low"], group["high"] - group["mean"]]
            half = [end.fillna(0.0) for end in ends]
            axes.errorbar(
                group["group_size"],
                group["mean"],
                yerr=half,
                fmt="D-" if once else "D",
                color=color,
                capsize=3,
                label=str(objective),
            )
            for one in group.to_dict("records"):
                drawn.point(axes, one["group_size"], one["mean"], _settings_text(one))
                each = [float(value) for value in one[VALUES].split()]
                draw_dots(axes, [one["group_size"]] * len(each), each, color)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sorted(frame["group_size"].unique())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel("group size G")
        axes.set_ylabel("RAS %")
        return finish(
            drawn,
            f"group_size-{model}-{name}-{reward}",
            GROUPS,
            f"RAS against group size: {name}, judged by {reward} ({model})",
            "Diamond: mean over seeds; bar: 95% interval over seeds; dots: seeds. What else the"
            " group size changes (prompts per step, tokens) stands in the cost table.",
            frame,
        )


def _settings_text(one: Mapping[Any, Any]) -> str:
    if not one["seeds"]:
        return f"{one['method']}: {one['notes']}"
    spread = f" ± {one['sd']:.1f}% ({one['seeds']} seeds)" if one["seeds"] > 1 else "% (one seed)"
    return f"{one['method']}: RAS {one['mean']:.1f}{spread}"


def per_score(frame: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame]]:
    """A frame of `curves.settings_map` by model, set and judge."""
    keys = ["model", "set", "reward"]
    return [
        (str(model), str(name), str(reward), group)
        for (model, name, reward), group in frame.groupby(keys, sort=False)
    ]
