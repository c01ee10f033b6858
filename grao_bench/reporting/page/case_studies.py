"""Tables 4 and 5: the same prompts answered by the reference, the base and every method, chosen by
a stated rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import pvariance

import pandas as pd

from grao_bench.core.errors import UserError
from grao_bench.core.records import EvalRecord, first_answers, judged
from grao_bench.reporting import paper
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.sheets import Grid, Sheet
from grao_bench.reporting.text import slug

DISAGREEMENT, RANDOM = "disagreement", "random"
COUNT = 3
MOST_METHODS = 12

CASE_NUMBER: dict[paper.Subset, int] = {"helpful": 4, "harmless": 5}


@dataclass(frozen=True)
class Answered:
    """A method's answer to a case, from one run."""

    method: str
    seed: int
    folder: Path
    record: EvalRecord


@dataclass(frozen=True)
class Case:
    """A prompt, its reference, and who answered what, in the table's order."""

    example_id: str
    prompt: str
    reference: str
    answers: tuple[Answered, ...]


@dataclass(frozen=True)
class CaseStudies:
    """The cases of one table. `rule` says how they were chosen, in words that stand beside them."""

    set: str
    reward: str
    rule: str
    cases: tuple[Case, ...]

    @property
    def title(self) -> str:
        """Names the paper's table where this is its set."""
        subset = paper.subset_of(self.set)
        head = f"Table {CASE_NUMBER[subset]}: case" if subset else "Case"
        return f"{head} studies on {self.set}, judged by {self.reward}"

    def sheet(self) -> Sheet:
        """As a table: a line for each prompt, its reference and each answer."""
        lines = []
        for i, case in enumerate(self.cases, 1):
            lines.append([str(i), "prompt", "", "", case.prompt])
            lines.append([str(i), "reference", "", "", case.reference])
            lines += [
                [
                    str(i),
                    one.method,
                    verdict_text(one.record.verdict),
                    f"{one.seed}",
                    one.record.answer,
                ]
                for one in case.answers
            ]
        columns = ("case", "by", "verdict", "seed", "text")
        frame = pd.DataFrame(lines, columns=list(columns))
        frame.insert(1, "id", [self.cases[int(line[0]) - 1].example_id for line in lines])
        name = slug(f"cases-{self.set}-{self.reward}")
        return Sheet(
            name,
            self.title,
            Grid(columns, tuple(map(tuple, lines)), prose=frozenset({4})),
            frame,
            (self.rule,),
        )


def case_studies(
    tables: Sequence[Table], rule: str = DISAGREEMENT, count: int = COUNT, seed: int = 0
) -> list[CaseStudies]:
    """The cases of every table whose records hold texts.

    rule: "disagreement" (the widest spread of verdicts over the methods, ties at random), "random",
    or example ids with commas between them. The draw is seeded. UserError for an id that no table
    has.
    """
    wanted = (
        []
        if rule in (DISAGREEMENT, RANDOM)
        else [one.strip() for one in rule.split(",") if one.strip()]
    )
    found = [(table, _answered(table)) for table in tables]
    known = {example_id for _, cases in found for example_id in cases}
    for example_id in wanted:
        if example_id not in known:
            raise UserError(
                f"--cases: no example {example_id!r} that every method answered and whose text is"
                " recorded; give ids from the records'"
                f" example_id with commas between them, or {DISAGREEMENT}, or {RANDOM}"
            )
    studies = []
    for table, cases in found:
        ids = (
            [one for one in wanted if one in cases] if wanted else _chosen(cases, rule, count, seed)
        )
        if ids:
            studies.append(
                CaseStudies(
                    table.set,
                    table.reward,
                    _rule_text(rule, table, len(cases), seed),
                    tuple(cases[one] for one in ids),
                )
            )
    return studies


def verdict_text(verdict: float | None) -> str:
    """ "" without a reference; win, tie or loss against the reference; a judge asked in both orders
    may find a half."""
    if verdict is None:
        return ""
    half = "half a " if abs(verdict) == 0.5 else ""
    return f"{half}win" if verdict > 0 else f"{half}loss" if verdict < 0 else "tie"


def _answered(table: Table) -> dict[str, Case]:
    """The prompts that every shown method answered, by id, where the texts are recorded. A method
    speaks through its lowest seed."""
    rows = [row for row in table.rows if row.scores][:MOST_METHODS]
    key = (table.set, table.reward)
    runs = [
        (row.cell.label, next(run for run in row.cell.runs if run.evaluations.get(key)))
        for row in rows
    ]
    asked = [first_answers(judged(run.evaluations[key])) for _, run in runs]
    records = [{record.example_id: record for record in one} for one in asked]
    cases = {}
    for example_id, record in records[0].items() if records else ():
        answers = [one.get(example_id) for one in records]
        if record.prompt and all(answer is not None and answer.reference for answer in answers):
            shown = [
                Answered(label, run.info.seed, run.folder, answer)
                for (label, run), answer in zip(runs, answers, strict=True)
                if answer
            ]
            cases[example_id] = Case(example_id, record.prompt, record.reference, tuple(shown))
    return cases


def _chosen(cases: dict[str, Case], rule: str, count: int, seed: int) -> list[str]:
    ids = sorted(cases)
    random.Random(seed).shuffle(ids)
    if rule == DISAGREEMENT:
        ids.sort(
            key=lambda one: _spread(cases[one]), reverse=True
        )  # stable: ties stay in the drawn order
    return ids[:count]


def _spread(case: Case) -> float:
    return pvariance([one.record.verdict or 0.0 for one in case.answers])


def _rule_text(rule: str, table: Table, prompts: int, seed: int) -> str:
    if rule == DISAGREEMENT:
        chosen = (
            f"the {prompts} prompts' widest spread of verdicts over the methods, ties drawn with"
            f" seed {seed}: not typical prompts"
        )
    elif rule == RANDOM:
        chosen = f"drawn from {prompts} prompts with seed {seed}"
    else:
        chosen = "the ids that were asked for"
    left = sum(bool(row.scores) for row in table.rows) - MOST_METHODS
    key = (table.set, table.reward)
    runs = [run for row in table.rows for run in row.cell.runs]
    several = any(one.draw for run in runs for one in run.evaluations.get(key, ()))
    answers = "the first answers" if several else "answers"
    return f"chosen: {chosen}; {answers} of each method's lowest seed" + (
        f"; {left} more configurations are left out" if left > 0 else ""
    )
