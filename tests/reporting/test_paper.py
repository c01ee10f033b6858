"""The paper's headline and Table 3 recomputed from its printed cells: golden values, worked with a calculator."""

from __future__ import annotations

import pytest

from grao_bench.reporting import paper

GOLDEN = {"sft": 57.73, "dpo": 17.67, "ppo": 6.82, "grpo": 6.35}


@pytest.mark.parametrize(("method", "value"), GOLDEN.items())
def test_headline_from_the_printed_cells(method, value):
    assert paper.headline(paper.cells(), method) == pytest.approx(value, abs=0.005)


@pytest.mark.parametrize(("method", "value"), [("sft", 57.73), ("dpo", 17.67), ("ppo", 7.973), ("grpo", 5.206)])
def test_headline_with_the_two_rows_swapped(method, value):
    assert paper.headline(paper.swapped(), method) == pytest.approx(value, abs=0.004)


def test_swapping_moves_two_cells_and_nothing_else():
    before, after = paper.cells(), paper.swapped()
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {("harmless", "Moonlight-16B", "ppo"), ("harmless", "Moonlight-16B", "grpo")}
    assert after["harmless", "Moonlight-16B", "grpo"].ras == 70.97
    assert after["harmless", "Moonlight-16B", "grpo"].method == "grpo"


@pytest.mark.parametrize(
    ("variant", "drop"), [("without imitation", 7.79), ("without exploration", 12.82), ("without alignment regulariser", 12.99)]
)
def test_last_column_of_table_3(variant, drop):
    assert paper.relative_drop(variant) == pytest.approx(drop, abs=0.006)


def test_only_the_unswapped_ppo_and_grpo_claims_fail():
    assert [claim.claim for claim in paper.CLAIMS if not claim.holds] == ["GRAO over PPO", "GRAO over GRPO"]


def test_every_cell_of_tables_1_and_2_is_there_once():
    assert len(paper.cells()) == len(paper.PRINTED) == 2 * 2 * 5


def test_the_printed_text_shows_tables_claims_and_verdicts():
    text = paper.render()
    for value in ("64.60 ± 0.5", "-1.64 ± 1.0", "57.733", "17.674", "6.824", "6.355", "7.973", "5.206", "12.82%", "does NOT match"):
        assert value in text


def test_only_eq_3_as_printed_is_the_papers_grao():
    printed = {"alpha": 1, "beta": 0.5, "lam": 0.6, "group": "outputs"}
    assert paper.is_printed_method("grao", printed)
    assert not paper.is_printed_method("grao", printed | {"beta": 0.3})
    assert not paper.is_printed_method("grao_clip0", printed)
    assert paper.is_printed_method("grpo", {"group_size": 4})
    assert not paper.is_printed_method("base", {})
