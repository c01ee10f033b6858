"""The table of differences: each pair that a table asks about, with its test and the word for
it."""

from __future__ import annotations

import math

import pandas as pd

from grao_bench.reporting.gather.comparisons import LIMITS, Difference, detectable
from grao_bench.reporting.gather.families import SCORE_NAMES
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import Line, folders, tidy
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, slug

DETECTABLE = (
    "smallest detectable: the true difference that this pair's test finds with power 80%,"
    " two-sided, at its adjusted level"
)
TESTED = (
    "p: over seeds and prompts at once, by Bonferroni over the tests named here; the interval"
    " beside it"
    " is at the same level, and leaves 0 out where p < 0.05 and nowhere else"
)


def differences(table: Table) -> Sheet | None:
    """The pairs that a table asks about: the difference, its intervals, adjusted p, the word for
    it, the probability of improvement, and the smallest difference that its test could show.

    None where no pair could be tested.
    """
    lines: list[Line] = []
    texts = []
    runs = []
    of = {(row.cell.model, row.cell.label): folders(row.cell) for row in table.rows}
    for one in table.comparisons:
        for found in one.differences:
            told = difference_numbers(found) | _tested_numbers(found, one.margin)
            lines.append({"model": one.model, "score": one.score} | told)
            pair = f"{found.first} - {found.second}"
            over = f"[{number(found.low, 1)}, {number(found.high, 1)}]" if found.tested else NONE
            texts.append([pair, one.model, SCORE_NAMES[one.score], *difference_texts(found), over])
            texts[-1] += [
                _word(found, one.margin),
                p_text(found.level_p(one.margin)),
                _better(found),
            ]
            texts[-1].append(least_text(found))
            runs.append(of[one.model, found.first] + of[one.model, found.second])
    if not any(one.tested for one in table.comparisons):
        return None
    columns = ["pair", "model", "score", "difference", "seeds", "p (adjusted)", "over seeds alone"]
    columns += ["first is", "p (level)", "P(first better)", "smallest detectable"]
    asked = dict.fromkeys(one.question for one in table.comparisons if one.tested)
    margins = {SCORE_NAMES[one.score]: one.margin for one in table.comparisons}
    within = ", ".join(f"{margin:g} points of {name}" for name, margin in margins.items())
    return Sheet(
        slug(f"differences-{table.set}-{table.reward}"),
        f"Differences between methods: {table.set}, judged by {table.reward}",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            f"asked: {'; '.join(asked)}, a family per model and score. Difference: mean"
            " [simultaneous"
            " 95% interval over seeds and prompts] of the seeds that both have, in points",
            TESTED,
            f"ahead, behind: p (adjusted) < 0.05. Level: p (level) < 0.05, two one-sided tests that"
            f" the true difference is within {within}. Else not shown to differ, which is neither",
            "over seeds alone: 95% t interval of this one pair, for this base and these prompts."
            " P(first better): share of pairs of seeds, with Newcombe's 95% interval",
            DETECTABLE,
        ),
        tuple(runs),
    )


def difference_texts(found: Difference) -> list[str]:
    """The difference with its adjusted interval and stars, the number of seeds, and adjusted p."""
    interval = ""
    if found.tested:
        low, high = found.adjusted
        interval = f" [{number(low, 1)}, {number(high, 1)}]"
    stars = f" {found.stars}" if found.stars else ""
    return [f"{number(found.mean, 1)}{interval}{stars}", str(found.seeds), p_text(found.p_adjusted)]


def _word(found: Difference, margin: float) -> str:
    """The word for a difference; an "ahead" that is within the margin says so."""
    word = found.verdict(margin)
    within = word in ("ahead", "behind") and found.level_p(margin) < LIMITS[0]
    return f"{word}, within the margin" if within else word


def _better(found: Difference) -> str:
    """ "0.92 [0.55, 0.99]": the probability of improvement."""
    p, low, high = found.better
    return NONE if math.isnan(p) else f"{p:.2f} [{low:.2f}, {high:.2f}]"


def difference_numbers(found: Difference | None, prefix: str = "") -> Line:
    names = ("first", "second", "mean", "low", "high", "sd", "seeds", "p", "p_adjusted")
    return {f"{prefix}{name}": getattr(found, name) if found else None for name in names}


def _tested_numbers(found: Difference, margin: float) -> Line:
    """What a family's test says besides, in numbers."""
    low, high = found.adjusted
    better = zip(("better", "better_low", "better_high"), found.better, strict=True)
    return {
        "errors": " ".join(f"{error:.4g}" for error, _ in found.errors),
        "df": " ".join(f"{df:.4g}" for _, df in found.errors),
        "tests": found.tests,
        "adjusted_low": low,
        "adjusted_high": high,
        "margin": margin,
        "p_level": found.level_p(margin),
        "verdict": found.verdict(margin),
        **dict(better),
        "detectable": detectable(found.errors, found.level),
    }


def p_text(p: float) -> str:
    return NONE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def least_text(found: Difference | None) -> str:
    """The smallest true difference that a pair's seeds would find."""
    value = detectable(found.errors, found.level) if found else math.nan
    return NONE if math.isnan(value) else number(value, 1)
