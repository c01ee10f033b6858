"""The paper's claims: recomputed from its own tables where those can tell, and for the others what
would refute each and what of ours measures it (GRAO, arXiv 2508.07750v1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from grao_bench.reporting import paper
from grao_bench.reporting.markdown import markdown
from grao_bench.reporting.paper import MODELS, SUBSETS, Printed

TOLERANCE = 0.05
"""Percentage points. Cells printed to two decimals move a mean of ratios by up to about 0.03."""
WEAK = 0.5
"""A slope whose 95% interval reaches further than this to a side is weak evidence for a slope of 2,
whatever lies in the middle: 1.5 and 2.5 would pass as well."""

Verdict = Literal[
    "matches",
    "does NOT match",
    "impossible as printed",
    "possible only with ties",
    "weak evidence",
    "can't be checked",
]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper says, what its own tables give, and whether they agree. `why` is a remark,
    often empty."""

    where: str
    claim: str
    printed: str
    recomputed: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """A claim that no printed number can settle: what is said, what would refute it, and which
    command, figure or table of ours measures it."""

    claim: str
    says: str
    refuted_if: str
    here: str


def claims() -> list[Claim]:
    """Every claim that the printed tables can confirm or contradict."""
    found = [*_headline_claims(), *_ablation_claims(), *_gain_claims()]
    return [*found, *_share_claims(), *_slope_claims()]


def _number(
    where: str,
    claim: str,
    printed: float,
    recomputed: float,
    why: str = "",
    sign: str = "",
) -> Claim:
    agrees = abs(recomputed - printed) <= TOLERANCE
    texts = f"{printed:{sign}.2f}", f"{recomputed:{sign}.3f}"
    return Claim(where, claim, *texts, "matches" if agrees else "does NOT match", why)


def _headline_claims() -> list[Claim]:
    printed = {"sft": 57.70, "dpo": 17.65, "ppo": 7.95, "grpo": 5.18}
    why = "the mean of RAS_GRAO / RAS - 1 over 2 models and 2 sets"
    found = []
    for name, value in printed.items():
        given = paper.headline(paper.cells(), name)
        found.append(_number("abstract", f"GRAO over {name.upper()}, %", value, given, why))
    rows = "Moonlight's harmless PPO and GRPO rows swapped"
    for name in ("ppo", "grpo"):
        claim = f"GRAO over {name.upper()}, %, with {rows}"
        given = paper.headline(paper.swapped(), name)
        why = "one of abstract and Table 2 has them the wrong way round"
        found.append(_number("abstract", claim, printed[name], given, why))
    return found


def _ablation_claims() -> list[Claim]:
    parts = {"imitation": 7.79, "exploration": 12.81, "alignment regulariser": 12.98}
    printed = {f"without {part}": value for part, value in parts.items()}
    found = []
    for name, value in printed.items():
        what = f"mean relative drop {name}, %"
        found.append(_number("Table 3", what, value, paper.relative_drop(name)))
    largest = max(printed, key=paper.relative_drop)
    given = f"{largest} ({paper.relative_drop(largest):.2f})"
    said = "without exploration"
    same: Verdict = "matches" if largest == said else "does NOT match"
    why = "Table 3's own column says so"
    found.append(Claim("text", "the largest drop", f"{said} (12.81)", given, same, why))
    kept = paper.share_kept("without alignment regulariser", "Qwen2.5-7B")
    what = "share of full NAG without the regulariser, Qwen2.5-7B, %"
    found.append(_number("text", what, 89.1, kept, "61.18 / 67.98"))
    return found


def _gain_claims() -> list[Claim]:
    what = "NAG of GRAO over GRPO, Moonlight-16B, harmless"
    swap = f"{what}, with the two rows swapped as the abstract needs them"
    return [
        _number("text", what, 22.74, paper.moe_gain(paper.cells()), sign="+"),
        _number(
            "text",
            swap,
            22.74,
            paper.moe_gain(paper.swapped()),
            "the abstract's 7.95 and 5.18 and this +22.74 can't all be right",
            sign="+",
        ),
    ]


def _share_claims() -> list[Claim]:
    """NAG read as the share that the paper defines, mean 1[R_post > R_pre], with R in -1, 0, 1."""
    found = []
    for cell in paper.PRINTED:
        name, value = f"NAG of {_name(cell)}", f"{cell.nag:.2f}"
        if cell.nag < 0:
            name, why = f"{name}: a share of prompts", "a share is never negative, ties or not"
            found.append(Claim("Tables 1-2", name, "0 to 100", value, "impossible as printed", why))
        elif cell.nag > cell.ras:
            name, bound = f"{name}: at most its RAS", f"at most {cell.ras:.2f}"
            why = (
                "without ties what got better wins, so NAG is at most RAS; it suffices that"
                f" {paper.from_loss_to_tie(cell):.2f}% of the prompts went from a loss to a tie and"
                " none won before and after. The paper prints no tie rate"
            )
            found.append(Claim("Tables 1-2", name, bound, value, "possible only with ties", why))
            found.append(_ceiling(cell))
    return found


