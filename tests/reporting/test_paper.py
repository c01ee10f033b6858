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


def test_which_claims_the_tables_confirm_and_which_not():
    verdicts = {claim.claim: claim.verdict for claim in paper.claims()}
    broken = {claim for claim, verdict in verdicts.items() if verdict == "does NOT match"}
    assert broken == {
        "GRAO over PPO, %",
        "GRAO over GRPO, %",
        "the largest drop",
        "share of full NAG without the regulariser, Qwen2.5-7B, %",
        "NAG of GRAO over GRPO, Moonlight-16B, harmless, with the two rows swapped as the abstract needs them",
    }
    assert {claim for claim, verdict in verdicts.items() if verdict == "impossible as printed"} == {
        "NAG of SFT, Moonlight-16B, helpful: a share of prompts",
        "NAG of GRAO, Qwen2.5-7B, helpful: at most its RAS",
    }
    assert sum(verdict == "can't be checked" for verdict in verdicts.values()) == 3
    assert len(verdicts) == 22


@pytest.mark.parametrize(
    ("subset", "model", "slope", "r_squared", "base"),
    [
        ("helpful", "Qwen2.5-7B", 2.01, 0.99997, 30.7),
        ("helpful", "Moonlight-16B", 2.05, 0.998, 43.7),
        ("harmless", "Qwen2.5-7B", 1.845, 0.964, 51.3),
        ("harmless", "Moonlight-16B", 2.08, 0.983, 60.6),
    ],
)
def test_printed_nag_is_twice_the_gain_in_ras(subset, model, slope, r_squared, base):
    line = paper.nag_line(subset, model)
    assert line.slope == pytest.approx(slope, abs=0.0051)
    assert line.r_squared == pytest.approx(r_squared, abs=0.0006)
    assert line.base == pytest.approx(base, abs=0.051)
    assert abs(line.slope - 2) < line.half


def test_the_slopes_interval_by_hand():
    """Moonlight on helpful: Sxx 489.6127, slope 2.0450, residual sum of squares 3.2386 on 3 degrees of freedom; t(0.975, 3) = 3.18245."""
    ras = [43.45, 56.24, 64.37, 68.89, 70.84]
    nag = [-1.64, 26.20, 40.35, 50.82, 55.06]
    mean, average = sum(ras) / 5, sum(nag) / 5
    sxx = sum((x - mean) ** 2 for x in ras)
    slope = sum((x - mean) * (y - average) for x, y in zip(ras, nag, strict=True)) / sxx
    squares = sum((y - average - slope * (x - mean)) ** 2 for x, y in zip(ras, nag, strict=True))
    assert paper.nag_line("helpful", "Moonlight-16B").half == pytest.approx(3.182446 * (squares / 3 / sxx) ** 0.5, rel=1e-6)


def test_what_the_swap_does_to_the_gain_on_the_mixture_of_experts():
    assert paper.moe_gain(paper.cells()) == pytest.approx(22.74)
    assert paper.moe_gain(paper.swapped()) == pytest.approx(14.69)


def test_without_the_regulariser_90_percent_are_left_not_89():
    assert paper.share_kept("without alignment regulariser", "Qwen2.5-7B") == pytest.approx(90.0, abs=0.01)


def test_every_cell_of_tables_1_and_2_is_there_once():
    assert len(paper.cells()) == len(paper.PRINTED) == 2 * 2 * 5


def test_the_printed_text_shows_tables_claims_and_verdicts():
    text = paper.render()
    for value in (
        "64.60 ± 0.5",
        "-1.64 ± 1.0",
        "57.733",
        "17.674",
        "6.824",
        "6.355",
        "7.973",
        "5.206",
        "12.82%",
        "does NOT match",
        "+14.690",
        "0.99997",
        "89.997",
    ):
        assert value in text


def test_only_eq_3_as_printed_is_the_papers_grao():
    printed = {"alpha": 1, "beta": 0.5, "lam": 0.6, "group": "outputs"}
    assert paper.is_printed_method("grao", printed)
    assert not paper.is_printed_method("grao", printed | {"beta": 0.3})
    assert not paper.is_printed_method("grao", printed | {"equation": "clip0"})
    assert paper.is_printed_method("grao", printed | {"equation": "printed"})
    assert not paper.is_printed_method("grao_clip0", printed)
    assert paper.is_printed_method("grpo", {"group_size": 4})
    assert not paper.is_printed_method("base", {})
