"""Every figure of the paper, and those that nobody publishes, from the records of a folder. One whose runs are not there is not drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from grao_bench.reporting.cells import ABLATIONS, BASE, METHOD_ORDER, Cell, first_objective
from grao_bench.reporting.columns import spread
from grao_bench.reporting.curves import (
    VALUES,
    Axis,
    beta_lambda_map,
    component_shares,
    group_size_curve,
    kl_points,
    probe_curve,
    step_curve,
)
from grao_bench.reporting.drawing import INK, WIDTH, Drawing, Sketch, finish, sketch
from grao_bench.reporting.intervals import Interval
from grao_bench.reporting.studies import COUNTED, rewards_spread, spent_before
from grao_bench.reporting.tables import Row, Table, with_interval

PALETTE = {
    "sft": "#e69f00",
    "dpo": "#56b4e9",
    "ppo": "#009e73",
    "grpo": "#0072b2",
    "grao": "#d55e00",
    "grao_clip0": "#cc79a7",
}
"""Okabe and Ito's colours, which stay apart for colour-blind readers; fixed per objective, so that figures can be compared."""

OTHERS = ("#8c6d31", "#7f7f7f", "#b2a800", "#6a51a3", "#17a2a2", "#a3515a")
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", ":", "-.")
PARTS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#7f7f7f")

CROWD = len(DASHES)
"""An objective with more configurations than this is drawn as thin lines of one colour, named once: its settings have their own figures."""

MOST_POINTS = 150
MOST_ROWS = 40
"""A figure with a line per method is left out for a table with more: the table itself is easier to read."""

BAND = "Line: mean over seeds; band: ± 1 sd over seeds, where there are several; dots at its end: the seeds."
FIGURE_2, FIGURE_3 = "Figure 2: reward during training", "Figure 3: GRAO without its parts"
FIGURE_4, FIGURE_5 = "Figure 4: training loss", "Figure 5: shares of the loss"
SCORES, SPREAD = "Scores", "Reward over the test prompts"
ROLLOUTS, FRONTIER = "Reward of the rollouts", "Reward against distance from the base"
MAP, GROUPS, STAGES = "GRAO's beta and lambda", "Group size", "One stage or two"
AXES: dict[Axis, str] = {"step": "step", "generated_tokens": "generated tokens", "seconds": "seconds of training"}


@dataclass(frozen=True, slots=True)
class Look:
    """How a configuration is drawn; an empty `name` is not in the legend."""

    color: str
    dash: Any
    name: str
    crowd: bool = False


Key = tuple[str, str]
"""A configuration within one model and data set: its objective and hash."""


def draw_all(cells: Sequence[Cell], rows: Sequence[Row], tables: Sequence[Table]) -> list[Drawing]:
    """Every figure that these records hold, figures of one kind together: one per table, or per model and data set trained on."""
    trained = [cell for cell in cells if cell.trained and cell.runs]
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in trained:
        groups.setdefault((cell.model, cell.data), []).append(cell)
    found: list[Drawing | None] = [score_intervals(table) for table in tables]
    found += [reward_curves(*key, members, axis) for axis in AXES for key, members in groups.items()]
    by_group = (ablation_curves, losses, shares, rollout_curves, kl_frontier)
    found += [draw(*key, members) for draw in by_group for key, members in groups.items()]
    found += [beta_lambda(*one) for one in _per_score(beta_lambda_map(rows))]
    found += [group_sizes(*one) for one in _per_score(group_size_curve(rows))]
    found += [two_stages(*key, members, cells, axis) for axis in ("steps", "forward_tokens") for key, members in groups.items()]
    found += [quartiles(table) for table in tables]
    return [drawing for drawing in found if drawing is not None]


