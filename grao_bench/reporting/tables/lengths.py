"""How long answers are, and how much they repeat themselves."""

from __future__ import annotations

from grao_bench.reporting.gather.rows import Row
from grao_bench.reporting.tables.choice import Table
from grao_bench.reporting.tables.columns import (
    Column,
    made_of,
    measured,
    naming,
    rows_folders,
)
from grao_bench.reporting.tables.main import LENGTH_CONTROLLED, ties_text
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import slug


def lengths(table: Table) -> Sheet | None:
    """Length, RAS with length controlled, repetition, truncation."""
    titles = {
        "length": ("length", 1),
        "reference_length": ("reference's length", 1),
        "ras": (f"RAS %{ties_text(table.ties)}", 1),
        "ras_lc": (LENGTH_CONTROLLED, 1),
        "distinct_1": ("distinct-1 %", 1),
        "distinct_2": ("distinct-2 %", 1),
        "repetition": ("repetition %", 1),
        "truncated": ("truncated %", 1),
    }
    shown = {
        name: text for name, text in titles.items() if any(name in row.scores for row in table.rows)
    }
    if not shown:
        return None

    def scored(name: str) -> Column[Row]:
        title, digits = shown[name]
        return measured(title, name, lambda row: row.scores.get(name), digits)

    columns = [
        *naming(lambda row: row.cell),
        Column("", numbers=lambda row: {"seeds": len(row.seeds)}),
        *(scored(name) for name in shown),
    ]
    return Sheet(
        slug(f"lengths-{table.set}-{table.reward}"),
        f"Lengths and repetition: {table.set}, judged by {table.reward}",
        *made_of(columns, table.rows),
        (
            "length controlled: the share won if every answer were as long as its reference, from"
            " a logistic regression of the win on tanh(length difference / its sd), as AlpacaEval"
            " 2 LC without its term for the prompt's difficulty",
            "distinct-n: different words (pairs) within an answer; repetition: its 4-grams that"
            " came before",
        ),
        rows_folders(table.rows),
    )
