"""What the tables show, in plain words and before any of them: which method leads and by how much.

Or that nothing is shown to, or that the scores rank no objective: an alarm on a row, settings that
differ between rows besides the objective's own, or a caveat that lies beside the records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grao_bench.records import Run
from grao_bench.reporting.cells import BASE
from grao_bench.reporting.comparisons import LIMITS, Difference, between
from grao_bench.reporting.reward_models import accuracies, warnings
from grao_bench.reporting.tables import Comparison, Row, Table, number, unequal_settings

NAMED = 3
"""More methods than this are counted, not named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One table's answer for one model: what it is about, a verdict in a few words, and the sentences that say by how much."""

    about: str
    verdict: str
    text: str


def findings(tables: Sequence[Table], caveat: str = "") -> list[Finding]:
    """A finding per table and model, by RAS; the table's order.

    caveat: what is known against reading the scores as a ranking, "" for nothing. The report says
    it above the findings; here it keeps them from naming a leader.
    """
    found = []
    for table in tables:
        models = dict.fromkeys(row.cell.model for row in table.rows)
        found += [_finding(table, model, caveat) for model in models]
    return found


def _finding(table: Table, model: str, caveat: str) -> Finding:
    rows = [row for row in table.rows if row.cell.model == model]
    others = [row for row in rows if row.scores and row.cell.objective != BASE]
    scored = [row for row in others if row.cell.trained]
    beside = [row for row in others if not row.cell.trained]
    base = next((row for row in rows if row.cell.objective == BASE and row.scores), None)
    lost = [row.cell.label for row in rows if not row.scores]
    about = f"{table.set} ({model}), judged by {table.reward}"
    behind = accuracies(_runs(scored), f"{table.set}/{table.reward}")
    warned = [f"{text}." for text in warnings(behind)]
    if scored and not any("ras" in row.scores for row in scored):
        verdict, text = _by_reward(rows, bool(warned))
        return Finding(about, verdict, " ".join([text, *warned]))
    found = next((one for one in table.comparisons if (one.model, one.score) == (model, "ras")), None)
    against = doubts(scored, caveat)
    verdict, sentences = _compared(found, scored, against) if found else _alone(scored)
    if beside and "ras" in beside[0].scores:
        named = ", ".join(f"{row.cell.label} {_percent(row)}" for row in beside)
        sentences.append(f"Beside them, trained elsewhere: {named}.")
    if base:
        sentences.append(f"The base has {_percent(base)}.")
    sentences += warned
    if lost:
        sentences.append(f"No result for {_names(lost)}: see the table for the reason.")
    return Finding(about, verdict, " ".join(sentences))


def _runs(rows: Sequence[Row]) -> list[Run]:
    return [run for row in rows for run in row.cell.runs]


def doubts(rows: Sequence[Row], caveat: str = "") -> list[str]:
    """Why the scores of these rows rank no objective; empty where nothing is known against it. An
    alarm that all of them have is said once."""
    first = rows[0].alarms if len(rows) > 1 else ()
    common = [one for one in first if all(one in row.alarms for row in rows)]
    left = {row.cell.label: [one for one in row.alarms if one not in common] for row in rows}
    alarmed = [f"{label} ({', '.join(own)})" for label, own in left.items() if own]
    return [
        *(["the caveat above"] if caveat else []),
        *unequal_settings([row.cell for row in rows]),
        *([f"alarms on every row ({', '.join(common)})"] if common else []),
        *([f"alarms on {', '.join(alarmed)}"] if alarmed else []),
    ]


def _by_reward(rows: Sequence[Row], warned: bool) -> tuple[str, str]:
    """Of a set without references: the mean rewards, nothing tested; the highest first, but where
    a reward model is warned of."""
    scored = [row for row in rows if row.scores]
    if not warned:
        scored.sort(key=lambda row: -row.scores["reward"].mean)
    named = (f"{row.cell.label} {number(row.scores['reward'].mean, 3)}" for row in scored)
    text = f"There are no references in the set. Mean reward, not tested: {', '.join(named)}."
    return "RAS and NAG can't be computed", text


def _alone(scored: Sequence[Row]) -> tuple[str, list[str]]:
    if not scored:
        return "No method was trained and evaluated", []
    (row,) = scored
    return "One method, nothing to compare it with", [f"{row.cell.label} has {_percent(row)}."]


def _compared(
    found: Comparison,
    scored: Sequence[Row],
    against: Sequence[str],
) -> tuple[str, list[str]]:
    by_label = {row.cell.label: row for row in scored}
    best = by_label[found.best]
    others = sorted((row for row in scored if row is not best), key=lambda row: -row.scores["ras"].mean)
    pairs = {row.cell.label: between(found.differences, found.best, row.cell.label) for row in others}
    behind = [label for label, pair in pairs.items() if pair and pair.p_holm < LIMITS[0]]
    level = [label for label in pairs if label not in behind]
    sentences = [f"Against a ranking: {'; '.join(against)}."] if against else []
    sentences.append(f"{found.best} has the highest mean RAS, {_percent(best)}{_seeds(best)}.")
    if not found.tested:
        verdict = "No difference can be tested"
        sentences.append(
            f"Next is {_of(pairs, others[0].cell.label)}; a test takes two seeds that both methods have, and differences that vary."
        )
    else:
        leads = f"{found.best} leads" if not level else "No method is shown to lead"
        verdict = "The scores rank no objective" if against else leads
        ahead = "Its score is shown to be higher than that of" if against else "It is ahead of"
        if level:
            first = f"{_of(pairs, level[0])}{_others(level[1:])}"
            sentences.append(f"It is not shown to differ from {first}.")
        if behind and level:
            sentences.append(f"{ahead} {_names(behind)}.")
        elif behind:
            second = _of(pairs, behind[0])
            sentences.append(f"{ahead} every other method; of the next, by {second}.")
    grao = [row.cell.label for row in others if row.cell.objective == "grao" and not row.cell.first_stage]
    if len(grao) == 1:
        shown = "" if not found.tested else _shown(grao[0] in behind, against)
        sentences.append(f"GRAO has {_percent(by_label[grao[0]])}, {found.best} minus {_of(pairs, grao[0])}{shown}.")
    if found.tested and not math.isnan(found.smallest):
        size = f"a difference under about {number(found.smallest, 1)} points"
        sentences.append(f"With these seeds {size} would go unseen in one comparison, before Holm.")
    return verdict, sentences


def _shown(behind: bool, against: Sequence[str]) -> str:
    if behind:
        return "" if against else ": shown to be behind"
    return ": not shown to differ"


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
