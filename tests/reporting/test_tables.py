"""Rows, labels and tables from record folders: numbers by hand, hashes kept apart, strangers refused, absences shown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import find_runs, find_unfinished
from grao_bench.core.records import ProbeRecord
from grao_bench.report import main as report_main
from grao_bench.reporting.gather.families import Questions
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather, identity_of
from grao_bench.reporting.markdown import markdown
from grao_bench.reporting.tables.choice import cross_tables, main_tables
from grao_bench.reporting.tables.cross import cross_grid
from grao_bench.reporting.tables.main import frame, table_grid
from grao_bench.reporting.text import number

from .records import HARMLESS, HELPFUL, evaluation, share, write_run, write_unfinished

KEY, OTHER = (HELPFUL, "gold"), (HARMLESS, "gold")
GRAO = {"objective": {"alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs"}}


def rows_of(root):
    return score(gather(find_runs(root), find_unfinished(root)), "loss")


def line(grid, method):
    (found,) = [dict(zip(grid.header, row, strict=True)) for row in grid.rows if row[0] == method]
    return found


def test_mean_sd_and_interval_over_seeds_by_hand(tmp_path):
    write_run(tmp_path, "base", {KEY: evaluation([-1, -1, -1, 1])}, config_hash="00000000")
    for seed, verdicts in enumerate([(1, -1, -1, 1), (1, 1, -1, 1), (1, 1, 1, 1)]):  # RAS 50 75 100, nag_mean 50 100 150
        write_run(
            tmp_path,
            "grpo",
            {KEY: evaluation(verdicts)},
            seed=seed,
            probes=[ProbeRecord(0, {"kl": 0.0}), ProbeRecord(9, {"kl": 1.0 + seed})],
        )
    (table,) = main_tables(rows_of(tmp_path), "loss")
    found = line(table_grid(table), "grpo")
    assert found["RAS %"] == "75.0 ± 25.0 [9.9, 98.8]"  # on the logit scale: 1.0986 -+ 4.3027 * 0.14434 / 0.1875
    assert found["nag_mean %"] == "100.0 ± 50.0 [-54.3, 176.1]"  # of -200 .. 200, so 0.75 too: error 0.07217
    assert found["nag_net %"].startswith("50.0 ± 25.0")
    assert found["KL to base"] == "2.00 ± 1.00"
    assert found["win / tie / loss %"] == "75.0 / 0.0 / 25.0"
    assert found["seeds"] == "3"
    base = line(table_grid(table), "base")
    assert base["RAS %"].startswith("25.0 [")
    assert (base["nag_mean %"], base["seeds"]) == ("-", "1 (prompts only)")


def test_rows_are_in_the_papers_order_then_by_name(tmp_path):
    for objective in ("zeta", "grao_clip0", "sft", "base", "grao", "alpha", "dpo", "grpo", "ppo"):
        write_run(tmp_path, objective, {KEY: evaluation([1, -1])})
    (table,) = main_tables(rows_of(tmp_path), "loss")
    order = [row.cell.objective for row in table.rows]
    assert order == ["base", "sft", "dpo", "ppo", "grpo", "grao", "grao_clip0", "alpha", "zeta"]


def test_different_hashes_are_different_rows_labelled_by_what_differs(tmp_path):
    for steps, config_hash in ((100, "11111111"), (200, "22222222")):
        config = {"budget": {"steps": steps}, "seed": steps, "objective": {"kl": 0.1}}
        write_run(tmp_path, "grpo", {KEY: evaluation([1, -1])}, config_hash=config_hash, config=config)
    write_run(tmp_path, "sft", {KEY: evaluation([1, -1])}, config={"budget": {"steps": 100}})
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert [row.cell.label for row in table.rows] == ["sft", "grpo (budget.steps=100)", "grpo (budget.steps=200)"]
    assert table.notes[0] == "budget.steps differs between rows: sft 100, grpo (budget.steps=100) 100, grpo (budget.steps=200) 200"


def test_different_hashes_without_a_recorded_difference_are_labelled_by_hash(tmp_path):
    for config_hash in ("11111111", "22222222"):
        write_run(tmp_path, "grpo", {KEY: evaluation([1, -1])}, config_hash=config_hash)
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert [row.cell.label for row in table.rows] == ["grpo [11111111]", "grpo [22222222]"]


def test_a_run_whose_hash_is_of_another_version_is_read_like_any_other(tmp_path):
    for version in (0, 1, 99):
        write_run(tmp_path / str(version), "grpo", {KEY: evaluation([1, -1])}, hash_version=version)
    scores = [rows_of(tmp_path / str(version))[0].scores for version in (0, 1, 99)]
    assert scores[0] == scores[1] == scores[2]


def test_the_papers_values_stand_beside_its_methods_only(tmp_path):
    for objective in ("sft", "grao_clip0"):
        write_run(tmp_path, objective, {KEY: evaluation([1, -1])}, config=GRAO)
    write_run(tmp_path, "grao", {KEY: evaluation([1, -1])}, config=GRAO, config_hash="11111111")
    other = {"objective": GRAO["objective"] | {"beta": 0.1}}
    write_run(tmp_path, "grao", {KEY: evaluation([1, -1])}, config=other, config_hash="22222222")
    (table,) = main_tables(rows_of(tmp_path), "loss")
    column = "paper's Qwen2.5-7B: RAS / NAG"
    shown = {method: line(table_grid(table), method)[column] for method in ("sft", "grao_clip0", "grao (beta=0.5)", "grao (beta=0.1)")}
    assert list(shown.values()) == ["30.95 / 0.28", "-", "64.60 / 67.98", "-"]
    assert table.number == 1


@pytest.mark.parametrize(("kind", "what"), [("data", "data 'world_helpful'"), ("base", "the base of model 'tiny'")])
def test_other_data_or_another_base_under_one_name_is_refused(tmp_path, kind, what):
    first = write_run(tmp_path, "sft", {KEY: evaluation([1, -1])}, fingerprints={kind: "1" * 64})
    second = write_run(tmp_path, "dpo", {KEY: evaluation([1, -1])}, fingerprints={kind: "2" * 64})
    with pytest.raises(UserError) as error:
        main_tables(rows_of(tmp_path), "loss")
    for text in (str(first), str(second), what, "11111111", "22222222"):
        assert text in str(error.value)


def test_nag_is_against_the_base_with_the_same_weights(tmp_path):
    write_run(tmp_path, "base", {KEY: evaluation([-1, -1])}, model="large", fingerprints={"base": "L"})
    write_run(tmp_path, "base", {KEY: evaluation([1, 1])}, model="small", fingerprints={"base": "S"})
    write_run(tmp_path, "sft", {KEY: evaluation([1, 1])}, model="large", fingerprints={"base": "L"})
    write_run(tmp_path, "sft", {KEY: evaluation([1, 1])}, model="small", fingerprints={"base": "S"})
    (table,) = main_tables(rows_of(tmp_path), "loss")
    gains = {row.cell.model: row.scores["nag_mean"].mean for row in table.rows if row.cell.objective == "sft"}
    assert gains == {"large": 200, "small": 0}
    assert table_grid(table).header[1] == "model"


def test_a_cell_that_failed_is_a_row_with_its_reason_and_no_number(tmp_path):
    write_run(tmp_path, "sft", {KEY: evaluation([1, -1])})
    write_unfinished(tmp_path, "ppo", "RuntimeError: loss is not finite at step 7")
    rows = rows_of(tmp_path)
    (table,) = main_tables(rows, "loss")
    found = line(table_grid(table), "ppo")
    assert found["notes"] == "seed 0 not finished: RuntimeError: loss is not finite at step 7"
    assert {found[name] for name in ("RAS %", "nag_mean %", "win / tie / loss %", "mean reward", "length", "seeds")} == {"-"}
    numbers = frame(rows, "loss").set_index("method").loc["ppo"]
    assert numbers[["ras", "reward"]].isna().all()


def test_a_seed_that_failed_is_a_note_and_a_seed_that_finished_later_is_none(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "ppo", {KEY: evaluation([1, -1])}, seed=seed)
    write_unfinished(tmp_path, "ppo", "killed", seed=1)
    write_unfinished(tmp_path, "ppo", "MemoryError: too large", seed=2)
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert table.rows[0].notes == ("seed 2 not finished: MemoryError: too large", "its base was not evaluated here, so no NAG")
    assert table.rows[0].seeds == (0, 1)


def test_a_failed_second_stage_is_a_seed_of_its_own_row(tmp_path):
    def start(seed):
        return {"model": {"start_from": f"runs/tiny/{HELPFUL}/sft-aaaaaaaa/seed{seed}"}}

    for seed in (0, 1):  # each seed's first stage is a folder of its own, and so is a hash of its own
        write_run(tmp_path, "grpo", {KEY: evaluation([1, -1])}, seed=seed, config=start(seed), config_hash=f"{seed}" * 8)
    write_unfinished(tmp_path, "grpo", "killed", seed=2, config=start(2), config_hash="2" * 8)
    torn = write_unfinished(tmp_path, "dpo", "killed")
    (torn / "config.yaml").write_text("model: {start_fr")
    (table,) = main_tables(rows_of(tmp_path), "loss")
    dpo, grpo = table.rows
    assert (grpo.cell.label, grpo.seeds, grpo.notes[0]) == ("sft, then grpo", (0, 1), "seed 2 not finished: killed")
    assert (dpo.cell.label, dpo.notes) == ("dpo", ("seed 0 not finished: killed", "seed 1 not run"))


def test_a_set_where_nothing_finished_still_has_its_table(tmp_path):
    write_run(tmp_path, "base", {KEY: evaluation([1, -1]), OTHER: evaluation([1, -1])}, config_hash="00000000")
    write_run(tmp_path, "sft", {KEY: evaluation([1, -1]), OTHER: evaluation([1, -1])})
    write_unfinished(tmp_path, "sft", "stopped", data=HARMLESS)
    tables = main_tables(rows_of(tmp_path), "loss")
    assert [(table.number, [row.cell.objective for row in table.rows]) for table in tables] == [(1, ["base", "sft"]), (2, ["base", "sft"])]
    assert tables[1].rows[1].notes == ("seed 0 not finished: stopped",)


def test_several_rewards_are_several_tables_and_say_so(tmp_path):
    write_run(tmp_path, "sft", {KEY: evaluation([1, -1]), (HELPFUL, "reward_model"): evaluation([1, 1])})
    write_run(tmp_path, "dpo", {KEY: evaluation([1, -1])})
    gold, model = main_tables(rows_of(tmp_path), "loss")
    assert (gold.reward, model.reward) == ("gold", "reward_model")
    assert model.notes[0] == "trained on the reward gold, judged here by reward_model"
    assert line(table_grid(model), "dpo")["notes"] == f"seed 0 not evaluated on {HELPFUL} by reward_model"
    assert "judged by reward_model" in model.title


def test_cross_table_has_every_model_on_both_sets(tmp_path):
    write_run(tmp_path, "base", {KEY: evaluation([1, -1]), OTHER: evaluation([-1, -1])}, config_hash="00000000")
    write_run(tmp_path, "sft", {KEY: evaluation([1, 1]), OTHER: evaluation([-1, 1])})
    write_run(tmp_path, "sft", {KEY: evaluation([-1, -1]), OTHER: evaluation([1, 1])}, data=HARMLESS)
    (table,) = cross_tables(rows_of(tmp_path), "loss")
    grid = cross_grid(table)
    assert [row[:2] for row in grid.rows] == [("base", "-"), ("sft", HELPFUL), ("sft", HARMLESS)]
    assert grid.header[2:] == (f"{HELPFUL}: RAS %", f"{HELPFUL}: nag_mean %", f"{HARMLESS}: RAS %", f"{HARMLESS}: nag_mean %")
    assert [text.split(" ")[0] for text in grid.rows[2][2:]] == ["0.0", "-100.0", "100.0", "200.0"]


def test_one_configuration_and_seed_with_two_outcomes_is_refused_and_a_copy_is_counted_once(tmp_path):
    write_run(tmp_path / "a", "sft", {KEY: evaluation([1, -1])})
    write_run(tmp_path / "b", "sft", {KEY: evaluation([1, -1])})
    assert main_tables(rows_of(tmp_path), "loss")[0].rows[0].seeds == (0,)
    write_run(tmp_path / "c", "sft", {KEY: evaluation([1, 1])})
    with pytest.raises(UserError, match="same configuration and seed with different verdicts"):
        rows_of(tmp_path)


def test_two_different_evaluations_of_one_base_are_refused_unless_the_settings_decide(tmp_path):
    greedy, sampled = {"evaluation": {"temperature": 0.0}}, {"evaluation": {"temperature": 0.7}}
    write_run(tmp_path, "base", {KEY: evaluation([-1, -1])}, config_hash="00000000", config=greedy)
    write_run(tmp_path, "base", {KEY: evaluation([1, -1])}, config_hash="99999999", config=sampled)
    write_run(tmp_path, "sft", {KEY: evaluation([1, 1])}, config=sampled)
    (row,) = [row for row in rows_of(tmp_path) if row.cell.objective == "sft"]
    assert row.scores["nag_mean"].mean == 100
    write_run(tmp_path, "dpo", {KEY: evaluation([1, 1])})
    with pytest.raises(UserError, match="two different evaluations of one base"):
        rows_of(tmp_path)


def test_markdown_escapes_pipes_and_line_breaks():
    assert markdown(["a", "b"], [["x|y", "1.5"], ["two\nlines", "-2"]]).splitlines() == [
        "| a         |   b |",
        "| --------- | --: |",
        "| x\\|y      | 1.5 |",
        "| two lines |  -2 |",
    ]


def test_other_test_prompts_are_refused(tmp_path):
    for objective in ("sft", "dpo"):
        write_run(tmp_path, objective, {KEY: evaluation([1, -1])}, fingerprints={f"data/{HELPFUL}": f"test set of {objective}"})
    with pytest.raises(UserError, match=f"the test set of '{HELPFUL}' differs"):
        main_tables(rows_of(tmp_path), "loss")


def test_kl_is_that_of_the_policy_that_was_kept(tmp_path):
    probes = [ProbeRecord(step, {"kl": step / 10}) for step in (0, 10, 20)]
    folder = write_run(tmp_path, "sft", {KEY: evaluation([1, -1])}, probes=probes)
    assert rows_of(tmp_path)[0].kl.mean == 2.0
    info = (folder / "run.json").read_text()
    (folder / "run.json").write_text(info.replace('"kept_step": null', '"kept_step": 10'))
    assert rows_of(tmp_path)[0].kl.mean == 1.0


def test_a_base_asked_in_two_ways_is_two_rows_and_each_model_has_its_own(tmp_path):
    short, long = ({"budget": {"max_answer_tokens": tokens, "steps": tokens}} for tokens in (8, 64))
    write_run(tmp_path, "base", {KEY: evaluation([-1, -1])}, data="base", config_hash="00000000", config=short)
    write_run(tmp_path, "base", {KEY: evaluation([1, -1])}, data="base", config_hash="99999999", config=long)
    write_run(tmp_path, "sft", {KEY: evaluation([1, 1])}, config=short)
    write_run(tmp_path, "dpo", {KEY: evaluation([1, 1])}, config=long)
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert [row.cell.label for row in table.rows] == [
        "base (budget.max_answer_tokens=64)",
        "base (budget.max_answer_tokens=8)",
        "sft",
        "dpo",
    ]
    assert [row.scores["nag_mean"].mean for row in table.rows[2:]] == [200, 100]


def test_numbers_are_never_minus_zero():
    assert (number(-0.04, 1), number(-0.06, 1), number(2.0, 2)) == ("0.0", "-0.1", "2.00")


def write_three(root, **seeds):
    """A base, and per objective a run for each RAS of its list, seeds 0, 1, 2."""
    write_run(root, "base", {KEY: share(20)}, config_hash="00000000")
    for objective, values in seeds.items():
        for seed, value in enumerate(values):
            write_run(root, objective, {KEY: share(value)}, seed=seed)


def test_best_in_bold_and_stars_by_the_adjusted_test_against_the_method_under_study(tmp_path):
    # over seeds: grao - sft 40 41 39, grao - ppo 2 -2 3. By prompt, of 100, grao - sft has a mean of 1 on 30, 2/3 on 9, 1/3
    # on 12: of 0.4, and of its squares (30 + 4 + 12 / 9) / 100 = 106 / 300
    write_three(tmp_path, sft=(20, 30, 25), ppo=(58, 73, 61), grao=(60, 71, 64))
    (table,) = main_tables(rows_of(tmp_path), "loss")
    grid = table_grid(table)
    assert line(grid, "sft")["RAS %"].endswith("] ***")
    assert not line(grid, "ppo")["RAS %"].endswith("*")
    ras = table.comparisons[0]
    assert (ras.score, ras.best, ras.tested, ras.against) == ("ras", "grao", 2, "grao")
    assert [(one.first, one.second) for one in ras.differences] == [("grao", "sft"), ("grao", "ppo")]
    sft = ras.differences[0]
    seeds, both = sft.errors
    assert seeds == (pytest.approx(1 / math.sqrt(3)), 2.0)
    assert both[0] == pytest.approx(100 * math.sqrt((106 / 300 - 0.16) / 99))
    assert sft.p_adjusted == pytest.approx(2 * sft.p)
    assert sft.p == pytest.approx(0.000208, rel=0.01), "that over seeds alone is the larger one"
    assert grid.bold == {(3, 1), (3, 2)}
    cell = line(grid, "grao")["RAS %"]
    assert f"**{cell}**" in grid.markdown()
    notes = "\n".join(table.notes)
    assert "RAS: 2 tests (grao against each other method), adjusted together." in notes
    assert "fewer than 5 seeds (sft, ppo, grao): in no sentence" in notes
    assert "differs from grao at p < 0.05, 0.01, 0.001, over seeds and prompts, adjusted by Bonferroni" in notes
    assert "for this base (each prompt by itself)" in notes


def names(pairs):
    return [(one.cell.label, other.cell.label) for one, other in pairs]


def test_which_pairs_a_table_asks_about(tmp_path):
    write_three(tmp_path, sft=(20, 30), dpo=(21, 31), grpo=(40, 45), grao=(60, 71))
    (table,) = main_tables(rows_of(tmp_path), "loss")
    rows = [row for row in table.rows if row.cell.objective != "base"]
    pairs, words = Questions().pairs(rows)
    assert names(pairs) == [("grao", "sft"), ("grao", "dpo"), ("grao", "grpo"), ("grpo", "sft"), ("grpo", "dpo")]
    assert words == "grao and grpo against each other method"
    assert names(Questions(("dpo",)).pairs(rows)[0]) == [("dpo", "sft"), ("dpo", "grpo"), ("dpo", "grao")]
    own, words = Questions(("elsewhere",)).pairs(rows[:3])
    assert (names(own), words) == ([("sft", "dpo"), ("sft", "grpo"), ("dpo", "grpo")], "all pairs")


def test_a_map_of_settings_asks_nothing_until_told(tmp_path):
    for beta, config_hash in ((0.1, "11111111"), (0.5, "22222222")):
        for seed in (0, 1):
            run = {KEY: share(50 + 10 * beta + seed * 5 * beta)}
            write_run(tmp_path, "grao", run, seed=seed, config={"objective": {"beta": beta}}, config_hash=config_hash)
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert table.comparisons[0].differences == ()
    assert any("none: grao has several configurations here" in note for note in table.notes)
    (table,) = main_tables(rows_of(tmp_path), "loss", Questions(("grao (beta=0.1)",)))
    assert [one.second for one in table.comparisons[0].differences] == ["grao (beta=0.5)"]


def test_a_name_that_no_row_has_is_one_clear_line(tmp_path, capsys):
    write_three(tmp_path, sft=(20, 30), dpo=(21, 31))
    assert report_main([str(tmp_path), "--against", "grop"]) == 2
    assert capsys.readouterr().err == "error: --against 'grop': no such method here; there are dpo, sft\n"
    with pytest.raises(SystemExit):
        report_main([str(tmp_path), "--margin", "-1"])
    assert "-1 is not between 0 and 100 points" in capsys.readouterr().err


def test_ablations_are_asked_in_table_3_and_not_here_too(tmp_path):
    write_three(tmp_path, sft=(20, 30), grao=(60, 71), grao_no_imitation=(50, 60))
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert [one.second for one in table.comparisons[0].differences] == ["sft"]


def test_nag_over_seeds_and_prompts_carries_the_bases_own_error(tmp_path):
    """Three seeds that win everywhere: no seed differs, and nag_mean is as sure as the base's answers to 100 prompts are."""
    write_run(tmp_path, "base", {KEY: share(20)}, config_hash="00000000")
    for seed in range(3):
        write_run(tmp_path, "grao", {KEY: share(100)}, seed=seed)
    (table,) = main_tables(rows_of(tmp_path), "loss")
    row = table.rows[-1]
    assert (row.scores["nag_mean"].mean, row.scores["nag_mean"].sd) == (160, 0)
    assert row.crossed["nag_mean"].sd == pytest.approx(200 * math.sqrt(0.2 * 0.8 / 99))
    assert row.crossed["ras"].sd == 0
    assert (row.crossed["ras"].low, row.crossed["ras"].high) == pytest.approx((96.4, 100), abs=0.05)  # 0.025^(1 / 100)


