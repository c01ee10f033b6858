"""Figures from records: reward against step, reward against KL. One drawing each, as PNG, as SVG, and as SVG that takes the page's ink."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grao_bench.records import Run
from grao_bench.reporting.cells import BASE, METHOD_ORDER, Cell, slug

PALETTE = {
    "sft": "#e69f00",
    "dpo": "#56b4e9",
    "ppo": "#009e73",
    "grpo": "#0072b2",
    "grao": "#d55e00",
    "grao_clip0": "#cc79a7",
}
"""Okabe and Ito's colours, which stay apart for colour-blind readers; fixed per objective, so that figures can be compared."""

OTHERS = ("#8c6d31", "#7f7f7f", "#b2a800", "#6a51a3")
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))

INK, PAPER = "#111112", "#fefefd"
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, rendered. `inline` is an <svg> element for a page: no fixed size, the page's text colour, no external reference."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes
    inline: str


def draw_all(cells: Sequence[Cell]) -> list[Drawing]:
    """Reward against step, reward against KL, and the rollouts' reward: one of each per model and data set that was trained on."""
    trained = [cell for cell in cells if cell.objective != BASE and cell.runs]
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in trained:
        groups.setdefault((cell.model, cell.data), []).append(cell)
    drawings = [draw(*key, members) for draw in (probe_curves, kl_frontier, rollout_curves) for key, members in groups.items()]
    return [drawing for drawing in drawings if drawing is not None]


def probe_curves(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Mean reward on the fixed dev batch against step, for every objective; None when no run has probes."""
    curves = {cell.label: over_runs(cell.runs, lambda run: _probe_series(run, "reward")) for cell in cells}
    return _curves(
        f"reward_vs_step-{model}-{data}",
        f"Dev reward against step: {data} ({model})",
        "Mean reward, in the training reward's own unit, on the fixed dev batch: measured alike for every objective; step 0 is the base."
        " Line: mean over seeds. Band: ± 1 sd over seeds, where there are several.",
        cells,
        curves,
        "dev reward",
    )


def rollout_curves(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Mean reward of the training rollouts against step, smoothed; None when no objective rolls out."""
    longest = max((len(run.steps) for cell in cells for run in cell.runs), default=0)
    window = max(1, longest // 20)
    curves = {cell.label: over_runs(cell.runs, lambda run: _step_series(run, "reward/mean", window)) for cell in cells}
    return _curves(
        f"rollout_reward-{model}-{data}",
        f"Reward of the rollouts against step: {data} ({model})",
        f"Moving mean over {window} steps of the training batches' reward. SFT and DPO draw no rollouts, so they have no line."
        " Band: ± 1 sd over seeds.",
        cells,
        curves,
        "rollout reward",
    )


def kl_frontier(model: str, data: str, cells: Sequence[Cell]) -> Drawing | None:
    """Reward against KL to the base along training, both on the dev batch; None when KL was not measured."""
    paths = {}
    for cell in cells:
        kl = over_runs(cell.runs, lambda run: _probe_series(run, "kl"))
        reward = over_runs(cell.runs, lambda run: _probe_series(run, "reward"))
        path = pd.DataFrame({"kl": kl["mean"], "reward": reward["mean"]}).dropna()
        if len(path) > 1:
            paths[cell.label] = path
    if not paths:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = _canvas("KL to the base, nats per answer", "dev reward")
        for label, (color, dash) in _styles(cells).items():
            if label in paths:
                path = paths[label]
                axes.plot(path["kl"], path["reward"], color=color, linestyle=dash, linewidth=1.2, alpha=0.75)
                axes.plot(path["kl"].iloc[-1:], path["reward"].iloc[-1:], "o", color=color, linestyle=dash, label=label)
        if max(path["kl"].max() for path in paths.values()) > 50:
            axes.set_xscale("symlog", linthresh=1)
        return _render(
            figure,
            axes,
            f"reward_vs_kl-{model}-{data}",
            f"Reward against distance from the base: {data} ({model})",
            "Each line follows one objective through training, means over seeds; the dot is its last probe."
            " Higher at the same KL is better.",
        )


def over_runs(runs: Sequence[Run], series: Callable[[Run], pd.Series]) -> pd.DataFrame:
    """Mean and sd over the runs at the steps that all of them have. Columns mean, sd (nan for one run); index step."""
    table = pd.DataFrame({run.info.seed: series(run) for run in runs}).dropna()
    return pd.DataFrame({"mean": table.mean(axis=1), "sd": table.std(axis=1, ddof=1)})


def _probe_series(run: Run, name: str) -> pd.Series:
    return pd.Series({probe.step: float(probe.metrics[name]) for probe in run.probes if name in probe.metrics}, dtype=float)


def _step_series(run: Run, name: str, window: int) -> pd.Series:
    values = pd.Series({step.step: float(step.metrics[name]) for step in run.steps if name in step.metrics}, dtype=float)
    return values.rolling(window, min_periods=1).mean() if len(values) else values


def _styles(cells: Sequence[Cell]) -> dict[str, tuple[str, object]]:
    """Label -> (colour, dash): a colour per objective, a dash per configuration of it."""
    unknown = sorted({cell.objective for cell in cells} - set(METHOD_ORDER))
    colors = PALETTE | dict(zip(unknown, cycle(OTHERS), strict=False))
    seen: dict[str, int] = {}
    styles: dict[str, tuple[str, object]] = {}
    for cell in cells:
        count = seen[cell.objective] = seen.get(cell.objective, -1) + 1
        styles[cell.label] = (colors[cell.objective], DASHES[count % len(DASHES)])
    return styles


def _curves(
    name: str, title: str, caption: str, cells: Sequence[Cell], curves: Mapping[str, pd.DataFrame], quantity: str
) -> Drawing | None:
    if all(curve.empty for curve in curves.values()):
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = _canvas("step", quantity)
        for label, (color, dash) in _styles(cells).items():
            curve = curves[label]
            if curve.empty:
                continue
            axes.plot(curve.index, curve["mean"], color=color, linestyle=dash, linewidth=1.8, label=label)
            if curve["sd"].notna().any():
                axes.fill_between(
                    curve.index, curve["mean"] - curve["sd"], curve["mean"] + curve["sd"], color=color, alpha=0.15, linewidth=0
                )
        return _render(figure, axes, name, title, caption)


def _canvas(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _render(figure: Figure, axes: Axes, name: str, title: str, caption: str) -> Drawing:
    name = slug(name)
    figure.legend(loc="outside lower center", ncols=min(4, max(1, len(axes.get_lines()))))
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # the same records give the same bytes
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        axes.set_title(title, fontsize=10)
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return Drawing(name, title, caption, png.getvalue(), svg.getvalue(), _inline(svg.getvalue().decode(), name))


def _inline(svg: str, name: str) -> str:
    """The <svg> element alone, its ids made unique on the page, ink and paper replaced by the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*" ([^>]*?)height="[^"]*"', r"<svg \1\2", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*" ([^>]*?)width="[^"]*"', r"<svg \1\2", svg, count=1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("xlink:href", "href").replace(INK, "currentColor").replace(PAPER, "none")
