"""Table 3: what each part of an objective is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grao_bench.reporting import paper
from grao_bench.reporting.gather.comparisons import Difference, adjust
from grao_bench.reporting.gather.families import difference_of
from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.gather.roles import installed, method_rank, ours
from grao_bench.reporting.gather.rows import Row, nearest, other_settings
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import (
    Column,
    folders,
    made_of,
    pair_of_scores,
    row_numbers,
    spread,
)
from grao_bench.reporting.tables.differences import (
    DETECTABLE,
    TESTED,
    difference_numbers,
    difference_texts,
    least_text,
    p_text,
)
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, slug, with_interval

READINGS = (
    '"without exploration" is alpha = 0, which leaves lambda A_i J(o_i) in the regulariser; "at'
    ' all" takes that out too:'
    " the paper does not say which it means"
)


@dataclass(frozen=True)
class Variant:
    """A line: an objective, whole or without a part, and the drop from the whole to it.

    row: None where it was not run. full: the rows of the whole objective.
    """

    name: str
    model: str
    row: Row | None
    full: Sequence[Row]
    whole: bool
    drop: Difference | None = None

    @property
    def relative(self) -> Interval | None:
        """The drop as a share of the whole's gain."""
        if self.row is None or self.whole:
            return None
        return _relative_drop(nearest(self.row, self.full), self.row)

    @property
    def notes(self) -> str:
        """What is missing, and what else it differs in."""
        told = self.row.notes if self.row else ("not run",)
        return "; ".join([*told, *_unlike(self.row, self.full, self.full_name)])

    @property
    def full_name(self) -> str:
        """ "full GRAO"."""
        return _full(self.full[0].cell.objective) if self.full else "the whole"


def ablations(table: Table) -> list[Sheet]:
    """Table 3, and one like it for each objective that a part was taken out of."""
    parts = [row.cell.role.of for row in table.rows if row.cell.role.kind == "ablation"]
    return [sheet for of in dict.fromkeys(parts) if (sheet := ablation(table, of))]


def ablation(table: Table, of: str) -> Sheet | None:
    """An objective without each of its parts, as the drop in nag_mean; None where none was run."""
    lines = [
        line
        for model in dict.fromkeys(row.cell.model for row in table.rows)
        for line in _variants(table, model, of)
    ]
    if not lines:
        return None
    grid, numbers = made_of(_columns(table), lines)
    printed = _full(of) in paper.ABLATION
    title = f"{of.upper()} without its parts, trained and evaluated on {table.set}"
    title += f", judged by {table.reward}"
    kind = "ablation" if of == ours(()) else f"ablation_of_{of}"
    runs = tuple(folders(line.row.cell) if line.row else () for line in lines)
    notes = (*_notes(of), *([READINGS] if printed else []))
    title = f"Table 3: {title}" if printed else title
    return Sheet(slug(f"{kind}-{table.set}-{table.reward}"), title, grid, numbers, notes, runs)


def _variants(table: Table, model: str, of: str) -> list[Variant]:
    """The lines of one model; none where no part was taken out."""
    here = [row for row in table.rows if row.cell.model == model and not row.cell.first_stage]
    full = [row for row in here if row.cell.objective == of]
    roles = dict(installed()) | {row.cell.objective: row.cell.role for row in here}
    parts = [name for name, role in roles.items() if (role.kind, role.of) == ("ablation", of)]
    parts.sort(key=lambda name: method_rank(name, roles[name]))
    found = {name: [row for row in here if row.cell.objective == name] for name in parts}
    if not any(found.values()):
        return []
    pairs = [(row, nearest(row, full)) for rows in found.values() for row in rows]
    gaps = [difference_of(other, row, "nag_mean") for row, other in pairs if other]
    drops = {one.second: one for one in adjust([one for one in gaps if one])}
    lines = [Variant(_full(of), model, row, full, True) for row in full or (None,)]
    for name, rows in found.items():
        for row in rows or (None,):
            drop = drops.get(row.cell.label) if row else None
            lines.append(Variant(roles[name].what, model, row, full, False, drop))
    return lines


def _columns(table: Table) -> list[Column[Variant]]:
    subset = paper.subset_of(table.set)

    def printed(model: paper.Model) -> Column[Variant]:
        def text(one: Variant) -> str:
            return _printed_drop(one.name, model, one.whole) if subset == "helpful" else NONE

        return Column(f"paper's {model}: NAG (drop %)", text)

    return [
        Column("variant", lambda one: one.name, lambda one: {"variant": one.name}),
        Column("model", lambda one: one.model, lambda one: {"model": one.model}),
        Column("", numbers=lambda one: row_numbers(one.row, ("nag_mean", "ras"))),
        Column("nag_mean %", lambda one: pair_of_scores(one.row)[0]),
        Column("RAS %", lambda one: pair_of_scores(one.row)[1]),
        Column(
            "drop in nag_mean",
            lambda one: difference_texts(one.drop)[0] if one.drop else NONE,
            lambda one: difference_numbers(one.drop, "drop_"),
        ),
        Column("p (adjusted)", lambda one: p_text(one.drop.p_adjusted) if one.drop else NONE),
        Column("smallest detectable", lambda one: least_text(one.drop)),
        Column(
            "relative drop %",
            lambda one: with_interval(one.relative, 1),
            lambda one: spread("relative_drop", one.relative),
        ),
        *(printed(model) for model in paper.MODELS),
        Column("method", lambda one: one.row.cell.label if one.row else NONE),
        Column("notes", lambda one: one.notes, lambda one: {"notes": one.notes}),
    ]


def _notes(of: str) -> tuple[str, ...]:
    full = _full(of)
    return (
        f"drop: {full} minus the variant, paired by seed and prompt, [simultaneous 95% interval"
        " over seeds and prompts]; the tests are the variants of one model",
        TESTED,
        DETECTABLE,
        f"relative drop: 1 - nag_mean of the variant / that of {full}, per seed; none where {full}"
        " gained nothing in one",
    )


def _full(of: str) -> str:
    return f"full {of.upper()}"


def _unlike(row: Row | None, full: Sequence[Row], name: str) -> list[str]:
    other = nearest(row, full)
    keys = other_settings(row.cell, other.cell) if row and other else []
    return [f"differs from {name} also in {', '.join(keys)}"] if keys else []


def _relative_drop(full: Row | None, variant: Row) -> Interval | None:
    """1 - variant / full in percent, per seed that both have; None where the whole gained nothing
    in one of them."""
    if full is None:
        return None
    whole, part = full.means.get("nag_mean", {}), variant.means.get("nag_mean", {})
    seeds = sorted(whole.keys() & part.keys())
    if not seeds or any(whole[seed] <= 0 for seed in seeds):
        return None
    return over_seeds([100.0 * (1.0 - part[seed] / whole[seed]) for seed in seeds])


def _printed_drop(name: str, model: paper.Model, whole: bool) -> str:
    values = paper.ABLATION.get(name)
    if values is None:
        return NONE
    drop = 100.0 * (1.0 - values[model] / paper.ABLATION["full GRAO"][model])
    return f"{values[model]:.2f}" + ("" if whole else f" ({drop:.1f})")