def test_prompts_of_one_cluster_are_counted_as_such(tmp_path):
    """100 prompts in 10 clusters of 10, each won or lost as a whole: as sure as 10 prompts."""
    for seed in range(2):
        for name, won in (("grao", 6), ("sft", 3 + seed)):
            records = evaluation(np.repeat([1.0] * won + [-1.0] * (10 - won), 10).tolist())
            together = [replace(one, cluster=f"c{i // 10}") for i, one in enumerate(records)]
            write_run(tmp_path, name, {KEY: together}, seed=seed)
    (table,) = main_tables(rows_of(tmp_path), "loss")
    grao = table.rows[-1].crossed["ras"]
    assert (grao.clusters, grao.sd) == (10, pytest.approx(100 * math.sqrt(0.6 * 0.4 / 9)))
    assert grao.design == pytest.approx(11, rel=0.01)  # 10 * 99 / 100 * 10 / 9
    assert any("(10 clusters of prompts, design effect 11.0 to " in note for note in table.notes)


def test_one_seed_has_no_stars_and_says_so(tmp_path):
    write_three(tmp_path, sft=(20,), grao=(90,))
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert table.notes[-1].startswith("bold: the best mean. No difference is tested")
    assert "*" not in "".join(text for row in table_grid(table).rows for text in row)


