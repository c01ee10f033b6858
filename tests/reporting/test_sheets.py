"""Grids as Markdown and LaTeX: what is escaped, what is emphasised, what is absent."""

from __future__ import annotations

import pandas as pd

from grao_bench.reporting.tables.sheets import Grid, Sheet, grid_of

GRID = Grid(("method_1", "RAS %"), (("a & b", "61.2 ± 1.1 [58.4, 64.0] **"), ("{c}|d", "-")), frozenset({(0, 1)}))


def test_latex_has_booktabs_rules_and_escapes_every_text():
    text = GRID.latex("50% of #1", "tab:x")
    assert [rule for rule in ("\\toprule", "\\midrule", "\\bottomrule") if text.count(rule) != 1] == []
    assert "method\\_1 & RAS \\% \\\\" in text
    assert "a \\& b & \\textbf{61.2 $\\pm$ 1.1 [58.4, 64.0] $^{**}$} \\\\" in text
    assert "\\{c\\}|d & -- \\\\" in text
    assert "\\caption{50\\% of \\#1}" in text
    assert "\\label{tab:x}" in text
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


def test_markdown_escapes_stars_and_marks_the_best():
    assert GRID.markdown().splitlines()[2] == "| a & b    | **61.2 ± 1.1 [58.4, 64.0] \\*\\*** |"


def test_a_sheet_is_its_title_table_notes_and_numbers():
    sheet = Sheet("x", "Title", grid_of(["a"], [["1"]]), pd.DataFrame({"a": [1.23456789, None]}), ("one", "two"))
    assert sheet.markdown() == "## Title\n\n| a   |\n| --- |\n| 1   |\n\n- one\n- two"
    assert sheet.csv() == 'a\n1.23457\n""\n'
    assert "\\caption{Title. one. two}" in sheet.latex()
