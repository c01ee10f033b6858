"""Tables 4 and 5: which prompts are chosen, who answers them, and that nothing is shown where no text was recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import find_runs
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.page.case_studies import case_studies
from grao_bench.reporting.tables.choice import main_tables

from .records import HARMLESS, HELPFUL, evaluation, write_run

KEY = (HELPFUL, "gold")


def texts(verdicts, name):
    records = evaluation(verdicts, prompt="what?", reference="this.")
    return [replace(record, answer=f"{name} on {record.example_id}") for record in records]


def tables_of(root):
    return main_tables(score(gather(find_runs(root), {}), "loss"), "loss")


@pytest.fixture
def tables(tmp_path):
    """Verdicts on p0..p3: all lose p0; the widest spread is p2's (two win, one loses), then p1's (a tie against two wins), p3's like p0."""
    write_run(tmp_path, "base", {KEY: texts([-1, 1, -1, 1], "base")}, config_hash="00000000")
    write_run(tmp_path, "sft", {KEY: texts([-1, 0, 1, 1], "sft")})
    write_run(tmp_path, "grao", {KEY: texts([-1, 1, 1, 1], "grao 0")}, seed=0)
    write_run(tmp_path, "grao", {KEY: texts([1, -1, -1, -1], "grao 1")}, seed=1)
    return tables_of(tmp_path)


def test_the_widest_spread_of_verdicts_comes_first_and_the_lowest_seed_speaks(tables):
    (study,) = case_studies(tables, "disagreement", count=2)
    assert study.title == "Table 4: case studies on world_helpful, judged by gold"
    assert [case.example_id for case in study.cases] == ["p2", "p1"]
    first = study.cases[0]
    assert (first.prompt, first.reference) == ("what?", "this.")
    assert [one.method for one in first.answers] == ["base", "sft", "grao"]
    assert [one.record.answer for one in first.answers] == ["base on p2", "sft on p2", "grao 0 on p2"]
    assert "4 prompts" in study.rule


def test_given_ids_keep_their_order_and_an_unknown_one_is_refused(tables):
    (study,) = case_studies(tables, "p3, p0")
    assert [case.example_id for case in study.cases] == ["p3", "p0"]
    with pytest.raises(UserError, match="no example 'p9'"):
        case_studies(tables, "p0,p9")


def test_random_cases_are_those_of_the_seed(tables):
    drawn = [tuple(case.example_id for case in case_studies(tables, "random", 2, seed)[0].cases) for seed in range(12)]
    assert drawn == [tuple(case.example_id for case in case_studies(tables, "random", 2, seed)[0].cases) for seed in range(12)]
    assert len(set(drawn)) > 3


def test_no_texts_no_cases(tmp_path):
    write_run(tmp_path, "sft", {KEY: evaluation([1, -1], answer="")})
    assert case_studies(tables_of(tmp_path)) == []


def test_a_prompt_that_a_method_did_not_answer_is_no_case(tmp_path):
    write_run(tmp_path, "sft", {KEY: texts([1, -1, 1], "sft")})
    write_run(tmp_path, "dpo", {KEY: texts([1, -1], "dpo")})
    (study,) = case_studies(tables_of(tmp_path), "random", 5)
    assert {case.example_id for case in study.cases} == {"p0", "p1"}


def test_a_sheet_has_a_line_for_the_prompt_the_reference_and_each_answer(tables):
    sheet = case_studies(tables, "p2")[0].sheet()
    assert [row[1] for row in sheet.grid.rows] == ["prompt", "reference", "base", "sft", "grao"]
    assert [row[2] for row in sheet.grid.rows] == ["", "", "loss", "win", "win"]
    assert list(sheet.frame["id"]) == ["p2"] * 5
    assert "p{0.6\\linewidth}" in sheet.latex()
    assert "resizebox" not in sheet.latex()


def test_harmless_is_table_5(tmp_path):
    write_run(tmp_path, "sft", {(HARMLESS, "gold"): texts([1], "sft")}, data=HARMLESS)
    assert case_studies(tables_of(tmp_path))[0].title.startswith("Table 5: ")