def test_what_was_not_run_is_there_as_not_run(tmp_path):
    write_three(tmp_path, sft=(20, 30), grao=(60, 70, 80))
    write_run(tmp_path, "dpo", {OTHER: share(30)}, data=HARMLESS)
    write_run(tmp_path, "sft", {OTHER: share(30)}, data=HARMLESS)
    helpful, harmless = main_tables(rows_of(tmp_path), "loss")
    found = line(table_grid(helpful), "dpo")
    assert (found["RAS %"], found["seeds"], found["notes"]) == ("-", "-", "not run")
    assert line(table_grid(helpful), "sft")["notes"] == "seed 2 not run"
    assert line(table_grid(harmless), "grao")["notes"] == "not run"


def test_all_clashes_are_named_a_line_each(tmp_path):
    for objective, mark in (("sft", "1"), ("dpo", "2")):
        prints = {"data": mark * 64, "base": mark * 64, f"reward/{HELPFUL}/gold": mark * 64}
        write_run(tmp_path, objective, {KEY: evaluation([1, -1])}, fingerprints=prints)
    with pytest.raises(UserError) as error:
        main_tables(rows_of(tmp_path), "loss")
    lines = str(error.value).split("\n")
    assert len(lines) == 3
    for text, what in zip(lines, ("the base of model 'tiny'", "data 'world_helpful'", "the judge 'gold' of 'world_helpful'"), strict=True):
        assert f"{what} differs between them (fingerprints 11111111 and 22222222)" in text