def score_intervals(table: Table) -> Drawing | None:
    """RAS of every method with its interval and its seeds, the base's as a line: a table at a glance."""
    rows = [row for row in table.rows if "ras" in row.scores]
    methods = [row for row in rows if row.cell.objective != BASE]
    if not methods or len(rows) > MOST_ROWS:
        return None
    looks = _looks([row.cell for row in methods])
    several = len({row.cell.model for row in rows}) > 1
    with sketch(height=0.9 + 0.28 * len(rows)) as drawn:
        axes = drawn.figure.axes[0]
        for i, row in enumerate(rows):
            look = looks.get(_key(row.cell), Look("#7f7f7f", "-", ""))
            found = row.scores["ras"]
            if not math.isnan(found.low):
                ends = [found.low, found.high]
                axes.plot(ends, [i, i], color=look.color, linewidth=2, solid_capstyle="butt")
            if wide := row.crossed.get("ras"):
                axes.plot([wide.low, wide.high], [i, i], color=look.color, linewidth=0.8)
            for seed, value in row.means["ras"].items():
                _dots(axes, [value], [i + 0.22], look.color)
                drawn.point(axes, value, i + 0.22, f"{row.cell.label}, seed {seed}: RAS {value:.1f}%")
            axes.plot([found.mean], [i], "D", color=look.color, markersize=5)
            drawn.point(axes, found.mean, i, f"{row.cell.label}: RAS {with_interval(found, 1)}%, {_over(found)}")
            if row.cell.objective == BASE:
                axes.axvline(found.mean, color="#7f7f7f", linewidth=1, linestyle=":")
        names = [f"{row.cell.model} {row.cell.label}" if several else row.cell.label for row in rows]
        axes.set_yticks(range(len(rows)), [_short(name, 34) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("RAS %")
        return finish(
            drawn,
            f"scores-{table.set}-{table.reward}",
            SCORES,
            f"RAS: {table.set}, judged by {table.reward}",
            "Diamond: mean; bar: 95% interval over seeds (with one seed, over prompts only); thin line: over seeds and prompts; dots:"
            " seeds; dotted: the base.",
            pd.DataFrame([_score_line(row) for row in rows]),
        )


def _score_line(row: Row) -> dict[str, object]:
    line: dict[str, object] = {"model": row.cell.model, "method": row.cell.label}
    line |= _numbers(row.scores["ras"])
    controlled = row.scores.get("ras_lc")
    return line | spread("length_controlled", controlled) if controlled else line


def reward_curves(model: str, data: str, cells: Sequence[Cell], axis: Axis = "step") -> Drawing | None:
    """Figure 2: mean reward on the fixed dev batch during training, against the step or what had been spent by then."""
    mine = [cell for cell in cells if cell.objective not in ABLATIONS and not cell.first_stage]
    return _curves(
        f"reward_vs_{axis}-{model}-{data}",
        FIGURE_2,
        f"Dev reward against {AXES[axis]}: {data} ({model})",
        "Mean reward, in the training reward's own unit, on the fixed dev batch: measured alike for every objective; the first point is the"
        f" base. {BAND} SFT and DPO generate nothing, so against generated tokens they have no line.",
        mine,
        probe_curve(mine, axis=axis),
        (AXES[axis], "dev reward"),
    )


def ablation_curves(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Figure 3: dev reward of GRAO and of GRAO without each of its parts."""
    mine = [cell for cell in cells if (cell.objective == "grao" or cell.objective in ABLATIONS) and not cell.first_stage]
    if not any(cell.objective in ABLATIONS for cell in mine):
        return None
    return _curves(
        f"ablations-{model}-{data}",
        FIGURE_3,
        f"Dev reward of GRAO without its parts: {data} ({model})",
        f"As Figure 2, for GRAO and its ablations. {BAND}",
        mine,
        probe_curve(mine),
        ("step", "dev reward"),
    )


def rollout_curves(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Mean reward of the training rollouts against step, smoothed."""
    window = _window(cells)
    return _curves(
        f"rollout_reward-{model}-{data}",
        ROLLOUTS,
        f"Reward of the rollouts against step: {data} ({model})",
        f"Moving mean over {window} steps of the training batches' reward. SFT and DPO draw no rollouts, so they have no line. {BAND}",
        cells,
        step_curve(cells, "reward/mean", window=window),
        ("step", "rollout reward"),
    )


def losses(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Figure 4: the total training loss, a panel per objective: their losses have different units."""
    window = _window(cells)
    frame = step_curve(cells, "loss", window=window)
    if frame.empty:
        return None
    looks, objectives = _looks(cells), list(dict.fromkeys(frame["objective"]))
    with sketch(*_panels(len(objectives)), height=_panel_height(len(objectives))) as drawn:
        for axes, objective in zip(drawn.figure.axes, objectives, strict=False):
            _lines(drawn, axes, frame[frame["objective"] == objective], looks)
            axes.set_title(objective)
        _close(drawn, objectives)
        named = any(len(names) > 1 for names in (axes.get_legend_handles_labels()[1] for axes in drawn.figure.axes))
        return finish(
            drawn,
            f"loss-{model}-{data}",
            FIGURE_4,
            f"Training loss against step: {data} ({model})",
            f"Moving mean over {window} steps. A panel and a scale each: the losses of two objectives can't be compared. {BAND}",
            frame,
            legend=named,
        )


def shares(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Figure 5: each component's share of the magnitude of GRAO's loss, a panel per kind of GRAO."""
    family = [cell for cell in cells if cell.objective.startswith("grao") and not cell.first_stage]
    sizes = pd.Series([cell.objective for cell in family]).value_counts()
    window = _window(family)
    frame = component_shares([cell for cell in family if sizes[cell.objective] <= CROWD], window=window)
    if frame.empty:
        return None
    methods, parts = list(dict.fromkeys(frame["method"])), list(dict.fromkeys(frame["component"]))
    with sketch(*_panels(len(methods)), height=_panel_height(len(methods))) as drawn:
        for axes, method in zip(drawn.figure.axes, methods, strict=False):
            here = frame[frame["method"] == method].pivot_table(index="step", columns="component", values="mean").reindex(columns=parts)
            _stack(drawn, axes, here.fillna(0.0), method)
            axes.set_title(_short(method, 34))
        _close(drawn, methods)
        return finish(
            drawn,
            f"loss_shares-{model}-{data}",
            FIGURE_5,
            f"Shares of GRAO's loss: {data} ({model})",
            f"Each component's |value| over the sum of all, of moving means over {window} steps; mean over seeds. The regulariser is"
            " lambda's term.",
            frame,
        )


def kl_frontier(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Reward against KL to the base along training, both on the dev batch; None when KL was not measured."""
    frame = kl_points(cells).dropna(subset=["kl", "reward"])
    if frame.empty:
        return None
    looks = _looks(cells)
    tags = ["objective", "config_hash", "method"]
    with sketch() as drawn:
        axes = drawn.figure.axes[0]
        for (objective, config_hash, method), group in frame.groupby(tags, sort=False):
            look = looks[str(objective), str(config_hash)]
            path = group.groupby("step")[["kl", "reward"]].mean()[group.groupby("step")["seed"].count() == group["seed"].nunique()]
            axes.plot(path["kl"], path["reward"], color=look.color, linestyle=look.dash, linewidth=1.2, alpha=0.3 if look.crowd else 0.75)
            texts = [f"{method}, step {step}: reward {r:.3g} at KL {kl:.3g}" for step, kl, r in path.itertuples()]
            if not look.crowd:
                drawn.points(axes, path["kl"].tolist(), path["reward"].tolist(), texts)
            kept = group[group["kept"].astype(bool)]
            x, y, n = kept["kl"].mean(), kept["reward"].mean(), len(kept)
            sd = kept["reward"].std(ddof=1) if n > 1 else 0.0
            axes.errorbar([x], [y], yerr=[sd], fmt="D", color=look.color, markersize=5, elinewidth=1, label=look.name or None)
            _dots(axes, kept["kl"].tolist(), kept["reward"].tolist(), look.color)
            drawn.point(axes, x, y, f"{method}, evaluated: reward {y:.3g} ± {sd:.2g} at KL {x:.3g} ({n} seeds)")
        if frame["kl"].max() > 50:
            axes.set_xscale("symlog", linthresh=1)
        axes.set_xlabel("KL to the base, nats per answer")
        axes.set_ylabel("dev reward")
        return finish(
            drawn,
            f"reward_vs_kl-{model}-{data}",
            FRONTIER,
            f"Reward against distance from the base: {data} ({model})",
            "Each line follows one configuration through training, means over seeds; the diamond is the policy that was evaluated,"
            " its bar ± 1 sd of the reward over seeds, the dots its seeds. Higher at the same KL is better.",
            frame,
        )


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
        grid = [[pairs.get_group((b, v))["mean"].mean() if (b, v) in pairs.groups else math.nan for b in betas] for v in lams]
        axes.pcolormesh(grid, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9))
        for i, lam in enumerate(lams):
            for j, beta in enumerate(betas):
                here = tried.get_group((beta, lam)) if (beta, lam) in tried.groups else frame[:0]
                found = here.dropna(subset=["mean"])
                absent = "not run" if here.empty else "failed"
                text = absent if found.empty else f"{found['mean'].mean():.1f}" + ("" if len(found) == 1 else f" ({len(found)})")
                color = {"not run": "#777778", "failed": "#c2571a"}.get(text) or (
                    "#000001" if found["mean"].mean() > low + 0.6 * (high - low) else "#fffffe"
                )
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=color)
                words = "; ".join(_settings_text(one) for one in here.to_dict("records")) or "no finished run"
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
            "GRAO's RAS in percent, mean over seeds. Where several configurations share a pair, their mean and, in brackets, their number.",
            frame,
        )


def group_sizes(model: str, name: str, reward: str, frame: pd.DataFrame) -> Drawing | None:
    """RAS against the group size G, for every objective that was run with two sizes or more."""
    varied = frame.groupby("objective")["group_size"].nunique()
    frame = frame[frame["objective"].map(varied) > 1]
    if frame.empty:
        return None
    colors = _colors([str(one) for one in frame["objective"].unique()])
    with sketch() as drawn:
        axes = drawn.figure.axes[0]
        for objective, group in frame.groupby("objective", sort=False):
            color, once = colors[str(objective)], group["group_size"].is_unique
            ends = [group["mean"] - group["low"], group["high"] - group["mean"]]
            half = [end.fillna(0.0) for end in ends]
            axes.errorbar(
                group["group_size"], group["mean"], yerr=half, fmt="D-" if once else "D", color=color, capsize=3, label=str(objective)
            )
            for one in group.to_dict("records"):
                drawn.point(axes, one["group_size"], one["mean"], _settings_text(one))
                each = [float(value) for value in one[VALUES].split()]
                _dots(axes, [one["group_size"]] * len(each), each, color)
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


def two_stages(model: str, data: str, cells: Sequence[Cell], everything: Sequence[Cell], axis: str) -> Drawing | None:
    """Runs that start from another run against those that start from the base, by what both stages spent together."""
    chained = [cell for cell in cells if cell.first_stage]
    before = {_key(cell): spent_before(cell, everything, axis) for cell in chained}
    chained = [cell for cell in chained if before[_key(cell)] is not None]
    if not chained:
        return None
    wanted = {"grao", *(cell.objective for cell in chained), *(first_objective(cell.first_stage) for cell in chained)}
    mine = [cell for cell in cells if not cell.first_stage and cell.objective in wanted] + chained
    frame = probe_curve(mine, axis="step" if axis == "steps" else "forward_tokens")
    keys = zip(frame["objective"], frame["config_hash"], strict=True)
    frame["x"] += [before.get(key) or 0.0 for key in keys]
    return _curves(
        f"two_stages_{axis}-{model}-{data}",
        STAGES,
        f"Dev reward, one stage or two, against {COUNTED[axis]}: {data} ({model})",
        f"A second stage's line begins where its first stage ended, so at one place along the axis all have spent alike. {BAND}",
        mine,
        frame,
        (f"{COUNTED[axis]}, both stages", "dev reward"),
    )


def quartiles(table: Table) -> Drawing | None:
    """The reward's quartiles over the test prompts, per method."""
    sheet = rewards_spread(table)
    frame = sheet.frame.dropna(subset=["median"]).reset_index(drop=True) if sheet else pd.DataFrame()
    if frame.empty or len(frame) > MOST_ROWS:
        return None
    looks = _looks([row.cell for row in table.rows if row.cell.objective != BASE])
    several = len({row.cell.model for row in table.rows}) > 1
    with sketch(height=0.9 + 0.28 * len(frame)) as drawn:
        axes = drawn.figure.axes[0]
        for i, one in enumerate(frame.to_dict("records")):
            color = looks.get((one["objective"], one["config_hash"]), Look("#7f7f7f", "-", "")).color
            axes.plot([one["min"], one["max"]], [i, i], color=color, linewidth=1)
            axes.plot([one["q1"], one["q3"]], [i, i], color=color, linewidth=7, alpha=0.6, solid_capstyle="butt")
            axes.plot([one["median"]], [i], "|", color=INK, markersize=9, markeredgewidth=2)
            axes.plot([one["mean"]], [i], "D", color=color, markersize=5, markeredgecolor="#fffffe", markeredgewidth=0.8)
            names = ("min", "q1", "median", "q3", "max", "mean")
            text = ", ".join(f"{name} {one[name]:.3g}" for name in names)
            for name in names:
                drawn.point(axes, one[name], i, f"{one['method']}: {text}")
        names_shown = [f"{one['model']} {one['method']}" if several else str(one["method"]) for one in frame.to_dict("records")]
        axes.set_yticks(range(len(frame)), [_short(name, 34) for name in names_shown])
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("reward, in the judge's own unit")
        return finish(
            drawn,
            f"quartiles-{table.set}-{table.reward}",
            SPREAD,
            f"Reward over the test prompts: {table.set}, judged by {table.reward}",
            "Line: smallest to largest; bar: quartiles; tick: median; diamond: mean. Each is the mean over seeds. Of a verdict (-1, 0, 1)"
            " the quartiles lie on its three values.",
            frame,
        )


def _curves(
    name: str, kind: str, title: str, caption: str, cells: Sequence[Cell], frame: pd.DataFrame, labels: tuple[str, str]
) -> Drawing | None:
    if frame.empty:
        return None
    with sketch() as drawn:
        axes = drawn.figure.axes[0]
        _lines(drawn, axes, frame, _looks(cells))
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if frame["x"].max() >= 10_000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        return finish(drawn, name, kind, title, caption, frame)


def _lines(drawn: Sketch, axes: Axes, frame: pd.DataFrame, looks: Mapping[Key, Look]) -> None:
    """A line and its band for every configuration of a frame of `curves`; of a long one, MOST_POINTS evenly spaced points and its last."""
    for (objective, config_hash), group in frame.groupby(["objective", "config_hash"], sort=False):
        look = looks[str(objective), str(config_hash)]
        stride = -(-len(group) // MOST_POINTS)
        group = pd.concat([group.iloc[:-1:stride], group.iloc[-1:]])
        x, mean, sd = group["x"], group["mean"], group["sd"]
        width, alpha = (0.8, 0.5) if look.crowd else (1.8, 1.0)
        axes.plot(x, mean, color=look.color, linestyle=look.dash, linewidth=width, alpha=alpha, label=look.name or None)
        if sd.notna().any() and not look.crowd:
            axes.fill_between(x, mean - sd, mean + sd, color=look.color, alpha=0.15, linewidth=0)
        last = [float(value) for value in str(group[VALUES].iloc[-1]).split()]
        if len(last) > 1:
            _dots(axes, [float(x.iloc[-1])] * len(last), last, look.color)
        texts = [_point_text(one) for one in group.to_dict("records")]
        drawn.points(axes, x.tolist(), mean.tolist(), texts, most=6 if look.crowd else 26)


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float], color: str) -> None:
    """The seeds, which a mean and a bar can hide."""
    axes.plot(x, y, "o", color=color, markersize=3.5, markerfacecolor="none", markeredgewidth=0.8)


def _point_text(one: Mapping[Any, Any]) -> str:
    spread = f" ± {one['sd']:.2g} ({one['seeds']} seeds)" if one["seeds"] > 1 else ""
    return f"{one['method']}, step {one['step']}: {one['mean']:.3g}{spread}"


def _settings_text(one: Mapping[Any, Any]) -> str:
    if not one["seeds"]:
        return f"{one['method']}: {one['notes']}"
    spread = f" ± {one['sd']:.1f}% ({one['seeds']} seeds)" if one["seeds"] > 1 else "% (one seed)"
    return f"{one['method']}: RAS {one['mean']:.1f}{spread}"


def _stack(drawn: Sketch, axes: Axes, shares_: pd.DataFrame, method: str) -> None:
    parts = [str(name) for name in shares_.columns]
    axes.stackplot(shares_.index, *(shares_[part] for part in parts), labels=parts, colors=PARTS, alpha=0.85)
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


def _looks(cells: Sequence[Cell]) -> dict[Key, Look]:
    """A colour per objective, a dash per configuration of it; of more than CROWD configurations only the first is named."""
    families: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        families.setdefault((cell.objective, first_objective(cell.first_stage) if cell.first_stage else ""), []).append(cell)
    colors = _colors([cell.objective for cell in cells])
    looks: dict[Key, Look] = {}
    for (objective, start), family in families.items():
        crowd = len(family) > CROWD
        shift = 1 if start else 0
        for i, cell in enumerate(family):
            crowded = f"{objective}: {len(family)} configurations" if i == 0 else ""
            name = crowded if crowd else _short(cell.label, 44)
            looks[_key(cell)] = Look(colors[objective], "-" if crowd else DASHES[(i + shift) % len(DASHES)], name, crowd)
    return looks


def _colors(objectives: Sequence[str]) -> dict[str, str]:
    order = (*METHOD_ORDER, *ABLATIONS)
    unknown = sorted(set(objectives) - set(PALETTE), key=lambda name: (order.index(name) if name in order else len(order), name))
    return PALETTE | dict(zip(unknown, cycle(OTHERS), strict=False))


def _key(cell: Cell) -> Key:
    return (cell.objective, cell.config_hash)


def _per_score(frame: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame]]:
    """A frame of `curves.settings_map` by model, set and judge."""
    keys = ["model", "set", "reward"]
    return [(str(model), str(name), str(reward), group) for (model, name, reward), group in frame.groupby(keys, sort=False)]


def _window(cells: Sequence[Cell]) -> int:
    return max(1, max((len(run.steps) for cell in cells for run in cell.runs), default=0) // 20)


def _panels(count: int) -> tuple[int, int]:
    return (math.ceil(count / 2), 2) if count > 1 else (1, 1)


def _panel_height(count: int) -> float:
    return 0.75 * WIDTH if count == 1 else 0.5 + 1.45 * _panels(count)[0]


def _close(drawn: Sketch, shown: Sequence[object]) -> None:
    """Removes the panels that stay empty; the lowest ones name the axis."""
    for i, axes in enumerate(drawn.figure.axes[:]):
        if i >= len(shown):
            axes.remove()
        elif i + 2 >= len(shown):
            axes.set_xlabel("step")


def _short(text: str, most: int) -> str:
    """A row's label for a figure, cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _over(found: Interval) -> str:
    return f"{found.n} seeds" if found.kind == "seeds" else "one seed, over prompts only"


def _numbers(found: Interval) -> dict[str, float]:
    return {"mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high}
