"""A table that is ready to be written: as text for Markdown, LaTeX, the terminal and the page, and
as numbers for CSV."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from grao_bench.reporting.markdown import markdown
from grao_bench.reporting.text import NONE

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "<": r"$<$",
    ">": r"$>$",
    "*": "$^{*}$",
}


@dataclass(frozen=True)
class Grid:
    """A table as text. `bold` holds the (row, column) of cells to emphasise, both from 0, the
    header not counted."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    prose: frozenset[int] = frozenset()
    """Columns of running text, which LaTeX breaks into lines."""
    headings: frozenset[int] = frozenset()
    """Rows that only say what stands below them: a rule goes above each."""

    def markdown(self) -> str:
        """As a Markdown table."""
        return markdown(self.header, self.rows, self.bold)

    def latex(self, caption: str, label: str) -> str:
        """As a LaTeX table environment for the packages booktabs and graphicx; every text is
        escaped, an absent value is an en dash."""
        texts = [
            [
                rf"\textbf{{{tex(text)}}}"
                if (i, j) in self.bold
                else "--"
                if text == NONE
                else tex(text)
                for j, text in enumerate(row)
            ]
            for i, row in enumerate(self.rows)
        ]
        frame = pd.DataFrame(texts, columns=pd.Index([tex(name) for name in self.header]))
        columns = "".join(
            "p{0.6\\linewidth}" if i in self.prose else "r" if i and not self.prose else "l"
            for i in range(len(self.header))
        )
        text: str = frame.to_latex(
            index=False,
            escape=False,
            column_format=columns,
            caption=tex(caption),
            label=label,
            position="t",
        )
        text = _with_rules(text, self.headings)
        if self.prose:
            return text
        # as wide as the page at most, whatever the columns
        start, end = r"\begin{tabular}", r"\end{tabular}"
        return text.replace(
            start, rf"\resizebox{{\ifdim\width>\textwidth\textwidth\else\width\fi}}{{!}}{{{start}"
        ).replace(end, f"{end}}}")


def _with_rules(latex: str, rows: Collection[int]) -> str:
    """A rule above each of these rows of a booktabs table."""
    lines = latex.split("\n")
    first = lines.index(r"\midrule") + 1 if rows else 0
    for row in sorted(rows, reverse=True):
        lines.insert(first + row, r"\midrule")
    return "\n".join(lines)


@dataclass(frozen=True)
class Sheet:
    """A table with its name (for files), title, lines to stand under it, and its numbers (a line
    per row; empty where there is none).

    runs: for each row of the grid, the run folders behind it; empty where that is not known.
    """

    name: str
    title: str
    grid: Grid
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    runs: tuple[tuple[Path, ...], ...] = ()

    def markdown(self) -> str:
        """The title, the table and its notes."""
        parts = [
            f"## {self.title}",
            self.grid.markdown(),
            *(["\n".join(f"- {line}" for line in self.notes)] if self.notes else []),
        ]
        return "\n\n".join(parts)

    def latex(self) -> str:
        """The table, its notes after the title in the caption."""
        caption = ". ".join([self.title, *self.notes])
        return "% \\usepackage{booktabs,graphicx}\n" + self.grid.latex(caption, f"tab:{self.name}")

    def csv(self) -> str:
        """The numbers."""
        text: str = self.frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        return text


def grid_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """A grid without emphasis."""
    return Grid(tuple(columns), tuple(tuple(row) for row in rows))


def tex(text: str) -> str:
    """A text for LaTeX, escaped sign by sign; stars in a row become one superscript."""
    escaped = "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
    return re.sub(
        r"(?:\$\^\{\*\}\$)+", lambda found: "$^{" + "*" * found.group().count("*") + "}$", escaped
    )