def test_a_cross_table_refuses_other_prompts_of_a_set_that_nobody_trained_on(tmp_path):
    for objective, mark in (("sft", "1"), ("dpo", "2")):
        evaluations = {KEY: evaluation([1, -1]), OTHER: evaluation([1, -1])}
        write_run(tmp_path, objective, evaluations, fingerprints={f"data/{HARMLESS}": mark * 64})
    with pytest.raises(UserError, match=f"the test set of '{HARMLESS}' differs"):
        cross_tables(rows_of(tmp_path), "loss")


def test_seeds_that_start_from_seeds_are_one_row_named_by_both_stages(tmp_path):
    for seed in (0, 1):
        start = write_run(tmp_path, "sft", {KEY: share(30)}, seed=seed, config={"model": {"start_from": None}})
        config = {"model": {"start_from": str(start)}, "seed": seed, "objective": {"kl": 0.1}}
        write_run(tmp_path, "grpo", {KEY: share(50 + seed)}, seed=seed, config=config, config_hash=f"{seed}" * 8)
    write_run(tmp_path, "grpo", {KEY: share(40)}, config={"model": {"start_from": None}, "objective": {"kl": 0.1}})
    other = {"model": {"start_from": str(start)}, "objective": {"kl": 0.2}}
    write_run(tmp_path, "grpo", {KEY: share(45)}, seed=2, config=other, config_hash="cccccccc")
    (table,) = main_tables(rows_of(tmp_path), "loss")
    assert [(row.cell.label, row.seeds) for row in table.rows] == [
        ("sft", (0, 1)),
        ("grpo", (0,)),
        (f"sft, then grpo (model.start_from={start.parent.parent / 'sft-aaaaaaaa' / 'seed0'}, kl=0.1)", (0, 1)),
        (f"sft, then grpo (model.start_from={start}, kl=0.2)", (2,)),
    ]
    assert line(table_grid(table), "grpo")["paper's Qwen2.5-7B: RAS / NAG"] == "60.89 / 60.74"
    chained = table_grid(table).rows[2]
    assert "60.89 / 60.74" not in chained, "the paper's GRPO starts from the base"
    assert len({identity_of(run) for run in find_runs(tmp_path)}) == 3
