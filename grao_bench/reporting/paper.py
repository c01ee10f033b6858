"""The paper's printed numbers as data, and its claims recomputed from them (GRAO, arXiv 2508.07750v1, Tables 1-3, text, abstract)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy import stats

from grao_bench.reporting.markdown import markdown

Subset = Literal["helpful", "harmless"]
Model = Literal["Qwen2.5-7B", "Moonlight-16B"]

MODELS: tuple[Model, ...] = ("Qwen2.5-7B", "Moonlight-16B")
SUBSETS: tuple[Subset, ...] = ("helpful", "harmless")
TABLE_NUMBER: dict[Subset, int] = {"helpful": 1, "harmless": 2}
METHODS = ("sft", "dpo", "ppo", "grpo", "grao")

GRAO_SETTINGS = {"equation": "printed", "alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs"}
"""Eq. 3 with the paper's hyper-parameters. A GRAO trained otherwise is not shown beside the paper's numbers."""


@dataclass(frozen=True, slots=True)
class Printed:
    """One cell of Table 1 or 2, percent; `*_pm` is the printed +-, which the paper does not explain."""

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
    """The same with Moonlight's PPO and GRPO rows on harmless-base exchanged, which is what the abstract agrees with."""
    table = cells()
    ppo, grpo = table["harmless", "Moonlight-16B", "ppo"], table["harmless", "Moonlight-16B", "grpo"]
    table["harmless", "Moonlight-16B", "ppo"] = replace(grpo, method="ppo")
    table["harmless", "Moonlight-16B", "grpo"] = replace(ppo, method="grpo")
    return table


def headline(table: Cells, method: str) -> float:
    """GRAO's relative improvement over a method: the mean over models and sets of RAS_GRAO / RAS_method - 1, percent."""
    ratios = [table[subset, model, "grao"].ras / table[subset, model, method].ras - 1 for subset in SUBSETS for model in MODELS]
    return 100.0 * sum(ratios) / len(ratios)


def relative_drop(variant: str) -> float:
    """Table 3's last column: the mean over the models of 1 - NAG_variant / NAG_full, percent."""
    drops = [1 - ABLATION[variant][model] / ABLATION["full GRAO"][model] for model in MODELS]
    return 100.0 * sum(drops) / len(drops)


def moe_gain(table: Cells) -> float:
    """NAG of GRAO minus that of GRPO, Moonlight-16B on harmless-base: the "up to +22.74" of the mixture of experts."""
    return table["harmless", "Moonlight-16B", "grao"].nag - table["harmless", "Moonlight-16B", "grpo"].nag


def share_kept(variant: str, model: Model) -> float:
    """NAG of an ablation as a share of full GRAO's, percent."""
    return 100.0 * ABLATION[variant][model] / ABLATION["full GRAO"][model]


@dataclass(frozen=True, slots=True)
class Line:
    """Printed NAG on printed RAS, least squares over the five methods of one model and set, n = 5.

    half: half-width of the slope's 95% t interval. base: the base model's RAS if NAG is 2 (RAS - RAS_base), mean(RAS - NAG / 2).
    """

    slope: float
    half: float
    r_squared: float
    base: float


def nag_line(subset: Subset, model: Model) -> Line:
    """The regression that tells what the NAG column holds: were it the mean of R_post - R_pre without ties, the slope would be 2."""
    block = [cell for cell in PRINTED if (cell.subset, cell.model) == (subset, model)]
    fit = stats.linregress([cell.ras for cell in block], [cell.nag for cell in block])
    half = float(stats.t.ppf(0.975, len(block) - 2) * fit.stderr)
    base = sum(cell.ras - cell.nag / 2 for cell in block) / len(block)
    return Line(float(fit.slope), half, float(fit.rvalue) ** 2, base)


TOLERANCE = 0.05
"""Percentage points. Cells printed to two decimals move a mean of ratios by up to about 0.03."""

