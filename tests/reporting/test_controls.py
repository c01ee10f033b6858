"""Control rows stand below the objectives under a heading, and nothing is compared with them."""

from __future__ import annotations

from dataclasses import replace

from grao_bench.core.record_files import find_runs, read_info, write_info
from grao_bench.report import build_report
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.page.headline import findings
from grao_bench.reporting.tables.choice import cross_tables, main_tables
from grao_bench.reporting.tables.main import CONTROLS, brief_grid, main_sheet
from grao_bench.reporting.tables.sheets import Grid

from .records import HELPFUL, share, write_run

KEY = (HELPFUL, "gold")


def write_control(root, objective, percent, *, config=None, **others):
    """A run's folder whose run.json says that it is a control."""
    folder = write_run(root, objective, {KEY: share(percent)}, config=config, **others)
    write_info(folder, replace(read_info(folder), role="control"))
    return folder


def sweep(root):
    """A base, two objectives of two seeds, and three controls, the best of which beats both."""
    write_run(root, "base", {KEY: share(20)}, config_hash="00000000")
    for seed, (sft, grpo) in enumerate([(30, 50), (34, 52)]):
        write_run(root, "sft", {KEY: share(sft)}, seed=seed, config={"budget": {"steps": 100}})
        write_run(root, "grpo", {KEY: share(grpo)}, seed=seed, config_hash="bbbbbbbb")
    for name, percent, label in (("empty", 0, "empty"), ("oracle", 97, "the oracle")):
        config = {"objective": None, "control": {"label": label}}
        write_control(root, name, percent, config=config, config_hash=f"{name}0000")
    saturated = {"objective": {"name": "sft"}, "budget": {"steps": 2000}}
    write_control(root, "sft", 40, config=saturated, config_hash="cccccccc")
    return root


def test_below_a_heading_the_best_first_and_labelled_by_what_they_are(tmp_path):
    (table,) = main_tables(score(gather(find_runs(sweep(tmp_path)), {}), "loss"), "loss")
    sheet = main_sheet(table)
    names = [row[0] for row in sheet.grid.rows]
    assert names == ["base", "sft", "grpo", CONTROLS, "the oracle", "sft, 2000 steps", "empty"]
    assert sheet.grid.headings == {3}
    assert len(sheet.runs) == len(names)
    assert sheet.runs[3] == ()
    assert [folder.parent.name for folder in sheet.runs[4]] == ["oracle-oracle00"]
    assert sheet.grid.rows[4][1].startswith("97.0")
    assert list(sheet.frame["role"]) == ["", "", "", "control", "control", "control"]
    assert [row[0] for row in brief_grid(table).rows] == names


def test_in_no_comparison_and_no_headline(tmp_path):
    scored = score(gather(find_runs(sweep(tmp_path)), {}), "loss")
    (with_controls,) = main_tables(scored, "loss")
    (without,) = main_tables([row for row in scored if not row.cell.control], "loss")
    assert with_controls.comparisons == without.comparisons
    assert with_controls.comparisons
    assert with_controls.notes == without.notes
    assert findings([with_controls]) == findings([without])
    assert cross_tables([row for row in scored if not row.cell.control], "loss") == []


def test_the_report_draws_a_rule_and_keeps_controls_out_of_the_rest(tmp_path):
    sweep(tmp_path)
    report = build_report(tmp_path)
    text = report.tables.read_text(encoding="utf-8")
    assert text.index("| grpo ") < text.index(f"| {CONTROLS}") < text.index("| the oracle ")
    assert CONTROLS in report.brief
    (latex,) = (tmp_path / "report" / "tables").glob("main-*.tex")
    lines = latex.read_text(encoding="utf-8").splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith(CONTROLS))
    assert lines[heading - 1] == r"\midrule"
    page = report.page.read_text(encoding="utf-8")
    assert '<tr class="heading">' in page
    for path in (tmp_path / "report" / "tables").glob("*.csv"):
        told = "oracle" in path.read_text(encoding="utf-8")
        assert told == path.name.startswith("main-"), path


def test_a_folder_without_controls_has_no_heading_and_no_column(tmp_path):
    write_run(tmp_path, "sft", {KEY: share(30)})
    (table,) = main_tables(score(gather(find_runs(tmp_path), {}), "loss"), "loss")
    sheet = main_sheet(table)
    assert sheet.grid.headings == frozenset()
    assert "role" not in sheet.frame


def test_rules_stand_above_their_rows_in_latex():
    grid = Grid(("a", "b"), (("1", "2"), ("below:", ""), ("3", "4")), headings=frozenset([1]))
    lines = grid.latex("t", "l").splitlines()
    at = [i for i, line in enumerate(lines) if line == r"\midrule"]
    assert [lines[i + 1].split(" ")[0] for i in at] == ["1", "below:"]
