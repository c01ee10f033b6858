"""What alignment costs elsewhere: the scores on lm-eval's tasks beside those of the base. A
Sheet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grao_bench.core.records import Run, TaskRecord
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.comparisons import detectable
from grao_bench.reporting.gather.intervals import Interval, from_error, over_seeds
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.tables.columns import Column, Line, cell_columns, folders, made_of, spread
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, with_interval

DIGITS = 3


@dataclass(frozen=True, slots=True)
class Question:
    """What two scores share that can be compared: the task, how it is scored and asked, its
    version, its documents and prompts."""

    task: str
    metric: str
    filter: str
    settings: str
    task_version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A configuration's scores by seed, those of its base, and the seeds whose base has none to
    compare with."""

    records: Mapping[int, TaskRecord]
    before: Mapping[int, float]

    @property
    def score(self) -> Interval | None:
        """Over seeds; with one seed from lm-eval's standard error over the documents; None without
        scores."""
        if not self.records:
            return None
        first = next(iter(self.records.values()))
        if len(self.records) == 1 and first.stderr is not None:
            return from_error(first.value, first.stderr, first.documents)
        return over_seeds([record.value for record in self.records.values()])

    @property
    def difference(self) -> Interval | None:
        """Minus the base, per seed; None unless every seed's base was asked the same."""
        if not self.records or self.before.keys() != self.records.keys():
            return None
        return over_seeds(
            [record.value - self.before[seed] for seed, record in self.records.items()]
        )

    @property
    def detectable(self) -> float:
        """The smallest true difference from the base that these seeds would find: power 80%,
        two-sided 5%; nan for one seed."""
        found = self.difference
        if found is None or found.n < 2:
            return math.nan
        return detectable(((found.sd / math.sqrt(found.n), found.n - 1.0),))


NOTES = (
    "in lm-eval's own units. Several seeds: mean ± sd [95% t interval over seeds], of the score and"
    " of its difference from the base, which is one model. One seed: [95% normal interval from"
    " lm-eval's standard error over documents]; its difference has none, for how the two scores"
    " vary together is not recorded",
    "the tax is a difference to the worse side; smallest detectable: the true one that these seeds"
    " find with power 80%, two-sided 5%. The intervals are not adjusted for the number of tasks and"
    " methods",
)


@dataclass(frozen=True)
class Taxed:
    """A line: a question, an example of what it asked, in words (`_task_texts`), and a cell's
    scores of it."""

    question: Question
    example: TaskRecord
    asked: Sequence[str]
    cell: Cell
    compared: Compared
    notes: str

    @property
    def base(self) -> str:
        """The base's score, where it is one."""
        values = set(self.compared.before.values())
        return f"{values.pop():.{DIGITS}f}" if len(values) == 1 else NONE

    @property
    def least(self) -> str:
        """The smallest detectable difference."""
        found = self.compared.detectable
        return NONE if math.isnan(found) else f"{found:.{DIGITS}f}"


def alignment_tax(cells: Sequence[Cell]) -> Sheet | None:
    """Each method's score on every lm-eval task that a run was asked, its base's, and the
    difference; None where none was asked.

    A base is found by the fingerprint of its weights, a score of it by its `Question`. Methods that
    were never asked are counted in a note; one whose runs failed, or were asked in part, has its
    row.
    """
    trained = [cell for cell in cells if cell.objective != BASE]
    asked = {run.folder: questions(run) for cell in cells for run in cell.runs}
    shown = [one for one in trained if not one.runs or any(asked[run.folder] for run in one.runs)]
    places = [run.folder for cell in trained for run in cell.runs]
    wanted = sorted({one for place in places for one in asked[place]}, key=_order)
    lines = []
    for question in wanted:
        example = next(found[question] for found in asked.values() if question in found)
        twins = [other for other in wanted if _name(other) == _name(question)]
        words = _task_texts(question, example, twins)
        for cell in shown:
            compared, notes = _compare(cell, cells, asked, question)
            lines.append(Taxed(question, example, words, cell, compared, "; ".join(notes)))
    if not lines:
        return None
    unasked = len(trained) - len(shown)
    told = [f"{unasked} of {len(trained)} methods were asked no task"] if unasked else []
    title = "Alignment tax: lm-eval's tasks, beside the base"
    runs = tuple(folders(one.cell) for one in lines)
    return Sheet("alignment_tax", title, *made_of(_columns(), lines), (*NOTES, *told), runs)


def _columns() -> list[Column[Taxed]]:
    def asked(title: str, place: int) -> Column[Taxed]:
        return Column(title, lambda one: one.asked[place])

    def interval(title: str, value: Callable[[Compared], Interval | None]) -> Column[Taxed]:
        return Column(title, lambda one: with_interval(value(one.compared), DIGITS))

    return [
        Column("", numbers=_numbers),
        asked("task", 0),
        asked("metric", 1),
        Column("method", lambda one: one.cell.label),
        Column("model", lambda one: one.cell.model),
        Column("trained on", lambda one: one.cell.data),
        interval("minus base", lambda compared: compared.difference),
        interval("score", lambda compared: compared.score),
        Column("base", lambda one: one.base),
        Column("seeds", lambda one: _seeds(one.compared)),
        Column("smallest detectable", lambda one: one.least),
        Column("notes", lambda one: one.notes, lambda one: {"notes": one.notes}),
        asked("better", 2),
        asked("documents", 3),
        asked("few-shot", 4),
        asked("asked with", 5),
    ]


