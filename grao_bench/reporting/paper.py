"""The paper's printed numbers as data, and its claims recomputed from them (GRAO, arXiv
2508.07750v1, Tables 1-3, text, abstract)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy import stats

Subset = Literal["helpful", "harmless"]
Model = Literal["Qwen2.5-7B", "Moonlight-16B"]

MODELS: tuple[Model, ...] = ("Qwen2.5-7B", "Moonlight-16B")
SUBSETS: tuple[Subset, ...] = ("helpful", "harmless")
TABLE_NUMBER: dict[Subset, int] = {"helpful": 1, "harmless": 2}
METHODS = ("sft", "dpo", "ppo", "grpo", "grao")

GRAO_SETTINGS = {"equation": "printed", "alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs"}
"""Eq. 3 with the paper's hyper-parameters. A GRAO trained otherwise is not shown beside the paper's
numbers."""


@dataclass(frozen=True, slots=True)
class Printed:
    """One cell of Table 1 or 2, percent; `*_pm` is the printed +-, which the paper does not
    explain."""

    subset: Subset
    model: Model
    method: str
    ras: float
    ras_pm: float
    nag: float
    nag_pm: float


PRINTED = (
    Printed("helpful", "Qwen2.5-7B", "sft", 30.95, 0.8, 0.28, 1.2),
    Printed("helpful", "Qwen2.5-7B", "dpo", 57.75, 0.7, 54.12, 1.1),
    Printed("helpful", "Qwen2.5-7B", "ppo", 60.87, 0.9, 60.27, 0.9),
    Printed("helpful", "Qwen2.5-7B", "grpo", 60.89, 0.6, 60.74, 1.0),
    Printed("helpful", "Qwen2.5-7B", "grao", 64.60, 0.5, 67.98, 0.8),
    Printed("helpful", "Moonlight-16B", "sft", 43.45, 0.7, -1.64, 1.0),
    Printed("helpful", "Moonlight-16B", "dpo", 56.24, 0.6, 26.20, 0.9),
    Printed("helpful", "Moonlight-16B", "ppo", 64.37, 0.6, 40.35, 0.7),
    Printed("helpful", "Moonlight-16B", "grpo", 68.89, 0.5, 50.82, 0.7),
    Printed("helpful", "Moonlight-16B", "grao", 70.84, 0.4, 55.06, 0.6),
    Printed("harmless", "Qwen2.5-7B", "sft", 51.43, 0.7, 0.61, 1.0),
    Printed("harmless", "Qwen2.5-7B", "dpo", 61.86, 0.6, 25.32, 0.9),
    Printed("harmless", "Qwen2.5-7B", "ppo", 66.11, 0.8, 27.79, 0.8),
    Printed("harmless", "Qwen2.5-7B", "grpo", 65.61, 0.5, 28.26, 0.7),
    Printed("harmless", "Qwen2.5-7B", "grao", 68.01, 0.4, 31.06, 0.6),
    Printed("harmless", "Moonlight-16B", "sft", 60.52, 0.6, 0.34, 0.9),
    Printed("harmless", "Moonlight-16B", "dpo", 62.49, 0.5, 3.98, 0.7),
    Printed("harmless", "Moonlight-16B", "ppo", 70.97, 0.4, 20.16, 0.6),
    Printed("harmless", "Moonlight-16B", "grpo", 68.08, 0.7, 12.11, 0.5),
    Printed("harmless", "Moonlight-16B", "grao", 76.82, 0.3, 34.85, 0.4),
)

ABLATION: dict[str, dict[Model, float]] = {
    "full GRAO": {"Qwen2.5-7B": 67.98, "Moonlight-16B": 55.06},
    "without imitation": {"Qwen2.5-7B": 63.79, "Moonlight-16B": 49.87},
    "without exploration": {"Qwen2.5-7B": 64.38, "Moonlight-16B": 43.86},
    "without alignment regulariser": {"Qwen2.5-7B": 61.18, "Moonlight-16B": 46.26},
}
"""Table 3: NAG on helpful-base, percent."""

Cells = Mapping[tuple[Subset, Model, str], Printed]


def cells() -> dict[tuple[Subset, Model, str], Printed]:
    """Tables 1 and 2, keyed by (subset, model, method)."""
    return {(cell.subset, cell.model, cell.method): cell for cell in PRINTED}


def swapped() -> dict[tuple[Subset, Model, str], Printed]:
    """The same with Moonlight's PPO and GRPO rows on harmless-base exchanged, which is what the
    abstract agrees with."""
    table = cells()
    ppo, grpo = (
        table["harmless", "Moonlight-16B", "ppo"],
        table["harmless", "Moonlight-16B", "grpo"],
    )
    table["harmless", "Moonlight-16B", "ppo"] = replace(grpo, method="ppo")
    table["harmless", "Moonlight-16B", "grpo"] = replace(ppo, method="grpo")
    return table


def headline(table: Cells, method: str) -> float:
    """GRAO's relative improvement over a method: the mean over models and sets of RAS_GRAO /
    RAS_method - 1, percent."""
    ratios = [
        table[subset, model, "grao"].ras / table[subset, model, method].ras - 1
        for subset in SUBSETS
        for model in MODELS
    ]
    return 100.0 * sum(ratios) / len(ratios)


def relative_drop(variant: str) -> float:
    """Table 3's last column: the mean over the models of 1 - NAG_variant / NAG_full, percent."""
    drops = [1 - ABLATION[variant][model] / ABLATION["full GRAO"][model] for model in MODELS]
    return 100.0 * sum(drops) / len(drops)


