"""The paper's headline and Table 3 recomputed from its printed cells: golden values, worked with a calculator."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from grao_bench.reporting import paper, paper_claims

ROOT = Path(__file__).parents[2]
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


def verdicts(wanted):
    return {one.claim for one in paper_claims.claims() if one.verdict == wanted}


def test_which_claims_the_tables_confirm_and_which_not():
    line = "NAG holds 2 (RAS - RAS_base),"
    assert verdicts("does NOT match") == {
        "GRAO over PPO, %",
        "GRAO over GRPO, %",
        "the largest drop",
        "share of full NAG without the regulariser, Qwen2.5-7B, %",
        "NAG of GRAO over GRPO, Moonlight-16B, harmless, with the two rows swapped as the abstract needs them",
        f"{line} Qwen2.5-7B, harmless, without SFT's row",
    }
    assert verdicts("impossible as printed") == {"NAG of SFT, Moonlight-16B, helpful: a share of prompts"}
    assert verdicts("possible only with ties") == {"NAG of GRAO, Qwen2.5-7B, helpful: at most its RAS"}
    assert verdicts("weak evidence") == {
        f"{line} Qwen2.5-7B, harmless",
        f"{line} Moonlight-16B, harmless",
        f"{line} Moonlight-16B, harmless, without SFT's row",
    }
    assert len({one.claim for one in paper_claims.claims()}) == len(paper_claims.claims()) == 25


def shares(rows):
    """RAS and NAG as the paper defines them, percent, of (share, R before, R after)."""
    assert sum(share for share, _, _ in rows) == pytest.approx(100)
    ras = sum(share for share, _, after in rows if after > 0)
    nag = sum(share for share, before, after in rows if after > before)
    return ras, nag


def test_nag_above_ras_takes_exactly_the_prompts_that_go_from_loss_to_tie():
    """67.98 above 64.60: a population with 3.38% of them has both numbers; with fewer, the base's
    wins that stay wins would have to be a negative share."""
    cell = paper.cells()["helpful", "Qwen2.5-7B", "grao"]
    assert paper.from_loss_to_tie(cell) == pytest.approx(3.38)
    # 64.60 loss to win, 3.38 loss to tie, the base's 30.67 wins all lost, 1.35 lost as before
    rows = [(64.60, -1, 1), (3.38, -1, 0), (30.67, 1, -1), (1.35, -1, -1)]
    assert shares(rows) == (pytest.approx(64.60), pytest.approx(67.98))
    # and with all of the base's wins kept: 34.05 from loss to tie
    rows = [(33.93, -1, 1), (34.05, -1, 0), (30.67, 1, 1), (1.35, -1, -1)]
    assert shares(rows) == (pytest.approx(64.60), pytest.approx(67.98))
    other = paper.cells()["helpful", "Qwen2.5-7B", "grpo"]
    assert paper.from_loss_to_tie(other) == 0


def test_what_sfts_row_says_of_the_base():
    """SFT bettered 0.28% and wins 30.95%: 30.67 at least had won before. A win can't get better."""
    cell = paper.cells()["helpful", "Qwen2.5-7B", "grao"]
    assert paper.base_wins("helpful", "Qwen2.5-7B") == pytest.approx(30.67)
    assert paper.not_bettered(cell) == pytest.approx(100 - 30.67 - 67.98)
    # Moonlight's SFT has a negative NAG, which bounds nothing: DPO's 56.24 - 26.20 does
    assert paper.base_wins("helpful", "Moonlight-16B") == pytest.approx(30.04)


def test_by_how_much_the_ties_differ_if_nag_is_a_mean():
    """NAG - 2 RAS by hand, Qwen2.5-7B: helpful -61.62, -61.38, -61.47, -61.04, -61.22; harmless
    -102.25, -98.40, -104.43, -102.96, -104.96."""
    assert paper.ties_apart("helpful", "Qwen2.5-7B") == pytest.approx(0.58)
    assert paper.ties_apart("harmless", "Qwen2.5-7B") == pytest.approx(6.56)


def test_without_sft_the_weak_slope_is_not_2():
    """RAS 61.86, 66.11, 65.61, 68.01 (mean 65.3975), NAG 25.32, 27.79, 28.26, 31.06 (28.1075):
    Sxx 19.89188, Sxy 17.38038, Syy 16.61148; t(0.975, 2) = 4.30265."""
    line = paper.nag_line("harmless", "Qwen2.5-7B", without="sft")
    slope = 17.38038 / 19.89188
    left = 16.61148 - slope * 17.38038
    assert line.slope == pytest.approx(slope, abs=1e-4)
    assert line.half == pytest.approx(4.30265 * (left / 2 / 19.89188) ** 0.5, abs=1e-3)
    assert line.slope + line.half < 2


def test_one_slope_for_the_four_blocks():
    """By least squares with an intercept for each block, as numpy solves it."""
    x = np.array([[cell.ras] for cell in paper.PRINTED])
    of = [(cell.subset, cell.model) for cell in paper.PRINTED]
    blocks = np.array([[float(one == other) for other in dict.fromkeys(of)] for one in of])
    y = np.array([cell.nag for cell in paper.PRINTED])
    design = np.hstack([x, blocks])
    found, (left,), *_ = np.linalg.lstsq(design, y, rcond=None)
    error = (left / 15 * np.linalg.inv(design.T @ design)[0, 0]) ** 0.5
    slope, half = paper.common_slope()
    assert slope == pytest.approx(found[0])
    assert half == pytest.approx(2.13145 * error, rel=1e-5)  # t(0.975, 15)


def test_where_the_papers_group_size_meets_its_condition():
    """G = 8: p (1 - p) >= 1/8 from (1 - sqrt(1/2)) / 2 on; G = 4: at one half alone."""
    assert paper_claims.signal_range(8) == pytest.approx((14.6447, 85.3553), abs=1e-4)
    assert paper_claims.signal_range(4) == (50, 50)
    with pytest.raises(ValueError, match="at least 4"):
        paper_claims.signal_range(3)


def test_every_open_claim_says_what_would_refute_it_and_what_measures_it():
    found = {one.claim: one for one in paper_claims.open_claims()}
    wanted = {"GRPO's ± 9.6%", "PPO plateaus", "condition on G", "sample efficiency", "convergence"}
    assert wanted < set(found)
    for one in found.values():
        sweeps = re.findall(r"\+sweeps=(\w+)", one.here)
        tables = re.findall(r"table (\w+)", one.here)
        assert sweeps or tables or "not measurable here" in one.here, one
        assert all((ROOT / "sweeps" / f"{name}.yaml").exists() for name in sweeps), one
        assert set(tables) <= {"steps_to_best", "late_training", "probes", "cost"}, one


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
    text = paper_claims.render()
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