def questions(run: Run) -> dict[Question, TaskRecord]:
    """A run's scores by what can be compared. A group has no documents of its own: it takes the
    fingerprints of its tasks."""
    found: dict[Question, TaskRecord] = {}
    for record in run.lm_eval:
        settings = json.dumps(record.settings, sort_keys=True)
        together = (
            one.fingerprint
            for one in run.lm_eval
            if one.asked == record.asked and one.settings == record.settings
        )
        fingerprint = record.fingerprint or " ".join(sorted({*together} - {""}))
        found.setdefault(
            Question(
                record.task,
                record.metric,
                record.filter,
                settings,
                record.task_version,
                fingerprint,
            ),
            record,
        )
    return found


def _compare(
    cell: Cell,
    cells: Sequence[Cell],
    asked: Mapping[Any, Mapping[Question, TaskRecord]],
    question: Question,
) -> tuple[Compared, list[str]]:
    """A configuration's scores and its base's, and what is to be said of those that are not
    there."""
    records = {
        run.info.seed: asked[run.folder][question]
        for run in cell.runs
        if question in asked[run.folder]
    }
    before: dict[int, float] = {}
    reasons: list[str] = []
    for run in cell.runs:
        values = {
            asked[base.folder][question].value
            for base in _bases(cells, run)
            if question in asked[base.folder]
        }
        if run.info.seed in records and len(values) == 1:
            before[run.info.seed] = values.pop()
        elif run.info.seed in records:
            reasons.append(
                "its base has several scores of this, so no difference"
                if values
                else "its base was not asked the same"
            )
    unscored = [str(run.info.seed) for run in cell.runs if run.info.seed not in records]
    notes = [f"seed {lost.seed} not finished: {lost.reason}" for lost in cell.missing]
    notes += [f"seed {', '.join(unscored)} not asked"] if unscored else []
    return Compared(records, before), notes + list(dict.fromkeys(reasons))


def _bases(cells: Iterable[Cell], run: Run) -> list[Run]:
    bases = [base for cell in cells if cell.objective == BASE for base in cell.runs]
    weights = run.info.fingerprints.get("base")
    return [base for base in bases if weights and base.info.fingerprints.get("base") == weights]


def _name(question: Question) -> tuple[str, str, str]:
    return (question.task, question.metric, question.filter)


def _order(question: Question) -> tuple[str, ...]:
    return (*_name(question), question.settings, question.task_version, question.fingerprint)


def _task_texts(question: Question, example: TaskRecord, twins: Sequence[Question]) -> list[str]:
    """What was asked. Where one task was asked in several ways, what tells them apart is among
    it."""
    settings = {
        name: value
        for name, value in example.settings.items()
        if value not in (None, False) and name != "seed"
    }
    if len({other.settings for other in twins}) > 1:
        settings = dict(example.settings)
    asked = [
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings.items()
    ]
    if len({other.task_version for other in twins}) > 1:
        asked.append(f"version {question.task_version}")
    if len({other.fingerprint for other in twins if other.settings == question.settings}) > 1:
        asked.append(f"prompts {question.fingerprint[:8] or 'unknown'}")
    better = {True: "higher", False: "lower", None: NONE}[example.higher_is_better]
    metric = (
        question.metric if question.filter == "none" else f"{question.metric} ({question.filter})"
    )
    shots = NONE if example.num_fewshot is None else str(example.num_fewshot)
    return [
        question.task,
        metric,
        better,
        str(example.documents) if example.documents else NONE,
        shots,
        ", ".join(asked),
    ]


def _seeds(compared: Compared) -> str:
    count = len(compared.records)
    return NONE if not count else "1 (documents only)" if count == 1 else str(count)


def _numbers(one: Taxed) -> Line:
    question, example, compared = one.question, one.example, one.compared
    line: Line = cell_columns(one.cell) | {
        "task": question.task,
        "metric": question.metric,
        "filter": question.filter,
    }
    line |= {
        "higher_is_better": example.higher_is_better,
        "documents": example.documents,
        "num_fewshot": example.num_fewshot,
    }
    line |= {
        "settings": question.settings,
        "task_version": question.task_version,
        "fingerprint": example.fingerprint,
    }
    line |= {"seeds": len(compared.records)} | spread("score", compared.score)
    base = set(compared.before.values())
    line |= {"base": base.pop() if len(base) == 1 else math.nan, "detectable": compared.detectable}
    return line | spread("minus_base", compared.difference)
