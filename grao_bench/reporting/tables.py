"""Tables 1 and 2, and the cross table of every model on every set: rows of intervals, then Markdown, CSV or the page's text.

A row is one configuration (one hash) evaluated on one set by one reward. What did not finish is a row with its reason, never a 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from grao_bench.errors import UserError
from grao_bench.records import EvalRecord, ProbeRecord, Run, no_references
from grao_bench.reporting import paper
from grao_bench.reporting.alarms import alarms, summarise
from grao_bench.reporting.cells import (
    BASE,
    CONTROL,
    Cell,
    EvalKey,
    base_records,
    cell_order,
    check_comparable,
    differing,
    set_order,
)
from grao_bench.reporting.families import (
    COMPARED,
    Comparison,
    Questions,
    compare,
    statistics_notes,
)
from grao_bench.reporting.intervals import (
    MIN_SEEDS,
    Interval,
    crossed,
    intervals,
    over_seeds,
    two_groups,
)
from grao_bench.reporting.reward_models import accuracies, warnings
from grao_bench.reporting.scores import Ties, per_prompt, without_reference
from grao_bench.reporting.sheets import NONE, Grid

ASKED = (
    "rollout",
    "evaluation.temperature",
    "evaluation.max_examples",
    "evaluation.answers_per_prompt",
    "evaluation.seed",
    "budget.max_prompt_tokens",
    "budget.max_answer_tokens",
)
"""Settings that a checkpoint trained elsewhere shares with the runs that it stands beside."""

CONTROLS = "controls, in no test:"
"""Heading of the rows that no objective made: exploits, constant answers, the reference itself."""


LENGTH_CONTROLLED = "RAS %, length controlled"


@dataclass(frozen=True)
class Row:
    """One configuration on one set by one reward: its scores by name (empty when nothing finished), alarms, what is missing and why.

    scores: over seeds, or with one over prompts. crossed: over both at once, empty with one seed.
    frames: each seed's scores per prompt.
    """

    cell: Cell
    set: str
    reward: str
    scores: dict[str, Interval]
    kl: Interval | None
    prompts: int
    seeds: tuple[int, ...]
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    means: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # score -> seed -> its mean over the prompts
    crossed: Mapping[str, Interval] = field(default_factory=dict)
    frames: Mapping[int, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Table:
    """Every method trained and evaluated on one set, by one reward.

    number: the paper's table, None for other sets.
    controls: rows below the methods', which nothing is compared with.
    """

    number: int | None
    set: str
    reward: str
    ties: Ties
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    comparisons: tuple[Comparison, ...] = ()
    controls: tuple[Row, ...] = ()

    @property
    def title(self) -> str:
        """Names the set and the judge."""
        head = f"Table {self.number}: " if self.number else ""
        return f"{head}trained and evaluated on {self.set}, judged by {self.reward}"


@dataclass(frozen=True)
class CrossTable:
    """Every model on every set of a family, whichever it was trained on. `rows` pair a cell with its row on each set that it has."""

    sets: tuple[str, ...]
    reward: str
    ties: Ties
    rows: tuple[tuple[Cell, dict[str, Row]], ...]

    @property
    def title(self) -> str:
        """Names the judge and the sets."""
        return f"Every model on every set ({', '.join(self.sets)}), judged by {self.reward}"


def score(cells: Sequence[Cell], ties: Ties) -> list[Row]:
    """A row for every cell, set and reward: what was evaluated, and what should have been (its own set) and was not."""
    keys = {key for cell in cells for run in cell.runs for key in run.evaluations}
    rows = []
    for cell in cells:
        wanted = {key for run in cell.runs for key in run.evaluations}
        if cell.objective != BASE:
            here = {key for key in keys if key[0] == cell.data}
            wanted |= here or {(cell.data, reward) for _, reward in keys}
        rows += [_score(cell, cells, key, ties) for key in sorted(wanted)]
    return rows


def main_tables(rows: Sequence[Row], ties: Ties, questions: Questions | None = None) -> list[Table]:
    """A table per (set, reward): what was trained on the set, with its base. The paper's sets first, in its order.

    Raises UserError when rows of one table were trained on different data, or from different bases, of the same name.
    """
    tables = []
    beside = [row for row in rows if row.cell.control and row.cell.data == row.set and row.scores]
    rows = [row for row in rows if not row.cell.control]
    for key in sorted({(row.set, row.reward) for row in rows}):
        here = [row for row in rows if (row.set, row.reward) == key]
        trained = [row for row in here if row.cell.data == row.set and row.cell.objective != BASE]
        trained = _with_absent_seeds(trained) + _never_run(trained, rows)
        shown = trained + _bases(here, trained)
        if trained or not any(row.cell.objective != BASE for row in rows):
            controls = _in_order([row for row in beside if (row.set, row.reward) == key])
            check_comparable([row.cell for row in (*shown, *controls)], key[:1], key[1])
            subset = paper.subset_of(key[0])
            number = paper.TABLE_NUMBER[subset] if subset else None
            ordered = tuple(sorted(shown, key=lambda row: cell_order(row.cell)))
            comparisons = compare(ordered, questions)
            notes = (
                *_notes([row.cell for row in trained], key),
                *interval_notes(ordered),
                *statistics_notes(comparisons),
            )
            tables.append(Table(number, *key, ties, ordered, notes, comparisons, controls))
    return sorted(tables, key=lambda table: (set_order(table.set), table.reward))


def cross_tables(rows: Sequence[Row], ties: Ties) -> list[CrossTable]:
    """A table per reward and family: the sets that some model was evaluated on together. A family of one set has none."""
    tables = []
    for reward in sorted({row.reward for row in rows}):
        here = [row for row in rows if row.reward == reward]
        for sets in _families([row for row in here if row.cell.objective != BASE] or here):
            members = [row for row in here if row.set in sets]
            trained = [row for row in members if row.cell.objective != BASE]
            shown = sorted(trained + _bases(members, trained), key=lambda row: cell_order(row.cell))
            lines: list[tuple[Cell, dict[str, Row]]] = []
            for row in shown:
                if lines and lines[-1][0] is row.cell:
                    lines[-1][1][row.set] = row
                else:
                    lines.append((row.cell, {row.set: row}))
            if len(sets) > 1:
                check_comparable([cell for cell, _ in lines], sets, reward)
                tables.append(CrossTable(sets, reward, ties, tuple(lines)))
    return tables


def table_grid(table: Table) -> Grid:
    """The table's columns as text, the paper's printed values beside ours where it has the method."""
    columns: list[tuple[str, Callable[[Row], str]]] = [("method", lambda row: row.cell.label)]
    if len({row.cell.model for row in table.rows}) > 1:
        columns.append(("model", lambda row: row.cell.model))
    columns += [
        (f"RAS %{ties_text(table.ties)}", _with_stars(table, "ras")),
        ("nag_mean %", _with_stars(table, "nag_mean")),
        *_measured(table, "ras_lc", LENGTH_CONTROLLED),
        ("seeds", seeds_text),
        ("RAS %, seeds and prompts", _crossed("ras")),
        ("nag_mean %, seeds and prompts", _crossed("nag_mean")),
    ]
    first = [name for name, _ in columns].index("nag_mean %") - 1
    emphasised = {first: "ras", first + 1: "nag_mean"}
    subset = paper.subset_of(table.set)
    if subset and any(_printed(row, subset, model) for row in table.rows for model in paper.MODELS):
        columns += [(f"paper's {model}: RAS / NAG", _printed_column(subset, model)) for model in paper.MODELS]
    columns.append(("KL to base", lambda row: with_sd(row.kl, 2)))
    if any(row.alarms for row in (*table.rows, *table.controls)):
        columns.append(("alarms", lambda row: "; ".join(row.alarms)))
    if any(row.notes for row in (*table.rows, *table.controls)):
        columns.append(("notes", lambda row: "; ".join(row.notes)))
    columns += [
        ("win / tie / loss %", _win_tie_loss),
        ("nag_net %", _with_interval("nag_net", 1)),
        ("nag_win %", _with_interval("nag_win", 1)),
        ("mean reward", _with_sd("reward", 3)),
        *_measured(table, "correct", "correct %"),
        ("length", _mean("length", 1)),
        ("truncated %", _mean("truncated", 1)),
    ]
    bold = {
        (i, column)
        for i, row in enumerate(table.rows)
        for column, name in emphasised.items()
        if any((one.model, one.score, one.best) == (row.cell.model, name, row.cell.label) for one in table.comparisons)
    }
    return replace(_with_controls(columns, table), bold=frozenset(bold))


def brief_grid(table: Table) -> Grid:
    """The columns that fit a terminal."""
    several = len({row.cell.model for row in table.rows}) > 1
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("method", lambda row: f"{row.cell.model} {row.cell.label}" if several else row.cell.label),
        (f"RAS %{ties_text(table.ties)}", _with_stars(table, "ras")),
        *_measured(table, "ras_lc", LENGTH_CONTROLLED),
        ("nag_mean %", _with_sd("nag_mean", 1)),
        ("KL", lambda row: with_sd(row.kl, 2)),
        ("seeds", seeds_text),
        ("alarms and notes", lambda row: "; ".join(row.alarms + row.notes)),
    ]
    return _with_controls(columns, table)


def cross_grid(table: CrossTable) -> Grid:
    """RAS and nag_mean of every cell on every set."""
    several = len({cell.model for cell, _ in table.rows}) > 1
    header = ["method", *(["model"] if several else []), "trained on"]
    controlled = any("ras_lc" in row.scores for _, by_set in table.rows for row in by_set.values())
    names = ["ras", *(["ras_lc"] if controlled else []), "nag_mean"]
    texts = {"ras": f"RAS %{ties_text(table.ties)}", "nag_mean": "nag_mean %"}
    texts["ras_lc"] = LENGTH_CONTROLLED
    header += [f"{name}: {texts[score]}" for name in table.sets for score in names]
    bases = [(cell.model, cell.base_fingerprint) for cell, _ in table.rows if cell.objective == BASE]
    rows = []
    for cell, by_set in table.rows:
        twins = cell.objective == BASE and len({weights for model, weights in bases if model == cell.model}) > 1
        label = f"{cell.label} {cell.base_fingerprint[:8]}" if twins else cell.label
        line = [label, *([cell.model] if several else []), cell.data if cell.trained else NONE]
        for name in table.sets:
            found = by_set[name].scores if name in by_set else {}
            line += [with_interval(found.get(score), 1) for score in names]
        rows.append(tuple(line))
    return Grid(tuple(header), tuple(rows))


def frame(rows: Sequence[Row], ties: Ties) -> pd.DataFrame:
    """Everything in numbers, for tables.csv: a line per row of any table; empty where there is no value, never 0.

    `<score>`, `<score>_sd`, `_low`, `_high` are mean, sd and 95% interval; `interval` says over what (seeds, or prompts only).
    """
    lines = []
    controls = any(row.cell.control for row in rows)
    for row in rows:
        line: dict[str, object] = {
            "model": row.cell.model,
            "method": row.cell.label,
            "objective": row.cell.objective,
            "config_hash": row.cell.config_hash,
            "trained_on": row.cell.data if row.cell.trained else "",
            "set": row.set,
            "reward_source": row.reward,
            "ties": ties,
            "seeds": " ".join(map(str, row.seeds)),
            "prompts": row.prompts or None,
            "interval": next((interval.kind for interval in row.scores.values()), ""),
            "alarms": "; ".join(row.alarms),
            "notes": "; ".join(row.notes),
            **({"role": CONTROL if row.cell.control else ""} if controls else {}),
        }
        for name, interval in [*row.scores.items(), *([("kl", row.kl)] if row.kl else [])]:
            line |= {name: interval.mean, f"{name}_sd": interval.sd, f"{name}_low": interval.low, f"{name}_high": interval.high}
        for name in (name for name in COMPARED if name in row.crossed):
            interval = row.crossed[name]
            ends = {"error": interval.sd, "low": interval.low, "high": interval.high}
            line |= {f"{name}_crossed_{end}": value for end, value in ends.items()}
            line |= {f"{name}_design_effect": interval.design}
        lines.append(line)
    return pd.DataFrame(lines).convert_dtypes()


def kept_probe(run: Run) -> ProbeRecord | None:
    """The probe of the policy that was evaluated: the last one, unless the run says that it kept an earlier step's."""
    step = run.info.kept_step
    return next((probe for probe in reversed(run.probes) if step is None or probe.step == step), None)