def _ceiling(cell: Printed) -> Claim:
    """A base's win can't get better: NAG at most 100 - RAS_base, which SFT's row bounds."""
    won, left = paper.base_wins(cell.subset, cell.model), paper.not_bettered(cell)
    kept = [f"{one.method.upper()} {one.ras - one.nag:.2f}" for one in _shares(cell)]
    why = (
        f"SFT's row puts the base's RAS at {won:.2f} at least (RAS - NAG), so all but {left:.2f}%"
        " of the prompts that it did not win got better. Without ties RAS - NAG is the share won"
        f" before and after: {', '.join(kept)}"
    )
    bound = f"at most {100 - won:.2f}"
    verdict: Verdict = "matches" if left >= 0 else "impossible as printed"
    name = f"NAG of {_name(cell)}: at most what the base left"
    return Claim("Tables 1-2", name, bound, f"{cell.nag:.2f}", verdict, why)


def _shares(cell: Printed) -> list[Printed]:
    return [one for one in paper.block(cell.subset, cell.model) if one.nag >= 0]


def _name(cell: Printed) -> str:
    return f"{cell.method.upper()}, {cell.model}, {cell.subset}"


def _slope_claims() -> list[Claim]:
    """NAG read as mean(R_post - R_pre), which without ties is 2 (RAS - RAS_base)."""
    found = []
    for subset in SUBSETS:
        for model in MODELS:
            name = f"NAG holds 2 (RAS - RAS_base), {model}, {subset}"
            apart = f"ties apart by at least {paper.ties_apart(subset, model):.2f} points"
            line = paper.nag_line(subset, model)
            found.append(_slope(name, line.slope, line.half, _fit(line), apart))
            line = paper.nag_line(subset, model, without="sft")
            found.append(_slope(f"{name}, without SFT's row", line.slope, line.half, _fit(line)))
    name = "NAG holds 2 (RAS - RAS_base), one slope for the four blocks"
    return [*found, _slope(name, *paper.common_slope(), "20 cells, 15 degrees of freedom")]


def _fit(line: paper.Line) -> str:
    return f"R^2 {_close_to_one(line.r_squared)}; RAS_base {line.base:.1f}"


def _slope(name: str, slope: float, half: float, fit: str, why: str = "") -> Claim:
    verdict: Verdict = "does NOT match"
    if abs(slope - 2) <= half:
        verdict = "matches" if half <= WEAK else "weak evidence"
        if half > WEAK:
            held = f"any slope from {slope - half:.2f} to {slope + half:.2f} fits"
            why = f"{held}; {why}" if why else held
    text = f"{slope:.3f} ± {half:.3f} ({fit})"
    return Claim("our reading", name, "slope 2", text, verdict, why)


def _close_to_one(value: float) -> str:
    """As many decimals as show how far it is from 1."""
    return f"{value:.{max(3, math.ceil(-math.log10(1.0 - value)))}f}"


def signal_range(group_size: int) -> tuple[float, float]:
    """Between which chances of a win, percent, a group meets G >= 4 Rmax^2 / sigma^2 if R is +1 or
    -1: sigma^2 is 4 p (1 - p) then, so p (1 - p) >= 1 / G.

    ValueError for a G under 4, which no chance meets.
    """
    if group_size < 4:
        raise ValueError(f"G = {group_size}: 4 / sigma^2 is at least 4")
    root = math.sqrt(1 - 4 / group_size)
    return 50 * (1 - root), 50 * (1 + root)


def open_claims() -> list[Open]:
    """The claims on curves and theory, which were not published as numbers."""
    return [*_curve_claims(), *_theory_claims()]


FIGURE_2 = "`+sweeps=figure2_dynamics`"


def _curve_claims() -> list[Open]:
    return [
        Open(
            "50% fewer steps",
            "Figure 2: GRAO reaches its optimum in half of the steps",
            "with rates tuned alike, the interval of the saving against PPO or GRPO lies under 50%",
            f"{FIGURE_2}; table steps_to_best, each to its own best and to the other's",
        ),
        Open(
            "GRPO's ± 9.6%",
            "Figure 2: GRPO varies by that after step 800. Not said: whether it is a range or a"
            " deviation, of which reward, relative to what, over how many seeds",
            "GRPO's variation is shown to be level with GRAO's or below it (more than: not shown"
            " to be larger). The number itself can't be refuted, since it isn't defined",
            "`budget.steps=1000`; table late_training, column variation: half the range of the dev"
            " reward over the last fifth (steps 800 to 1000), relative to the best gain",
        ),
        Open(
            "PPO plateaus",
            "Figure 2: PPO's reward stops rising. Not said: from which step, at which level",
            "PPO's reward still rises in the last half of training (interval above 0), or GRAO's is"
            " as flat (level within a margin stated before)",
            f"{FIGURE_2}, and `budget.steps=1000`; table late_training, column rise",
        ),
        Open(
            "component shares",
            "Figure 5: imitation and regulariser are over 82% of the loss in magnitude before step"
            " 200; after it exploration is 52 to 61% and imitation under 40%",
            "the shares lie elsewhere. A share of |loss| is none of the gradient, and the"
            " regulariser is exploration in part (the A_i sum to 0)",
            f"{FIGURE_2}, and `budget.steps=1000`; figure loss_shares",
        ),
        Open(
            "gain on a mixture of experts",
            "text: up to +22.74 NAG over GRPO, Moonlight-16B",
            "the same comparison on another such model gives none",
            "not measurable here: no mixture of experts among the models",
        ),
    ]