Verdict = Literal["matches", "does NOT match", "impossible as printed", "can't be checked"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper says, what its own tables give, and whether they agree. `why` is a remark, often empty."""

    where: str
    claim: str
    printed: str
    recomputed: str
    verdict: Verdict
    why: str = ""


def claims() -> list[Claim]:
    """Every claim that the printed tables can confirm or contradict, and those that they can't."""
    return [*_headline_claims(), *_ablation_claims(), *_gain_claims(), *_nag_claims(), *_figure_claims()]


def _number(where: str, claim: str, printed: float, recomputed: float, why: str = "", sign: str = "") -> Claim:
    agrees = abs(recomputed - printed) <= TOLERANCE
    return Claim(where, claim, f"{printed:{sign}.2f}", f"{recomputed:{sign}.3f}", "matches" if agrees else "does NOT match", why)


def _headline_claims() -> list[Claim]:
    printed = {"sft": 57.70, "dpo": 17.65, "ppo": 7.95, "grpo": 5.18}
    why = "the mean of RAS_GRAO / RAS - 1 over 2 models and 2 sets"
    found = [_number("abstract", f"GRAO over {name.upper()}, %", value, headline(cells(), name), why) for name, value in printed.items()]
    rows = "Moonlight's harmless PPO and GRPO rows swapped"
    for name in ("ppo", "grpo"):
        claim = f"GRAO over {name.upper()}, %, with {rows}"
        found.append(
            _number("abstract", claim, printed[name], headline(swapped(), name), "one of abstract and Table 2 has them the wrong way round")
        )
    return found


def _ablation_claims() -> list[Claim]:
    printed = {"without imitation": 7.79, "without exploration": 12.81, "without alignment regulariser": 12.98}
    found = [_number("Table 3", f"mean relative drop {name}, %", value, relative_drop(name)) for name, value in printed.items()]
    largest = max(printed, key=relative_drop)
    said = "without exploration"
    same: Verdict = "matches" if largest == said else "does NOT match"
    found.append(
        Claim(
            "text", "the largest drop", f"{said} (12.81)", f"{largest} ({relative_drop(largest):.2f})", same, "Table 3's own column says so"
        )
    )
    kept = share_kept("without alignment regulariser", "Qwen2.5-7B")
    found.append(_number("text", "share of full NAG without the regulariser, Qwen2.5-7B, %", 89.1, kept, "61.18 / 67.98"))
    return found


def _gain_claims() -> list[Claim]:
    what = "NAG of GRAO over GRPO, Moonlight-16B, harmless"
    swap = f"{what}, with the two rows swapped as the abstract needs them"
    return [
        _number("text", what, 22.74, moe_gain(cells()), sign="+"),
        _number("text", swap, 22.74, moe_gain(swapped()), "the abstract's 7.95 and 5.18 and this +22.74 can't all be right", sign="+"),
    ]


def _nag_claims() -> list[Claim]:
    """The formula that the paper prints for NAG, mean 1[R_post > R_pre], against what its tables hold."""
    found = [
        Claim(
            "Tables 1-2",
            f"NAG of {cell.method.upper()}, {cell.model}, {cell.subset}: a share of prompts",
            "0 to 100",
            f"{cell.nag:.2f}",
            "impossible as printed",
            "a share is never negative",
        )
        for cell in PRINTED
        if cell.nag < 0
    ]
    found += [
        Claim(
            "Tables 1-2",
            f"NAG of {cell.method.upper()}, {cell.model}, {cell.subset}: at most its RAS",
            f"at most {cell.ras:.2f}",
            f"{cell.nag:.2f}",
            "impossible as printed",
            "without ties a prompt that got better is one that wins",
        )
        for cell in PRINTED
        if cell.nag > cell.ras
    ]
    for subset in SUBSETS:
        for model in MODELS:
            line = nag_line(subset, model)
            found.append(
                Claim(
                    "our reading",
                    f"NAG holds 2 (RAS - RAS_base), {model}, {subset}",
                    "slope 2",
                    f"{line.slope:.3f} ± {line.half:.3f} (R^2 {_close_to_one(line.r_squared)}; RAS_base {line.base:.1f})",
                    "matches" if abs(line.slope - 2) <= line.half else "does NOT match",
                    "the mean of R_post - R_pre, not the share that the paper defines",
                )
            )
    return found


def _figure_claims() -> list[Claim]:
    """Claims on curves that were not published as numbers."""
    unseen = {
        "GRAO reaches its optimum in 50% fewer steps": ("Figure 2", "our own: the table steps-to-best"),
        "GRPO varies by +-9.6% after step 800": ("Figure 2", ""),
        "imitation and regulariser over 82% of the loss before step 200, exploration 52-61% after": (
            "Figure 5",
            "our own: component shares",
        ),
    }
    return [Claim(where, claim, "-", "-", "can't be checked", why) for claim, (where, why) in unseen.items()]


def _close_to_one(value: float) -> str:
    """As many decimals as show how far it is from 1."""
    return f"{value:.{max(3, math.ceil(-math.log10(1.0 - value)))}f}"


def subset_of(name: str) -> Subset | None:
    """Which of the paper's sets a data set's name speaks of, if any."""
    return next((subset for subset in SUBSETS if subset in name), None)


def is_printed_method(objective: str, settings: Mapping[str, Any]) -> bool:
    """Whether an objective is one of the paper's five; for GRAO, whether it is Eq. 3 with the paper's settings.

    `settings` is the objective's part of the run's configuration; a setting that it does not name is taken as printed.
    """
    if objective != "grao":
        return objective in METHODS
    # by its class, not by its label: a variant that somebody names "grao" is no Eq. 3
    is_grao = str(settings.get("_target_", "objectives.grao.GRAO")).endswith("objectives.grao.GRAO")
    return is_grao and all(settings.get(key, value) == value for key, value in GRAO_SETTINGS.items())


def render() -> str:
    """The paper's Tables 1-3 and the recomputed claims, as Markdown."""
    table = cells()
    parts = ["# The paper's tables, from its printed numbers (arXiv 2508.07750v1; percent)"]
    for subset in SUBSETS:
        rows = [
            [method.upper()] + [text for model in MODELS for text in _printed_texts(table[subset, model, method])] for method in METHODS
        ]
        header = ["method", *(f"{model} {score}" for model in MODELS for score in ("RAS", "NAG"))]
        parts += [f"## Table {TABLE_NUMBER[subset]}: {subset}-base", markdown(header, rows)]
    ablation = [
        [name, *(f"{values[model]:.2f}" for model in MODELS), "-" if name == "full GRAO" else f"{relative_drop(name):.2f}%"]
        for name, values in ABLATION.items()
    ]
    parts += ["## Table 3: ablation, NAG on helpful-base", markdown(["variant", *MODELS, "mean relative drop (recomputed)"], ablation)]
    found = [[one.where, one.claim, one.printed, one.recomputed, one.verdict, one.why] for one in claims()]
    parts += ["## Claims recomputed", markdown(["where", "claim", "printed", "recomputed", "verdict", "why"], found)]
    parts += [
        "The abstract's figures are the mean, over two models and two sets, of RAS_GRAO / RAS_method - 1. Those for PPO and GRPO match\n"
        "only when Moonlight-16B's PPO and GRPO rows of Table 2 are swapped: abstract or table has them the wrong way round.\n"
        "NAG as printed, mean 1[R_post > R_pre], is a share; what the tables hold follows 2 (RAS - RAS_base), the mean of R_post - R_pre.\n"
        "So Tables 1 and 2 print one measurement twice. By an exact identity (the A_i sum to 0), removing the regulariser only re-weights\n"
        "exploration against imitation."
    ]
    return "\n\n".join(parts) + "\n"


def _printed_texts(cell: Printed) -> tuple[str, str]:
    return f"{cell.ras:.2f} ± {cell.ras_pm}", f"{cell.nag:.2f} ± {cell.nag_pm}"
