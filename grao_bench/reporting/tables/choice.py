"""Which rows stand in which table, and what is said under it.

A row is one configuration (one hash) evaluated on one set by one reward. What did not finish is
a row with its reason, never a 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from grao_bench.reporting import paper
from grao_bench.reporting.gather.cells import Cell, EvalKey
from grao_bench.reporting.gather.comparable import check_comparable
from grao_bench.reporting.gather.families import Comparison, Questions, compare, statistics_notes
from grao_bench.reporting.gather.intervals import MIN_SEEDS
from grao_bench.reporting.gather.order import cell_order, set_order
from grao_bench.reporting.gather.reward_models import accuracies, warnings
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.gather.scores import Ties
from grao_bench.reporting.gather.settings import ASKED, unequal_settings


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
    """Every model on every set of a family, whichever it was trained on. `rows` pair a cell with
    its row on each set that it has."""

    sets: tuple[str, ...]
    reward: str
    ties: Ties
    rows: tuple[tuple[Cell, dict[str, Row]], ...]

    @property
    def title(self) -> str:
        """Names the judge and the sets."""
        return f"Every model on every set ({', '.join(self.sets)}), judged by {self.reward}"


def main_tables(rows: Sequence[Row], ties: Ties, questions: Questions | None = None) -> list[Table]:
    """A table per (set, reward): what was trained on the set, with its base. The paper's sets
    first, in its order.

    Raises UserError when rows of one table were trained on different data, or from different bases,
    of the same name.
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
    """A table per reward and family: the sets that some model was evaluated on together. A family
    of one set has none."""
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


def _with_absent_seeds(rows: Sequence[Row]) -> list[Row]:
    """The rows, with a note where a cell lacks a seed that another row has and that did not fail:
    it was never run."""
    everywhere = {run.info.seed for row in rows if row.cell.trained for run in row.cell.runs}
    noted = []
    for row in rows:
        if not row.cell.trained:
            noted.append(row)
            continue
        known = {run.info.seed for run in row.cell.runs} | {
            int(lost.seed) for lost in row.cell.missing if lost.seed.isdigit()
        }
        absent = ", ".join(map(str, sorted(everywhere - known)))
        noted.append(replace(row, notes=(*row.notes, f"seed {absent} not run")) if absent else row)
    return noted


def _never_run(trained: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """A row without numbers for each baseline, and for ours, that the same model was trained by on
    another set alone."""
    found = []
    for model in dict.fromkeys(row.cell.model for row in trained):
        of_model = [row for row in rows if row.cell.model == model and row.cell.trained]
        elsewhere = {
            row.cell.objective for row in of_model if row.cell.role.kind in ("baseline", "ours")
        }
        here = {row.cell.objective for row in trained if row.cell.model == model}
        for objective in sorted(elsewhere - here):
            cell = Cell(model, trained[0].set, objective, "", objective, ())
            found.append(
                Row(cell, trained[0].set, trained[0].reward, {}, None, 0, (), (), ("not run",))
            )
    return found


def _bases(rows: Sequence[Row], trained: Sequence[Row]) -> list[Row]:
    """The base's rows that belong beside these: of the bases that they started from (by
    fingerprint), or all when nothing was trained.

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
        families = [family for family in families if not family & sets] + [
            sets.union(*(family for family in families if family & sets))
        ]
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


def _in_order(controls: Sequence[Row]) -> tuple[Row, ...]:
    """The best first; of a set without references by the mean reward."""

    def key(row: Row) -> tuple[object, ...]:
        score = row.scores.get("ras") or row.scores["reward"]
        return (row.cell.model, -score.mean, row.cell.label)

    return tuple(sorted(controls, key=key))