def _theory_claims() -> list[Open]:
    low, high = signal_range(8)
    return [
        Open(
            "condition on G",
            "theory: G >= max(5, 4 Rmax^2 / sigma^2). With R of +1 or -1 the paper's G = 8 meets it"
            f" only where the policy wins between {low:.1f} and {high:.1f}% of its answers to a"
            " prompt; where a group's rewards are equal no G does",
            "it is sufficient for the paper's bound, so runs can't refute it; that it is needed is"
            " refuted if G = 2 or 4 is shown to be level with G = 8, or ahead, at equal answers",
            "`+sweeps=group_size`; figure group_size; table late_training, groups without signal",
        ),
        Open(
            "sample efficiency",
            "abstract: advantages over conventional approaches. SFT and DPO generate nothing",
            "at equal generated tokens GRAO is shown to be level with PPO or GRPO, or behind",
            f"{FIGURE_2}; figure reward_vs_generated_tokens; table cost. The theory's promise is in"
            " constants that no run shows: not measurable here",
        ),
        Open(
            "convergence",
            "theory: guaranteed. Figure 4: the total loss falls",
            "a falling loss shows none: where A_y < 0 the imitation term beta A_y J(y) has no bound"
            " below. Refuted if J(y) falls on and on while the reward falls",
            "any sweep; table probes, column J(y); alarm reference un-learned; figure loss. The"
            " rate of the theorem (smoothness, variance): not measurable here",
        ),
    ]


SUMMARY = """\
The abstract's figures are the mean, over two models and two sets, of RAS_GRAO / RAS_method - 1.
Those for PPO and GRPO match only when Moonlight-16B's PPO and GRPO rows of Table 2 are swapped:
abstract or table has them the wrong way round.

NAG as printed, mean 1[R_post > R_pre], is a share. One cell is negative and no share of anything.
Another lies above its RAS, which takes ties. What the tables hold goes with 2 (RAS - RAS_base), the
mean of R_post - R_pre without ties: closely on helpful-base, weakly on harmless-base, where
Qwen2.5-7B's slope of 2 rests on SFT's row alone. So far as it holds, Tables 1 and 2 print one
measurement twice.

By an exact identity (the A_i sum to 0), removing the regulariser only re-weights exploration
against imitation."""


def render() -> str:
    """The paper's Tables 1-3, the recomputed claims and the open ones, as Markdown."""
    parts = ["# The paper's tables, from its printed numbers (arXiv 2508.07750v1; percent)"]
    parts += [*_main_tables(), *_ablation_table()]
    names = ("where", "claim", "printed", "recomputed", "verdict", "why")
    found = [[getattr(one, name) for name in names] for one in claims()]
    parts += ["## Claims recomputed", markdown(names, found), SUMMARY]
    still = [[one.claim, one.says, one.refuted_if, one.here] for one in open_claims()]
    header = ["claim", "what the paper says", "what would refute it", "measured here by"]
    parts += ["## Claims that no printed number settles", markdown(header, still)]
    parts += ["`+sweeps=X`: `python -m grao_bench.train +sweeps=X`, then `report runs/X`."]
    return "\n\n".join(parts) + "\n"


def _main_tables() -> list[str]:
    table = paper.cells()
    header = ["method", *(f"{model} {score}" for model in MODELS for score in ("RAS", "NAG"))]
    parts = []
    for subset in SUBSETS:
        rows = []
        for method in paper.METHODS:
            printed = [_printed_texts(table[subset, model, method]) for model in MODELS]
            rows.append([method.upper(), *(text for pair in printed for text in pair)])
        title = f"## Table {paper.TABLE_NUMBER[subset]}: {subset}-base"
        parts += [title, markdown(header, rows)]
    return parts


def _ablation_table() -> list[str]:
    rows = []
    for name, values in paper.ABLATION.items():
        drop = "-" if name == "full GRAO" else f"{paper.relative_drop(name):.2f}%"
        rows.append([name, *(f"{values[model]:.2f}" for model in MODELS), drop])
    header = ["variant", *MODELS, "mean relative drop (recomputed)"]
    return ["## Table 3: ablation, NAG on helpful-base", markdown(header, rows)]


def _printed_texts(cell: Printed) -> tuple[str, str]:
    return f"{cell.ras:.2f} ± {cell.ras_pm}", f"{cell.nag:.2f} ± {cell.nag_pm}"
