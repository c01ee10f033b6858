"""The paper's printed numbers as data, and its claims recomputed from them (GRAO, arXiv 2508.07750v1, Tables 1-3 and abstract)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from grao_bench.reporting.markdown import markdown

Subset = Literal["helpful", "harmless"]
Model = Literal["Qwen2.5-7B", "Moonlight-16B"]

MODELS: tuple[Model, ...] = ("Qwen2.5-7B", "Moonlight-16B")
SUBSETS: tuple[Subset, ...] = ("helpful", "harmless")
TABLE_NUMBER: dict[Subset, int] = {"helpful": 1, "harmless": 2}
METHODS = ("sft", "dpo", "ppo", "grpo", "grao")

GRAO_SETTINGS = {"alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs"}
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


TOLERANCE = 0.05
"""Percentage points. Cells printed to two decimals move a mean of ratios by up to about 0.03."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A printed number and how it follows from the printed tables."""

    where: str
    claim: str
    printed: float
    recompute: Callable[[], float]

    @property
    def holds(self) -> bool:
        """Whether the recomputed value is the printed one, to within the rounding of the printed cells."""
        return abs(self.recompute() - self.printed) <= TOLERANCE


CLAIMS = (
    Claim("abstract", "GRAO over SFT", 57.70, lambda: headline(cells(), "sft")),
    Claim("abstract", "GRAO over DPO", 17.65, lambda: headline(cells(), "dpo")),
    Claim("abstract", "GRAO over PPO", 7.95, lambda: headline(cells(), "ppo")),
    Claim("abstract", "GRAO over GRPO", 5.18, lambda: headline(cells(), "grpo")),
    Claim("abstract", "GRAO over PPO, Moonlight's harmless PPO and GRPO rows swapped", 7.95, lambda: headline(swapped(), "ppo")),
    Claim("abstract", "GRAO over GRPO, the same two rows swapped", 5.18, lambda: headline(swapped(), "grpo")),
    Claim("Table 3", "mean relative drop without imitation", 7.79, lambda: relative_drop("without imitation")),
    Claim("Table 3", "mean relative drop without exploration", 12.81, lambda: relative_drop("without exploration")),
    Claim("Table 3", "mean relative drop without alignment regulariser", 12.98, lambda: relative_drop("without alignment regulariser")),
)


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
    claims = [
        [claim.where, claim.claim, f"{claim.printed:.2f}", f"{claim.recompute():.3f}", "matches" if claim.holds else "does NOT match"]
        for claim in CLAIMS
    ]
    parts += ["## Claims recomputed", markdown(["where", "claim", "printed", "recomputed", "verdict"], claims)]
    parts += [
        "The abstract's figures are the mean, over two models and two sets, of RAS_GRAO / RAS_method - 1. Those for PPO and GRPO match\n"
        "only when Moonlight-16B's PPO and GRPO rows of Table 2 are swapped: either the abstract or the table has them the wrong way round."
    ]
    return "\n\n".join(parts) + "\n"


def _printed_texts(cell: Printed) -> tuple[str, str]:
    return f"{cell.ras:.2f} ± {cell.ras_pm}", f"{cell.nag:.2f} ± {cell.nag_pm}"
