"""What the tables show, in plain words and before any of them: which method leads and by how much.

Or that nothing is shown to, or that the scores rank no objective: an alarm on a row, settings that
differ between rows besides the objective's own, or a caveat that lies beside the records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grao_bench.core.records import Run
from grao_bench.reporting.gather.comparisons import Difference, between
from grao_bench.reporting.gather.families import Comparison, Questions
from grao_bench.reporting.gather.intervals import MIN_SEEDS, two_groups
from grao_bench.reporting.gather.reward_models import accuracies, warnings
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.gather.settings import unequal_settings
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.text import number

NAMED = 3
"""More methods than this are counted, not named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One table's answer for one model: what it is about, a verdict in a few words, and the
    sentences that say by how much."""

    about: str
    verdict: str
    text: str


def findings(
    tables: Sequence[Table], caveat: str = "", questions: Questions | None = None
) -> list[Finding]:
    """A finding per table and model, by RAS; the table's order.

    caveat: what is known against reading the scores as a ranking, "" for nothing. The report says
    it above the findings; here it keeps them from naming a leader. questions: see `tuned` there.
    """
    tuned = (questions or Questions()).tuned
    found = []
    for table in tables:
        models = dict.fromkeys(row.cell.model for row in table.rows)
        found += [_finding(table, model, caveat, tuned) for model in models]
    return found


def _finding(table: Table, model: str, caveat: str, tuned: Sequence[str]) -> Finding:
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
    found = next(
        (one for one in table.comparisons if (one.model, one.score) == (model, "ras")), None
    )
    against = doubts(scored, caveat, tuned)
    verdict, sentences = _compared(found, scored, against) if found else _alone(scored)
    if alike := [
        line for line in unequal_settings([row.cell for row in scored]) if _of_key(line, tuned)
    ]:
        sentences.append(f"Said to be tuned for each by one rule: {'; '.join(alike)}.")
    sentences += [
        f"The seeds of {row.cell.label} fall into two groups." for row in scored if _split(row)
    ]
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


def doubts(rows: Sequence[Row], caveat: str = "", tuned: Sequence[str] = ()) -> list[str]:
    """Why the scores of these rows rank no objective; empty where nothing is known against it. An
    alarm that all of them have is said once."""
    first = rows[0].alarms if len(rows) > 1 else ()
    common = [one for one in first if all(one in row.alarms for row in rows)]
    left = {row.cell.label: [one for one in row.alarms if one not in common] for row in rows}
    alarmed = [f"{label} ({', '.join(own)})" for label, own in left.items() if own]
    return [
        *(["the caveat above"] if caveat else []),
        *(one for one in unequal_settings([row.cell for row in rows]) if not _of_key(one, tuned)),
        *([f"alarms on every row ({', '.join(common)})"] if common else []),
        *([f"alarms on {', '.join(alarmed)}"] if alarmed else []),
    ]


def _of_key(line: str, keys: Sequence[str]) -> bool:
    """Whether a line of `unequal_settings` is about one of these settings."""
    return line.split(" ")[0] in keys


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
    """The verdict, and its sentences. Rows with few seeds are in none but the one that says so."""
    enough = [row for row in scored if len(row.seeds) >= MIN_SEEDS]
    few = [f"{row.cell.label} ({len(row.seeds)})" for row in scored if row not in enough]
    sentences = [f"Against a ranking: {'; '.join(against)}."] if against else []
    if len(enough) < 2:
        sentences.append(
            f"A sentence takes {MIN_SEEDS} seeds of two methods; seeds: {', '.join(few)}."
        )
        return "Too few seeds to compare any two methods", sentences
    ranked = sorted(enough, key=lambda row: -row.scores["ras"].mean)
    best, labels = ranked[0], [row.cell.label for row in ranked[1:]]
    pairs = {label: between(found.differences, best.cell.label, label) for label in labels}
    words = {label: _word(found, best.cell.label, label, pairs[label]) for label in labels}
    sentences.append(f"{best.cell.label} has the highest mean RAS, {_percent(best)}{_over(best)}.")
    verdict = _verdict(best.cell.label, list(words.values()), against, some=bool(few))
    sentences += _by_word(pairs, words, against, found.margin)
    sentences += _of_ours(found, ranked, best, against)
    sentences += _power(found)
    if few:
        sentences.append(f"In no sentence, with fewer than {MIN_SEEDS} seeds: {', '.join(few)}.")
    return verdict, sentences


def _word(found: Comparison, best: str, label: str, pair: Difference | None) -> str:
    """What is said of best against another one: a `Verdict`, or that it wasn't asked."""
    if (best, label) in found.ahead:
        return "ahead"
    return pair.verdict(found.margin) if pair else "not asked"