def with_interval(interval: Interval | None, digits: int) -> str:
    """ "61.2 ± 1.1 [58.4, 64.0]" over seeds; "61.2 [58.4, 64.0]" over prompts only; "-" for none."""
    if interval is None:
        return NONE
    if math.isnan(interval.low):
        return with_sd(interval, digits)
    return f"{with_sd(interval, digits)} [{number(interval.low, digits)}, {number(interval.high, digits)}]"


def number(value: float, digits: int) -> str:
    """Rounded, and never "-0.0"."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def with_sd(interval: Interval | None, digits: int) -> str:
    """ "61.2 ± 1.1" over seeds, the mean alone otherwise; "-" for none."""
    if interval is None:
        return NONE
    return number(interval.mean, digits) + (f" ± {interval.sd:.{digits}f}" if interval.kind == "seeds" else "")


def _score(cell: Cell, cells: Sequence[Cell], key: EvalKey, ties: Ties) -> Row:
    runs = [run for run in cell.runs if run.evaluations.get(key)]
    notes = [f"seed {missing.seed} not finished: {missing.reason}" for missing in cell.missing]
    unscored = [str(run.info.seed) for run in cell.runs if not run.evaluations.get(key)]
    if unscored:
        notes.append(f"seed {', '.join(unscored)} not evaluated on {key[0]} by {key[1]}")
    bases = [base_records(cells, run, key) if cell.objective != BASE else None for run in runs]
    unknown = next((why for run in runs if (why := no_references(run.evaluations[key]))), "")
    if unknown:
        notes.append(unknown)
    elif any(without := [without_reference(run.evaluations[key]) for run in runs]):
        notes.append(f"{max(without)} prompts without a reference left out")
    elif cell.objective != BASE and None in bases:
        notes.append("its base was not evaluated here, so no NAG")
    excluded = [sum(record.excluded for record in run.evaluations[key]) / len(run.evaluations[key]) for run in runs]
    if any(excluded):
        notes.append(f"{100 * sum(excluded) / len(excluded):.1f}% of answers excluded: the judge gave no readable verdict")
    # what an alarm tells of an objective, a control was made to do
    asked = [] if cell.control else runs
    told = [alarms(run, run.evaluations[key], "/".join(key), base) for run, base in zip(asked, bases, strict=False)]
    frames = [_frame(run, run.evaluations[key], base, ties) for run, base in zip(runs, bases, strict=True)]
    notes += _group_notes(frames)
    kl = [probe.metrics["kl"] for run in runs if (probe := kept_probe(run)) and "kl" in probe.metrics]
    return Row(
        cell=cell,
        set=key[0],
        reward=key[1],
        scores=intervals(frames) if frames else {},
        kl=over_seeds(kl) if kl and cell.objective != BASE else None,
        prompts=len(frames[0]) if frames else 0,
        seeds=tuple(run.info.seed for run in runs),
        alarms=summarise(told),
        notes=tuple(notes),
        means={name: _by_seed(runs, frames, name) for name in (frames[0].columns if frames else ())},
        crossed=crossed(frames),
        frames={run.info.seed: frame for run, frame in zip(runs, frames, strict=True)},
    )


def _group_notes(frames: Sequence[pd.DataFrame]) -> list[str]:
    """A note where the seeds' RAS fall into two groups: no t interval tells the truth of those."""
    found = two_groups([float(one["ras"].mean()) for one in frames if "ras" in one])
    if found is None:
        return []
    lower, upper = (", ".join(number(value, 1) for value in group) for group in found)
    return [f"RAS in two groups of seeds: {lower} and {upper}"]


