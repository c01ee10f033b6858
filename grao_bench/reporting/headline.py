"""What the tables show, in plain words and before any of them: which method leads and by how much, or that nothing is shown to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grao_bench.reporting.cells import BASE
from grao_bench.reporting.comparisons import LIMITS, Difference, between
from grao_bench.reporting.tables import Comparison, Row, Table, number

NAMED = 3
"""More methods than this are counted, not named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One table's answer for one model: what it is about, a verdict in a few words, and the sentences that say by how much."""

    about: str
    verdict: str
    text: str


def findings(tables: Sequence[Table]) -> list[Finding]:
    """A finding per table and model, by RAS; the table's order."""
    return [_finding(table, model) for table in tables for model in dict.fromkeys(row.cell.model for row in table.rows)]


def _finding(table: Table, model: str) -> Finding:
    rows = [row for row in table.rows if row.cell.model == model]
    scored = [row for row in rows if row.scores and row.cell.objective != BASE]
    base = next((row for row in rows if row.cell.objective == BASE and row.scores), None)
    lost = [row.cell.label for row in rows if not row.scores]
    about = f"{table.set} ({model}), judged by {table.reward}"
    found = next((one for one in table.comparisons if (one.model, one.score) == (model, "ras")), None)
    verdict, sentences = _compared(found, scored) if found else _alone(scored)
    if base:
        sentences.append(f"The base has {_percent(base)}.")
    if lost:
        sentences.append(f"No result for {_names(lost)}: see the table for the reason.")
    return Finding(about, verdict, " ".join(sentences))


def _alone(scored: Sequence[Row]) -> tuple[str, list[str]]:
    if not scored:
        return "No method was evaluated", []
    (row,) = scored
    return "One method, nothing to compare it with", [f"{row.cell.label} has {_percent(row)}."]


def _compared(found: Comparison, scored: Sequence[Row]) -> tuple[str, list[str]]:
    by_label = {row.cell.label: row for row in scored}
    best = by_label[found.best]
    others = sorted((row for row in scored if row is not best), key=lambda row: -row.scores["ras"].mean)
    pairs = {row.cell.label: between(found.differences, found.best, row.cell.label) for row in others}
    behind = [label for label, pair in pairs.items() if pair and pair.p_holm < LIMITS[0]]
    level = [label for label in pairs if label not in behind]
    sentences = [f"{found.best} has the highest mean RAS, {_percent(best)}{_seeds(best)}."]
    if not found.tested:
        verdict = "No difference can be tested"
        sentences.append(
            f"Next is {_of(pairs, others[0].cell.label)}; a test takes two seeds that both methods have, and differences that vary."
        )
    elif not level:
        verdict = f"{found.best} leads"
        sentences.append(f"It is ahead of every other method; of the next, by {_of(pairs, behind[0])}.")
    else:
        verdict = "No method is shown to lead"
        sentences.append(f"It is not shown to differ from {_of(pairs, level[0])}{_others(level[1:])}.")
        if behind:
            sentences.append(f"It is ahead of {_names(behind)}.")
    grao = [row.cell.label for row in others if row.cell.objective == "grao" and not row.cell.first_stage]
    if len(grao) == 1:
        shown = "" if not found.tested else ": shown to be behind" if grao[0] in behind else ": not shown to differ"
        sentences.append(f"GRAO has {_percent(by_label[grao[0]])}, {found.best} minus {_of(pairs, grao[0])}{shown}.")
    if found.tested and not math.isnan(found.smallest):
        sentences.append(f"With these seeds a difference under about {number(found.smallest, 1)} points would go unseen.")
    return verdict, sentences


def _of(pairs: dict[str, Difference | None], label: str) -> str:
    """ "grpo: 3.4 points [-5.1, 11.9], p = 0.310": how far the best is ahead of it."""
    pair = pairs[label]
    if pair is None:
        return f"{label}, with no seed in common"
    text = f"{label}: {number(pair.mean, 1)} points"
    if math.isnan(pair.p):
        return text
    return f"{text} [{number(pair.low, 1)}, {number(pair.high, 1)}], p {_p(pair.p_holm)}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _percent(row: Row) -> str:
    return f"{number(row.scores['ras'].mean, 1)}%"


def _seeds(row: Row) -> str:
    return f" over {len(row.seeds)} seeds" if len(row.seeds) > 1 else " with one seed"


def _names(labels: Sequence[str]) -> str:
    return ", ".join(labels[:NAMED]) + _more(labels)


def _others(labels: Sequence[str]) -> str:
    return f"; nor from {_names(labels)}" if labels else ""


def _more(labels: Sequence[str]) -> str:
    return f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