def _verdict(best: str, words: Sequence[str], against: Sequence[str], some: bool) -> str:
    if all(word in ("not tested", "not asked") for word in words):
        return "No difference can be tested"
    if against:
        return "The scores rank no objective"
    if all(word == "ahead" for word in words):
        return f"{best} leads" + (f" among those with {MIN_SEEDS} seeds" if some else "")
    if all(word == "level" for word in words):
        return "The methods are level"
    return "No method is shown to lead"


def _by_word(
    pairs: dict[str, Difference | None],
    words: dict[str, str],
    against: Sequence[str],
    margin: float,
) -> list[str]:
    """A sentence per word, on the methods that it holds for, the nearest first and with its
    size."""
    ahead = "Its score is shown to be higher than that of" if against else "It is ahead of"
    starts = {
        "ahead": ahead,
        "level": f"It is level, within {margin:g} points, with",
        "not shown to differ": "It is not shown to differ from",
        "not tested": "No test, which takes differences that vary, against",
        "not asked": "No test was asked for against",
    }
    said = []
    for word, start in starts.items():
        labels = [label for label in words if words[label] == word]
        if labels:
            rest = f"; nor from {_names(labels[1:])}" if word == "not shown to differ" else ""
            rest = rest or f"; and {_names(labels[1:])}"
            first = _of(pairs[labels[0]], labels[0])
            said.append(f"{start} {first}{rest if labels[1:] else ''}.")
    return said


def _of_ours(
    found: Comparison, ranked: Sequence[Row], best: Row, against: Sequence[str]
) -> list[str]:
    """Our objective's place, where it has one row and does not have the highest mean."""
    ours = [row for row in ranked if row.cell.role.kind == "ours" and not row.cell.first_stage]
    if len(ours) != 1 or ours[0] is best:
        return []
    label = ours[0].cell.label
    pair = between(found.differences, best.cell.label, label)
    word = _word(found, best.cell.label, label, pair)
    told = {"ahead": "shown to be behind", "level": "level", "not shown to differ": word}.get(word)
    told = None if against and word == "ahead" else told
    size = f", {best.cell.label} minus {_of(pair, label)}"
    return [
        f"{ours[0].cell.objective.upper()} has"
        f" {_percent(ours[0])}{size}{f': {told}' if told else ''}."
    ]


def _power(found: Comparison) -> list[str]:
    """How small a difference the adjusted tests could have seen."""
    if math.isnan(found.smallest):
        return []
    tests = f"{found.tested} tests" if found.tested > 1 else "1 test"
    return [
        f"Adjusted for {tests}, a true difference of {number(found.smallest, 1)} points would be"
        f" found with power 80%, one of {found.margin:g} with {100 * found.power:.0f}%."
    ]


def _of(pair: Difference | None, label: str) -> str:
    """ "grpo: 3.4 points [-5.1, 11.9], p = 0.310": how far the best is ahead of it, adjusted."""
    if pair is None:
        return label
    text = f"{label}: {number(pair.mean, 1)} points"
    if not pair.tested:
        return text
    low, high = pair.adjusted
    return f"{text} [{number(low, 1)}, {number(high, 1)}], p {_p(pair.p_adjusted)}"


def _split(row: Row) -> bool:
    return len(row.seeds) >= MIN_SEEDS and two_groups(list(row.means["ras"].values())) is not None


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _percent(row: Row) -> str:
    return f"{number(row.scores['ras'].mean, 1)}%"


def _over(row: Row) -> str:
    """ " over 5 seeds, [55.0, 67.0] over seeds and prompts"."""
    text = f" over {len(row.seeds)} seeds"
    found = row.crossed.get("ras")
    if found is None:
        return text
    return f"{text}, [{number(found.low, 1)}, {number(found.high, 1)}] over seeds and prompts"


def _names(labels: Sequence[str]) -> str:
    return ", ".join(labels[:NAMED]) + _more(labels)


def _more(labels: Sequence[str]) -> str:
    return f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