def interval_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the two kinds of intervals say, and what is known against them here."""
    clustered = [row for row in rows if "ras" in row.crossed]
    crosses = [row.crossed["ras"] for row in clustered]
    lines = []
    if crosses:
        together = any(row.crossed["ras"].clusters < row.prompts for row in clustered)
        effects = [one.design for one in crosses if together and not math.isnan(one.design)]
        counted = "each prompt by itself"
        if effects:
            clusters = max(one.clusters for one in crosses)
            effect = f"design effect {min(effects):.1f} to {max(effects):.1f}"
            counted = f"{clusters} clusters of prompts, {effect}"
        lines.append(
            'intervals beside a mean are over seeds, for this base and these prompts; "seeds and'
            f' prompts" is over other prompts too, for this base ({counted})'
        )
    few = [row.cell.label for row in rows if 1 < len(row.seeds) < MIN_SEEDS and row.cell.trained]
    if few:
        lines.append(
            f"fewer than {MIN_SEEDS} seeds ({', '.join(few)}): in no sentence; a t interval over 3"
            " seeds that fall into two groups covers 76%, not 95%"
        )
    return tuple(lines)


def _by_seed(runs: Sequence[Run], frames: Sequence[pd.DataFrame], name: str) -> dict[int, float]:
    return {run.info.seed: float(frame[name].mean()) for run, frame in zip(runs, frames, strict=True) if name in frame}


def _with_absent_seeds(rows: Sequence[Row]) -> list[Row]:
    """The rows, with a note where a cell lacks a seed that another row has and that did not fail: it was never run."""
    everywhere = {run.info.seed for row in rows if row.cell.trained for run in row.cell.runs}
    noted = []
    for row in rows:
        if not row.cell.trained:
            noted.append(row)
            continue
        known = {run.info.seed for run in row.cell.runs} | {int(lost.seed) for lost in row.cell.missing if lost.seed.isdigit()}
        absent = ", ".join(map(str, sorted(everywhere - known)))
        noted.append(replace(row, notes=(*row.notes, f"seed {absent} not run")) if absent else row)
    return noted


def _never_run(trained: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """A row without numbers for each of the paper's methods that the same model was trained by on another set alone."""
    found = []
    for model in dict.fromkeys(row.cell.model for row in trained):
        of_model = [row for row in rows if row.cell.model == model and row.cell.trained]
        elsewhere = {row.cell.objective for row in of_model} & set(paper.METHODS)
        here = {row.cell.objective for row in trained if row.cell.model == model}
        for objective in sorted(elsewhere - here):
            cell = Cell(model, trained[0].set, objective, "", objective, ())
            found.append(Row(cell, trained[0].set, trained[0].reward, {}, None, 0, (), (), ("not run",)))
    return found