def moe_gain(table: Cells) -> float:
    """NAG of GRAO minus that of GRPO, Moonlight-16B on harmless-base: the "up to +22.74" of the
    mixture of experts."""
    return (
        table["harmless", "Moonlight-16B", "grao"].nag
        - table["harmless", "Moonlight-16B", "grpo"].nag
    )


def share_kept(variant: str, model: Model) -> float:
    """NAG of an ablation as a share of full GRAO's, percent."""
    return 100.0 * ABLATION[variant][model] / ABLATION["full GRAO"][model]


@dataclass(frozen=True, slots=True)
class Line:
    """Printed NAG on printed RAS, least squares over the methods of one model and set.

    half: half-width of the slope's 95% t interval. base: the base model's RAS if NAG is
    2 (RAS - RAS_base), mean(RAS - NAG / 2).
    """

    slope: float
    half: float
    r_squared: float
    base: float


def block(subset: Subset, model: Model) -> list[Printed]:
    """The five cells of one model and set, which share a base and its answers."""
    return [cell for cell in PRINTED if (cell.subset, cell.model) == (subset, model)]


def nag_line(subset: Subset, model: Model, without: str = "") -> Line:
    """The regression that tells what the NAG column holds, on the block but for one method.

    Were it the mean of R_post - R_pre without ties, the slope would be 2.
    """
    kept = [cell for cell in block(subset, model) if cell.method != without]
    fit = stats.linregress([cell.ras for cell in kept], [cell.nag for cell in kept])
    half = float(stats.t.ppf(0.975, len(kept) - 2) * fit.stderr)
    base = sum(cell.ras - cell.nag / 2 for cell in kept) / len(kept)
    return Line(float(fit.slope), half, float(fit.rvalue) ** 2, base)


def common_slope() -> tuple[float, float]:
    """One slope for the four blocks, each with an intercept of its own, and its 95% half-width.

    20 cells, 4 intercepts and the slope: 15 degrees of freedom.
    """
    x, y = [], []
    blocks = [block(subset, model) for subset in SUBSETS for model in MODELS]
    for cells_of in blocks:
        means = [sum(values) / len(cells_of) for values in zip(*map(_pair, cells_of), strict=True)]
        x += [cell.ras - means[0] for cell in cells_of]
        y += [cell.nag - means[1] for cell in cells_of]
    squares = sum(value**2 for value in x)
    slope = sum(one * other for one, other in zip(x, y, strict=True)) / squares
    left = sum((other - slope * one) ** 2 for one, other in zip(x, y, strict=True))
    free = len(x) - len(blocks) - 1
    return slope, float(stats.t.ppf(0.975, free)) * (left / free / squares) ** 0.5


def _pair(cell: Printed) -> tuple[float, float]:
    return cell.ras, cell.nag


def ties_apart(subset: Subset, model: Model) -> float:
    """By how many points the tie rates of a block's methods differ at least, if NAG is
    mean(R_post - R_pre).

    With win rate W and tie rate T the mean of R is 2 W + T - 1, so T is NAG - 2 RAS and a constant
    of the block: the base's mean R, the same for its five methods.
    """
    rates = [cell.nag - 2 * cell.ras for cell in block(subset, model)]
    return max(rates) - min(rates)


def from_loss_to_tie(cell: Printed) -> float:
    """The least share of prompts, percent, that went from a loss to a tie if NAG is the share that
    the paper defines, mean 1[R_post > R_pre].

    What got better won in the end or went from loss to tie; what won in the end got better or had
    won before. So NAG - RAS = share(loss to tie) - share(win to win), and the first is at least
    NAG - RAS. 0 where RAS is the larger.
    """
    return max(0.0, cell.nag - cell.ras)


def base_wins(subset: Subset, model: Model) -> float:
    """The least RAS of the base, percent, if NAG is that share, ties or not.

    By the same identity share(win to win) is at least RAS - NAG, for any method of the block. A
    negative NAG is no share and tells nothing.
    """
    return max(cell.ras - cell.nag for cell in block(subset, model) if cell.nag >= 0)


def not_bettered(cell: Printed) -> float:
    """The largest share of prompts, percent, that the base did not win and the method did not
    better either. A win can't get better, so NAG is at most 100 - the base's RAS; below 0 a cell
    is impossible, ties or not."""
    return 100.0 - base_wins(cell.subset, cell.model) - cell.nag


def subset_of(name: str) -> Subset | None:
    """Which of the paper's sets a data set's name speaks of, if any."""
    return next((subset for subset in SUBSETS if subset in name), None)


def is_printed_method(objective: str, settings: Mapping[str, Any]) -> bool:
    """Whether an objective is one of the paper's five; for GRAO, whether it is Eq. 3 with the
    paper's settings.

    `settings` is the objective's part of the run's configuration; a setting that it does not name
    is taken as printed.
    """
    if objective != "grao":
        return objective in METHODS
    # by its class, not by its label: a variant that somebody names "grao" is no Eq. 3
    is_grao = str(settings.get("_target_", "objectives.grao.GRAO")).endswith("objectives.grao.GRAO")
    return is_grao and all(
        settings.get(key, value) == value for key, value in GRAO_SETTINGS.items()
    )