def _frame(run: Run, records: Sequence[EvalRecord], base: Sequence[EvalRecord] | None, ties: Ties) -> pd.DataFrame:
    try:
        return per_prompt(records, base, ties)
    except UserError as error:
        raise UserError(f"{run.folder}: {error}") from None


def _bases(rows: Sequence[Row], trained: Sequence[Row]) -> list[Row]:
    """The base's rows that belong beside these: of the bases that they started from (by fingerprint), or all when nothing was trained.

    A base evaluated twice with the same outcome is shown once.
    """
    wanted = {row.cell.base_fingerprint for row in trained if row.cell.runs}
    kept: dict[tuple[object, ...], Row] = {}
    for row in rows:
        cell = row.cell
        if cell.objective == BASE and (not wanted or cell.base_fingerprint in wanted):
            outcome = tuple(interval.mean for interval in row.scores.values())
            kept.setdefault((cell.model, cell.base_fingerprint, row.set, outcome), row)
    return list(kept.values())


def _families(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Sets joined when one cell has rows on both."""
    families: list[set[str]] = []
    for cell in {id(row.cell): row.cell for row in rows}.values():
        sets = {row.set for row in rows if row.cell is cell}
        families = [family for family in families if not family & sets] + [sets.union(*(family for family in families if family & sets))]
    return sorted(tuple(sorted(family, key=set_order)) for family in families)


def _notes(cells: Sequence[Cell], key: EvalKey) -> tuple[str, ...]:
    """What makes a comparison unequal or worth little: reward models no better than simple rules,
    another reward in training than here, settings that differ besides the objective's own."""
    finished = [cell for cell in cells if cell.runs and cell.trained]
    beside = [cell for cell in cells if cell.runs and not cell.trained]
    asked = unequal_settings([*finished, *beside], ASKED) if beside else ()
    runs = [run for cell in finished for run in cell.runs]
    others = sorted({run.info.reward for run in runs} - {key[1]})
    lines = warnings(accuracies(runs, "/".join(key)))
    if others:
        lines.append(f"trained on the reward {', '.join(others)}, judged here by {key[1]}")
    return (*lines, *dict.fromkeys((*unequal_settings(finished), *asked)))


def unequal_settings(cells: Sequence[Cell], only: Sequence[str] = ()) -> tuple[str, ...]:
    """A line for each setting, other than the objective's own, that differs between these cells;
    `only` these and those below them, where some are given."""
    finished = [cell for cell in cells if cell.runs]
    lines = []
    for key, values in differing(finished, only).items():
        if key.split(".")[0] not in ("objective", "model", "data"):
            pairs = ", ".join(f"{cell.label} {value}" for cell, value in zip(finished, values, strict=True))
            lines.append(f"{key} differs between rows: {pairs}")
    return tuple(lines)


def ties_text(ties: Ties) -> str:
    """What to add to "RAS %" where a tie is not a loss."""
    return "" if ties == "loss" else f" (ties: {ties})"


def _grid(columns: Sequence[tuple[str, Callable[[Row], str]]], rows: Sequence[Row]) -> Grid:
    return Grid(tuple(name for name, _ in columns), tuple(tuple(text(row) for _, text in columns) for row in rows))


def _with_controls(columns: Sequence[tuple[str, Callable[[Row], str]]], table: Table) -> Grid:
    """The rows of a table, and the controls under a heading of their own."""
    grid = _grid(columns, table.rows)
    if not table.controls:
        return grid
    heading = (CONTROLS, *("" for _ in columns[1:]))
    below = _grid(columns, table.controls).rows
    rows = (*grid.rows, heading, *below)
    return replace(grid, rows=rows, headings=frozenset([len(grid.rows)]))


def _in_order(controls: Sequence[Row]) -> tuple[Row, ...]:
    """The best first; of a set without references by the mean reward."""

    def key(row: Row) -> tuple[object, ...]:
        score = row.scores.get("ras") or row.scores["reward"]
        return (row.cell.model, -score.mean, row.cell.label)

    return tuple(sorted(controls, key=key))


def _measured(table: Table, name: str, header: str) -> list[tuple[str, Callable[[Row], str]]]:
    """The column of a score that some row has."""
    known = any(name in row.scores for row in (*table.rows, *table.controls))
    return [(header, _with_interval(name, 1))] if known else []


def _with_interval(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: with_interval(row.scores.get(name), digits)


def _with_stars(table: Table, name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        stars = [one.stars(row.cell.label) for one in table.comparisons if (one.model, one.score) == (row.cell.model, name)]
        return " ".join([with_interval(row.scores.get(name), 1), *(star for star in stars if star and row.cell.objective != BASE)])

    return text


def _crossed(name: str) -> Callable[[Row], str]:
    """ "[55.1, 67.0]": over seeds and prompts."""

    def text(row: Row) -> str:
        found = row.crossed.get(name)
        return f"[{number(found.low, 1)}, {number(found.high, 1)}]" if found else NONE

    return text


def _with_sd(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: with_sd(row.scores.get(name), digits)


def _mean(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: f"{row.scores[name].mean:.{digits}f}" if row.scores else NONE


def _win_tie_loss(row: Row) -> str:
    return " / ".join(f"{row.scores[name].mean:.1f}" for name in ("win", "tie", "loss")) if "win" in row.scores else NONE


def seeds_text(row: Row) -> str:
    """How many seeds; one is labelled "prompts only"."""
    if not row.seeds:
        return NONE
    return "1 (prompts only)" if len(row.seeds) == 1 else str(len(row.seeds))


def _printed(row: Row, subset: paper.Subset, model: paper.Model) -> paper.Printed | None:
    if row.cell.first_stage or not row.cell.trained:
        return None
    settings = row.cell.config.get("objective")
    if not paper.is_printed_method(row.cell.objective, settings if isinstance(settings, dict) else {}):
        return None
    return paper.cells()[subset, model, row.cell.objective]


def _printed_column(subset: paper.Subset, model: paper.Model) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        printed = _printed(row, subset, model)
        return f"{printed.ras:.2f} / {printed.nag:.2f}" if printed else NONE

    return text
